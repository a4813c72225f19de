"""A round's row, from its choice to its end."""

from dataclasses import replace

from foa.fl.market import Talk
from foa.fl.rounds import ClientRow, RoundRow, TalkRow
from foa.fl.stages.cohort import Cohort
from foa.fl.stages.receive import Received


def begun_row(cohort: Cohort) -> RoundRow:
    """The row when somebody was chosen and nobody has trained."""
    choice = cohort.choice
    return RoundRow(
        round=cohort.round,
        plan=choice.plan,
        verdict=choice.entry.verdict,
        faults=choice.entry.faults,
        model=choice.entry.model,
        decision_seconds=choice.entry.seconds,
        tokens=choice.entry.spend.tokens,
        clients=(),
        talks=tuple(_talk(talk) for _, talk in sorted(cohort.talks.items())),
        seconds=0.0,
        loss=None,
        taken=False,
        present=len(cohort.profiles),
    )


def _talk(talk: Talk) -> TalkRow:
    return TalkRow(client=talk.client, bids=tuple(talk.bids), agreed=talk.agreed, reason=talk.reason, by=talk.by)


def unasked(cohort: Cohort) -> list[ClientRow]:
    """Rows of those whom the gate or a negotiation kept from training."""
    gated = [ClientRow(client=client, kind="refused", reason=why, node="profile") for client, why in cohort.gated.items()]
    parted = [talk for client, talk in cohort.talks.items() if talk.agreed is None and client in cohort.choice.clients]
    return [*gated, *(_parted(talk) for talk in parted)]


def _parted(talk: Talk) -> ClientRow:
    kind = "lost" if talk.silent else "refused"
    return ClientRow(client=talk.client, kind=kind, reason=talk.reason, node="negotiate")


def trained_row(cohort: Cohort, received: Received, *, seconds: float, bytes_out: int) -> RoundRow:
    """The row when training is over.

    Args:
        cohort: who was chosen.
        received: what came.
        seconds: from the first ask to the last reply.
        bytes_out: of the asks.
    """
    sifted = received.sifted
    return replace(
        begun_row(cohort),
        clients=received.rows,
        seconds=seconds,
        loss=sifted.loss,
        taken=sifted.taken,
        drift=sifted.drift,
        bytes_out=bytes_out,
        bytes_in=sum(client.bytes for client in received.rows),
    )
