"""Who left, so that an older card does not bring them back: a bounded number, and what peers say apart from what was heard.

Whoever tells of many leavers pushes out what others told of, and nothing that was heard on the own broker.
"""

from collections import OrderedDict

from foa.registry.admission import Departed
from foa.registry.bounded import remember
from foa.values.ids import AgentId


class Departures:
    """Tombstones by agent."""

    def __init__(self, most: int) -> None:
        """Remember so many of each sort."""
        self._most = most
        self._heard: OrderedDict[AgentId, Departed] = OrderedDict()
        self._told: OrderedDict[AgentId, Departed] = OrderedDict()

    def heard(self, agent: AgentId) -> Departed | None:
        """What is remembered of an agent that left the own broker, or None."""
        return self._heard.get(agent)

    def latest(self, agent: AgentId) -> Departed | None:
        """What is remembered of an agent that left, whoever said so, or None."""
        heard, told = self._heard.get(agent), self._told.get(agent)
        if heard is None or told is None or told.key != heard.key:
            return heard or told
        return max(heard, told, key=lambda left: (left.version, left.issued_at))

    def bury(self, agent: AgentId, left: Departed, *, told: bool) -> AgentId | None:
        """Remember that an agent left; gives the one that is forgotten for it.

        Args:
            told: a peer said so; else its card was taken back on the own broker.
        """
        store = self._told if told else self._heard
        forgotten = next(iter(store)) if len(store) >= self._most and agent not in store else None
        remember(store, agent, left, self._most)
        return forgotten

    def forget(self, agent: AgentId) -> None:
        """It is back."""
        self._heard.pop(agent, None)
        self._told.pop(agent, None)
