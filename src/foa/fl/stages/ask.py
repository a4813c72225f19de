"""TRAIN, on its way out: the strategy's message with the terms for one client beside it. Needs the extra `fl`."""

from collections.abc import Sequence
from dataclasses import replace

from flwr.app import ConfigRecord, Message

from foa.fl.aggregate import cut
from foa.fl.contents import arrays_of, put_arrays
from foa.fl.flower import pack, unpack
from foa.fl.guardian import TrainAsk
from foa.fl.narrow import put_hidden
from foa.fl.negotiation import asked_for
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.terms import RECORD, write_ask
from foa.fl.traffic import device_share


def asks(messages: Sequence[Message], cohort: Cohort, settings: AgenticSettings) -> list[Message]:
    """What goes out in place of the strategy's messages: a copy each, with its own terms and its own part of the model.

    Those with whom there is no agreement are left out.
    """
    going = [message for message in messages if cohort.asks(cohort.name(message.metadata.dst_node_id))]
    return [_with_ask(message, cohort, settings) for message in going]


def _with_ask(message: Message, cohort: Cohort, settings: AgenticSettings) -> Message:
    node = message.metadata.dst_node_id
    ask = ask_for(cohort, settings, node)
    if (agreed := cohort.agreed(cohort.name(node))) is not None:
        ask = asked_for(ask, agreed)
    # the strategy shares one record among its messages: each gets its own
    own = unpack(pack(message))
    ask = replace(ask, share=_share(ask, own, cohort))
    if settings.hidden is not None and ask.terms.width < 1:
        put_arrays(own, cut(arrays_of(own), ask.terms.width, settings.hidden))
    if settings.hidden is not None:
        put_hidden(own, settings.hidden)
    for config in own.content.config_records.values():
        if "server-round" in config:
            # Flower counts from 1 again after a resume; the run does not
            config["server-round"] = ask.round
    own.content[RECORD] = ConfigRecord(write_ask(ask))  # type: ignore[arg-type]
    return own


def _share(ask: TrainAsk, message: Message, cohort: Cohort) -> float:
    """Of the update: the plan's, or less where the client says that its line is thin."""
    block = cohort.profiles.get(message.metadata.dst_node_id)
    if block is None or ask.secure_aggregation:
        return ask.share
    return device_share(
        ask.share,
        cohort.choice.shares,
        values=sum(array.size for array in arrays_of(message).values()),
        bytes_a_second=block.bytes_a_second,
        deadline_seconds=ask.deadline_seconds,
    )


def ask_for(cohort: Cohort, settings: AgenticSettings, node: int) -> TrainAsk:
    """What the plan asks of one client, before anything is negotiated."""
    terms, block, plan = settings.terms, cohort.profiles.get(node), cohort.choice.plan
    width = terms.width if block is None else min(terms.width, block.width)
    return TrainAsk(
        run=settings.run,
        round=cohort.round,
        purpose=settings.purpose,
        terms=replace(terms, width=width, noise_multiplier=max(terms.noise_multiplier, plan.noise_floor)),
        deadline_seconds=plan.deadline_seconds,
        cohort=cohort.size,
        rounds=settings.rounds,
        secure_aggregation=settings.secure_aggregation,
        share=1.0 if settings.secure_aggregation else plan.share,
        policies=settings.policies,
    )
