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


async def choose(
    agent: ServerAgent,
    state: State,
    profiles: Mapping[int, FlBlock],
    settings: AgenticSettings,
    gated: Mapping[AgentId, str],
) -> Cohort:
    """Decide the next round.

    Args:
        agent: decides.
        state: after `known`.
        profiles: who is there; at least one.
        settings: of the run.
        gated: who may be no candidate. Where that is everybody, the round has a plan and asks nobody.
    """
    memory = state.memory
    admitted = [block.id for block in profiles.values() if block.id not in gated]
    present = [client for client in admitted if not memory.is_quarantined(client)]
    sealed = settings.usd_a_round > 0 and settings.negotiation.rounds > 0
    payments = {} if sealed else _bought(state, profiles, present, settings.usd_a_round)
    choice = await agent.choose(
        memory,
        list(payments) or present or admitted or list(gated),
        previous=state.rows[-1].plan if state.rows else None,
        records=tuple(row.record() for row in state.rows[-10:]),
        hour=next(iter(profiles.values())).hour,
    )
    if payments or sealed:
        # what was bought trains: leaving winners out again would make honest prices a bad idea
        choice = replace(choice, clients=tuple(payments or present or choice.clients))
    return Cohort(round=memory.round + 1, choice=choice, profiles=dict(profiles), payments=payments, gated=dict(gated))


def worth(block: FlBlock, state: State) -> float:
    """What an update of a client is worth to the server: its own estimate, never the client's word for it."""
    loss = state.memory.devices[block.id].loss
    return block.samples**0.5 * (1.0 if loss is None else 0.1 + loss)


def _bought(
    state: State, profiles: Mapping[int, FlBlock], present: Sequence[AgentId], budget_usd: float
) -> Mapping[AgentId, float]:
    if budget_usd <= 0:
        return {}
    there = set(present)
    bids = [
        Bid(client=block.id, usd=block.usd_a_round, value=worth(block, state))
        for block in profiles.values()
        if block.id in there
    ]
    return auction(bids, budget_usd=budget_usd).payments
