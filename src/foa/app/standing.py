"""What graded work has taught this machine's Agent-0s of an agent, by kind of work: for `foa agents show`."""

import msgspec

from foa.app.places import journal_file
from foa.app.settings import Settings
from foa.app.stores import open_stores
from foa.errors import BadMessage
from foa.ports import Clock
from foa.registry.reputation import Reputation, decode_outcome
from foa.values.ids import AgentId


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How much an agent is trusted with one kind of work."""

    kind: str
    mean: float  #: 0 to 1; ⅘ of one that nobody knows
    evidence: float  #: how many graded outcomes speak for it, by their weight, decayed


async def standings(settings: Settings, agent: AgentId, clock: Clock) -> tuple[Standing, ...]:
    """The agent's standing, by kind of work; nothing where it was never graded here.

    Raises:
        StoreFailed: the journal is there and cannot be read.
    """
    path = journal_file(settings)
    if not path.exists():
        return ()
    reputation, kinds = Reputation(), set[str]()
    async with open_stores(path, clock) as stores:
        for record in await stores.outcomes.replay():
            try:
                outcome = decode_outcome(record)
            except BadMessage:
                continue
            reputation.record(outcome)
            if outcome.agent == agent:
                kinds.add(outcome.kind)
    now = clock.now()
    return tuple(
        Standing(
            kind=kind,
            mean=reputation.mean(agent, kind, now=now),
            evidence=reputation.evidence(agent, kind, now=now),
        )
        for kind in sorted(kinds)
    )
