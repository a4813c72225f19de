"""Where agents are, and how: what each last said of itself, who is away, and whose card came from another broker."""

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import replace

from foa.registry.bounded import remember
from foa.values.ids import AgentId
from foa.values.vcv import Vitals


class Presence:
    """Vitals, absences and origins by agent."""

    def __init__(self, strangers: int) -> None:
        """Keep the vitals of every admitted agent, and of so many whose card has not come."""
        self._strangers = strangers
        self._vitals: dict[AgentId, Vitals] = {}
        self._early: OrderedDict[AgentId, Vitals] = OrderedDict()
        self._ended: OrderedDict[AgentId, float] = OrderedDict()  # since when the connection was that was lost
        self._away: set[AgentId] = set()
        self._origins: dict[AgentId, str] = {}

    @property
    def away(self) -> AbstractSet[AgentId]:
        """Admitted agents whose connection was lost."""
        return self._away

    def vitals(self, agent: AgentId) -> Vitals:
        """What an agent last said of itself; the default where it said nothing."""
        return self._vitals.get(agent) or self._early.get(agent, Vitals())

    def origin(self, agent: AgentId) -> str:
        """The orchestrator that told of an agent; empty: it was heard on the own broker."""
        return self._origins.get(agent, "")

    def hear(self, agent: AgentId, vitals: Vitals, *, admitted: bool, since: float | None = None) -> None:
        """Keep what an agent says of itself.

        Args:
            agent: whose vitals.
            vitals: what it says.
            admitted: whether its card is held.
            since: of a last will: when the connection began that was lost; cards of that moment or before are of the dead.
        """
        if admitted:
            self._vitals[agent] = vitals
            return
        self._early.pop(agent, None)
        self._ended.pop(agent, None)
        if vitals.online:
            remember(self._early, agent, vitals, self._strangers)
        elif since is not None:
            remember(self._ended, agent, since, self._strangers)

    def leave(self, agent: AgentId) -> None:
        """Its connection was lost."""
        self._away.add(agent)

    def back(self, agent: AgentId) -> None:
        """It is there again."""
        self._away.discard(agent)

    def announce(self, agent: AgentId, *, issued_at: float, via: str, known: bool) -> Vitals:
        """A card of this agent was admitted; gives its vitals.

        A card is a sign of life: whoever publishes one is online until its vitals say otherwise, unless a last will said so
        already of the connection that it came over.

        Args:
            agent: whose card.
            issued_at: when it was signed, seconds since the epoch.
            via: who told of it; empty: it was heard on the own broker.
            known: this very card is held already: one that is here is not elsewhere because others know it, too.
        """
        if not via:
            self._origins.pop(agent, None)
        elif not known:
            self._origins[agent] = via
        if (early := self._early.pop(agent, None)) is not None:
            self._vitals[agent] = early
        ended = self._ended.pop(agent, None)
        if not via and ended is not None and issued_at <= ended:
            self.leave(agent)
            self._vitals[agent] = replace(self.vitals(agent), online=False)
        elif agent in self._away:
            self.back(agent)
            self._vitals[agent] = replace(self.vitals(agent), online=True)
        return self.vitals(agent)

    def forget(self, agent: AgentId) -> None:
        """It left."""
        self._vitals.pop(agent, None)
        self._origins.pop(agent, None)
        self._away.discard(agent)
