"""PROFILE and SELECT: the server agent decides the round, out of those who are there and were not screened out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from foa.fl.auction import Bid, auction
from foa.fl.block import FlBlock
from foa.fl.checkpoint import State
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.values.ids import AgentId


def known(state: State, profiles: Mapping[int, FlBlock]) -> State:
    """The state with what everybody says of itself."""
    memory = state.memory
    for block in profiles.values():
        memory = memory.know(block.id, samples=block.samples, width=block.width, group=block.group)
    return replace(state, memory=memory)


async def choose(agent: ServerAgent, state: State, profiles: Mapping[int, FlBlock], settings: AgenticSettings) -> Cohort:
    """Decide the next round.

    Args:
        agent: decides.
        state: after `known`.
        profiles: who is there; at least one.
        settings: of the run.
    """
    memory = state.memory
    present = [block.id for block in profiles.values() if not memory.is_quarantined(block.id)]
    payments = _bought(state, profiles, present, settings.usd_a_round)
    choice = await agent.choose(
        memory,
        list(payments) or present or [block.id for block in profiles.values()],
        previous=state.rows[-1].plan if state.rows else None,
        records=tuple(row.record() for row in state.rows[-10:]),
        hour=next(iter(profiles.values())).hour,
    )
    if payments:
        # what was bought trains: leaving winners out again would make honest prices a bad idea
        choice = replace(choice, clients=tuple(payments))
    return Cohort(round=memory.round + 1, choice=choice, profiles=dict(profiles), payments=payments)


def _bought(
    state: State, profiles: Mapping[int, FlBlock], present: Sequence[AgentId], budget_usd: float
) -> Mapping[AgentId, float]:
    if budget_usd <= 0:
        return {}
    devices, there = state.memory.devices, set(present)
    bids = [
        Bid(
            client=block.id,
            usd=block.usd_a_round,
            value=block.samples**0.5 * (1.0 if (loss := devices[block.id].loss) is None else 0.1 + loss),
        )
        for block in profiles.values()
        if block.id in there
    ]
    return auction(bids, budget_usd=budget_usd).payments
