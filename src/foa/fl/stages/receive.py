"""TRAIN, on its way back: replies are screened, aggregated, credited, and only what may count reaches the strategy.

replies ─► told records ─► unpacked updates, capped ─► sift ─► rows, and what the strategy sees
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Message

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays, Update, capped
from foa.fl.contents import (
    arrays_of,
    build_of,
    first_metrics,
    keep_common_metrics,
    metric,
    put_arrays,
    size_of,
)
from foa.fl.flower import REFUSED
from foa.fl.narrow import narrowed
from foa.fl.packing import is_packed, open_reply
from foa.fl.rounds import ClientRow
from foa.fl.sift import Sifted, Validate, shares, sift
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.terms import RECORD, Told, read_ask, read_told
from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What came of a round."""

    messages: Sequence[Message]  #: what the strategy may see
    rows: tuple[ClientRow, ...]  #: a row for each client that was asked
    losses: Mapping[AgentId, float | None]  #: of the model it was given, as each client says
    sifted: Sifted
    bytes_out: int = 0  #: of the messages to clients
    claimed: Mapping[AgentId, int] = field(default_factory=dict[AgentId, int])  #: records, before they were capped


def receive(
    sent: Sequence[Message],
    asked: Sequence[Message],
    replies: Sequence[Message],
    cohort: Cohort,
    settings: AgenticSettings,
    *,
    losses: Sequence[float],
    validate: Validate | None,
) -> Received:
    """Take a round's replies.

    Args:
        sent: the strategy's own messages, before terms were added.
        asked: what went out in their place.
        replies: that came in time.
        cohort: of the round.
        settings: of the run.
        losses: of the models that were taken before, oldest first.
        validate: loss on the server's data; None: nothing is rolled back or credited.
    """
    known = {client: reply for reply in replies if (client := cohort.name(reply.metadata.src_node_id)) is not None}
    sizes = {client: size_of(reply) for client, reply in known.items()}
    told = {client: take_told(reply) for client, reply in known.items() if not reply.has_error()}
    # before metrics that not all have are taken away
    heard = {client: metric(known[client], settings.loss_key) for client in told}
    base = arrays_of(sent[0]) if sent else {}
    updates, unusable = _updates(known, told, asked, cohort, settings)
    sifted = sift(
        base,
        capped(updates, sample_limits(cohort)),
        rule=cohort.choice.plan.aggregation,
        validate=validate,
        losses=losses,
        widths=settings.hidden is not None,
        trusted=settings.trusted,
        noised=any(said is not None and said.noise_multiplier > 0 for said in told.values()),
    )
    sifted = replace(sifted, suspects={**sifted.suspects, **unusable})
    credit = _credit(base, sifted, validate, cohort, settings) if settings.credit else {}
    rows = [
        *(failed(client, reply) for client, reply in known.items() if reply.has_error()),
        *(ClientRow(client=client, kind="screened", reason=why) for client, why in sifted.suspects.items()),
        *(_trained(update, told[update.client], credit, cohort) for update in sifted.kept),
        *(ClientRow(client=client, kind="lost", reason="it left or was late") for client in _silent(asked, known, cohort)),
    ]
    return Received(
        messages=_shown(known, sifted, settings),
        rows=tuple(
            replace(row, bytes=sizes.get(AgentId(row.client), 0)) for row in sorted(rows, key=lambda row: row.client)
        ),
        losses=heard,
        sifted=sifted,
        bytes_out=sum(map(size_of, asked)),
        claimed={update.client: update.samples for update in updates},
    )


def take_told(reply: Message) -> Told | None:
    """What the guardian says, taken out of the message: the strategy knows nothing of it."""
    if RECORD not in reply.content.config_records:
        return None
    said = read_told(dict(reply.content.config_records[RECORD]))
    del reply.content[RECORD]
    return said


def _updates(
    known: Mapping[AgentId, Message],
    told: Mapping[AgentId, Told | None],
    asked: Sequence[Message],
    cohort: Cohort,
    settings: AgenticSettings,
) -> tuple[list[Update], dict[AgentId, str]]:
    """The updates that can be read, and why the others cannot."""
    replies = {client: known[client] for client in told}
    went = {cohort.name(message.metadata.dst_node_id): message for message in asked}
    updates, unusable = list[Update](), dict[AgentId, str]()
    usual = Counter(build_of(reply) for reply in replies.values()).most_common(1)
    for client, reply in replies.items():
        try:
            if build_of(reply) != usual[0][0]:
                raise BadMessage("its reply has other records than most: no strategy could use both")
            if is_packed(reply):
                open_reply(reply, _base(went[client], told[client], settings))
            samples = int(metric(reply, settings.samples_key) or 1)
            updates.append(Update(client=client, arrays=arrays_of(reply), samples=samples))
        except BadMessage as error:
            unusable[client] = str(error)
    return updates, unusable


def _base(asked: Message, said: Told | None, settings: AgenticSettings) -> Arrays:
    """The model that a client trained from: what it was sent, or less of it where its guardian allowed less width."""
    base = arrays_of(asked)
    if said is None or settings.hidden is None:
        return base
    width = read_ask(asked.content.config_records[RECORD]).terms.width
    return narrowed(base, settings.hidden, asked=width, allowed=said.width)


def sample_limits(cohort: Cohort) -> Mapping[AgentId, int]:
    """Most that each client's update counts: what its VCV says is rounded, so a truthful count may be a fifth over it."""
    return {block.id: math.ceil(block.samples * 1.2) for block in cohort.profiles.values()}


def _credit(
    base: Arrays, sifted: Sifted, validate: Validate | None, cohort: Cohort, settings: AgenticSettings
) -> Mapping[AgentId, float]:
    if validate is None or not sifted.taken:
        return {}
    return shares(base, sifted.kept, validate, rng=np.random.default_rng((settings.seed, cohort.round - 1)))


def failed(client: AgentId, reply: Message) -> ClientRow:
    """The row of a client that answered with an error."""
    kind = "refused" if reply.error.code >= REFUSED else "lost"
    return ClientRow(client=client, kind=kind, reason=(reply.error.reason or "")[:400])


def _trained(update: Update, said: Told | None, credit: Mapping[AgentId, float], cohort: Cohort) -> ClientRow:
    return ClientRow(
        client=update.client,
        kind="trained",
        reason="" if said is None else said.reasons,
        seconds=0.0 if said is None else said.seconds,
        samples=update.samples,
        told=said,
        usd=cohort.payments.get(update.client, 0.0),
        agreed=cohort.agreed(update.client),
        credit=credit.get(update.client),
    )


def _silent(asked: Sequence[Message], known: Mapping[AgentId, Message], cohort: Cohort) -> list[AgentId]:
    names = [cohort.name(message.metadata.dst_node_id) for message in asked]
    return [client for client in names if client is not None and client not in known]


def _shown(known: Mapping[AgentId, Message], sifted: Sifted, settings: AgenticSettings) -> list[Message]:
    """The replies with capped sample counts and, where a robust rule spoke, that rule's model."""
    if not sifted.taken:
        return []
    for update in sifted.kept:
        metrics = first_metrics(known[update.client])
        if metrics is not None and settings.samples_key in metrics:
            metrics[settings.samples_key] = update.samples
        if sifted.robust:
            put_arrays(known[update.client], sifted.model)
    shown = [known[update.client] for update in sifted.kept]
    keep_common_metrics(shown)
    return shown
