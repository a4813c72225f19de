"""A round's row, from its choice to its end."""

from dataclasses import replace

from foa.fl.rounds import RoundRow
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
        seconds=0.0,
        loss=None,
        taken=False,
        present=len(cohort.profiles),
    )


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
