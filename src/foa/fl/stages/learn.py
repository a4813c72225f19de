"""What the server's memory keeps of a round: how each client did, who is set aside, how good the model is."""

from dataclasses import replace

from foa.fl.checkpoint import State
from foa.fl.memory import Outcome
from foa.fl.rounds import ClientRow
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.stages.receive import Received
from foa.values.ids import AgentId

KEPT_LOSSES = 20


def learn(state: State, received: Received, cohort: Cohort, settings: AgenticSettings, *, seconds: float) -> State:
    """The state after training.

    Args:
        state: before.
        received: what came.
        cohort: who was asked.
        settings: of the run.
        seconds: the round took; stands for a client that did not say.
    """
    outcomes = [_outcome(row, received, cohort, seconds) for row in received.rows]
    memory = state.memory.after(outcomes, present=sorted(cohort.blocks), k=cohort.choice.plan.k)
    for client in received.sifted.suspects:
        memory = memory.quarantine(client, rounds=settings.quarantine_rounds)
    losses, newest = state.losses, received.sifted.loss
    if received.sifted.taken and newest is not None:
        losses = (*losses, newest)[-KEPT_LOSSES:]
    return replace(state, memory=memory, losses=losses)


def _outcome(row: ClientRow, received: Received, cohort: Cohort, seconds: float) -> Outcome:
    client = AgentId(row.client)
    block = cohort.blocks.get(client)
    return Outcome(
        client=client,
        kind=row.kind if row.kind in ("trained", "refused") else "lost",
        seconds=row.seconds or seconds,
        joules=0.0 if block is None else block.joules_a_round,
        loss=received.losses.get(client),
        hour=12 if block is None else block.hour,
    )
