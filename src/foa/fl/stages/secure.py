"""TRAIN, SCREEN and AGGREGATE where single updates stay hidden: one sum comes back, and it is the next model or not.

What this rules out is checked when the run begins (`check_secure`), and said in one sentence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy

from foa.errors import BadInput
from foa.fl.contents import arrays_of, put_arrays
from foa.fl.plans import Bounds
from foa.fl.rounds import ClientRow
from foa.fl.secagg.exchange import Send, Summed, exchange
from foa.fl.server import should_roll_back
from foa.fl.sift import Sifted, Validate
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.stages.receive import Received, failed, sample_limits, take_told
from foa.fl.terms import Told
from foa.values.ids import AgentId

#: Flower's strategies that compare single updates, or weigh them by what each client says.
COMPARING = ("Bulyan", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "QFedAvg")


def secure_bounds(bounds: Bounds) -> Bounds:
    """The bounds of an owner, with nothing left in them that needs single updates.

    Raises:
        BadInput: the owner allows no plain mean.
    """
    if "fedavg" not in bounds.aggregations:
        raise BadInput("with secure_aggregation only fedavg can add updates up: allow it in [bounds] aggregations")
    return replace(bounds, aggregations=("fedavg",), shares=(1.0,))


def check_secure(settings: AgenticSettings, strategy: Strategy, bounds: Bounds) -> None:
    """Let a run begin whose settings go together with secure aggregation.

    Raises:
        BadInput: the server would need single updates; the message names everything that does.
    """
    wanted = {
        "credit by Shapley values": settings.credit,
        "mixed widths": settings.hidden is not None,
        f"the strategy {type(strategy).__name__}": type(strategy).__name__ in COMPARING,
        f"aggregation by {', '.join(sorted({*bounds.aggregations} - {'fedavg'}))}": bounds.aggregations != ("fedavg",),
        "compressed updates": bounds.shares != (1.0,),
    }
    if asked := [what for what, is_asked in wanted.items() if is_asked]:
        raise BadInput(
            f"secure_aggregation hides single updates, which {' and '.join(asked)} would need: "
            "leave one or the other out (nothing is screened either)"
        )


def secure(
    send: Send,
    sent: Sequence[Message],
    asked: Sequence[Message],
    cohort: Cohort,
    settings: AgenticSettings,
    *,
    seconds: float,
    losses: Sequence[float],
    validate: Validate | None,
) -> Received:
    """Let the cohort train, and take the sum of its updates.

    Args:
        send: the Grid.
        sent: the strategy's own messages, before terms were added.
        asked: what goes out in their place.
        cohort: of the round.
        settings: of the run.
        seconds: for training.
        losses: of the models that were taken before, oldest first.
        validate: loss on the server's data; None: nothing is rolled back.
    """
    most = max((sample_limits(cohort)[client] for client in cohort.choice.clients), default=1)
    summed = exchange(send, asked, about=f"{settings.run}/round-{cohort.round}", weight_max=most, seconds=seconds)
    sifted = _sifted(sent, summed, cohort, losses=losses, validate=validate)
    shown = [_shown(message, sifted, settings) for message in sent if message.metadata.dst_node_id in summed.members]
    return Received(
        messages=shown if sifted.taken else [],
        rows=tuple(sorted(_rows(asked, summed, cohort), key=lambda row: row.client)),
        losses={},
        sifted=sifted,
        bytes_out=summed.bytes_out,
    )


def _sifted(
    sent: Sequence[Message], summed: Summed, cohort: Cohort, *, losses: Sequence[float], validate: Validate | None
) -> Sifted:
    suspects = {client: why for node, why in summed.faults.items() if (client := cohort.name(node)) is not None}
    loss = None if validate is None or summed.model is None else float(validate(summed.model))
    return Sifted(
        kept=(),
        suspects=suspects,
        drift=False,
        model=arrays_of(sent[0]) if summed.model is None and sent else summed.model or {},
        robust=False,
        loss=loss,
        taken=summed.model is not None and (loss is None or not should_roll_back(losses, loss)),
    )


def _rows(asked: Sequence[Message], summed: Summed, cohort: Cohort) -> Iterator[ClientRow]:
    for message in asked:
        node = message.metadata.dst_node_id
        client, reply = cohort.name(node), summed.replies.get(node)
        if client is None:
            continue
        row = ClientRow(client=client, kind="lost", reason=summed.why or "it left or was late")
        if node in summed.faults:
            row = ClientRow(client=client, kind="screened", reason=summed.faults[node])
        elif reply is not None and reply.has_error():
            row = failed(client, reply)
        elif reply is not None and node in summed.members:
            row = _trained(client, take_told(reply), cohort)
        yield replace(row, bytes=summed.bytes_in.get(node, 0))


def _trained(client: AgentId, said: Told | None, cohort: Cohort) -> ClientRow:
    return ClientRow(
        client=client,
        kind="trained",
        reason="" if said is None else said.reasons,
        seconds=0.0 if said is None else said.seconds,
        told=said,
        usd=cohort.payments.get(client, 0.0),
    )


def _shown(sent: Message, sifted: Sifted, settings: AgenticSettings) -> Message:
    """A reply that a strategy can average: each member brings the same model, and counts alike."""
    name = next(iter(sent.content.array_records))
    metrics = MetricRecord({settings.samples_key: 1})
    reply = Message(RecordDict({name: sent.content[name], "metrics": metrics}), reply_to=sent)
    put_arrays(reply, sifted.model)
    return reply
