"""Where agents are, and how: what each last said of itself, who is away, and whose card came from another broker."""

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import replace

from foa.registry.bounded import remember
from foa.values.ids import AgentId
from foa.values.vcv import Vitals


class Presence:
    """Vitals, absences and origins by agent."""

    def __init__(self, most: int) -> None:
        """Remember the vitals of so many agents."""
        self._most = most
        self._vitals: OrderedDict[AgentId, Vitals] = OrderedDict()
        self._away: set[AgentId] = set()
        self._origins: dict[AgentId, str] = {}

    @property
    def away(self) -> AbstractSet[AgentId]:
        """Admitted agents whose connection was lost."""
        return self._away

    def vitals(self, agent: AgentId) -> Vitals:
        """What an agent last said of itself; the default where it said nothing."""
        return self._vitals.get(agent, Vitals())

    def origin(self, agent: AgentId) -> str:
        """The orchestrator that told of an agent; empty: it was heard on the own broker."""
        return self._origins.get(agent, "")

    def hear(self, agent: AgentId, vitals: Vitals) -> None:
        """Keep what an agent says of itself."""
        remember(self._vitals, agent, vitals, self._most)

    def leave(self, agent: AgentId) -> None:
        """Its connection was lost."""
        self._away.add(agent)

    def back(self, agent: AgentId) -> None:
        """It is there again."""
        self._away.discard(agent)

    def announce(self, agent: AgentId, *, via: str, known: bool) -> Vitals:
        """A card of this agent was admitted; gives its vitals.

        A card is a sign of life: whoever publishes one is online until its vitals say otherwise.

        Args:
            agent: whose card.
            via: who told of it; empty: it was heard on the own broker.
            known: this very card is held already: one that is here is not elsewhere because others know it, too.
        """
        if not via:
            self._origins.pop(agent, None)
        elif not known:
            self._origins[agent] = via
        if agent in self._away:
            self.back(agent)
            self.hear(agent, replace(self.vitals(agent), online=True))
        return self.vitals(agent)

    def forget(self, agent: AgentId) -> None:
        """It left."""
        self._vitals.pop(agent, None)
        self._origins.pop(agent, None)
        self._away.discard(agent)
