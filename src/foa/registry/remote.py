"""What the own broker is told of agents at other brokers: their cards, retained, with who told of them.

    foa/capabilities/remote/{agent}    the agent's card as it was signed; user property `foa-via`: an orchestrator
                                       empty: it left, or is on this broker itself

So whoever starts later knows them at once, and `foa agents` shows them. They answer no request that is sent on this broker.
"""

from foa.ports import Clock
from foa.registry.ledger import Stamp
from foa.registry.registry import Registry
from foa.values.ids import AgentId, check_id
from foa.values.publication import Publication
from foa.values.topics import Topics

VIA = "foa-via"  #: user property: the orchestrator that told of the agent
SOMEBODY = "another-broker"  #: where nobody usable is named
REFRESH_SECONDS = 86_400.0  #: how often everything is told again
EXPIRY_SECONDS = 2 * 86_400  #: how long the broker keeps what nobody tells again


class RemoteAgents:
    """Follows a registry, and says what has to be published about agents elsewhere."""

    def __init__(self, registry: Registry, *, topics: Topics, clock: Clock) -> None:
        self._registry = registry
        self._topics = topics
        self._clock = clock
        self._told: dict[AgentId, Stamp] = {}
        self._changed: dict[AgentId, None] = {}
        self._refresh_at = clock.monotonic() + REFRESH_SECONDS
        registry.watch(self._note)
        self._told = {agent: stamp for agent in registry.agents() if (stamp := self._elsewhere(agent)) is not None}

    def news(self) -> list[Publication]:
        """What changed since the last time; once a day, everything."""
        if self._clock.monotonic() >= self._refresh_at:
            self._refresh_at += REFRESH_SECONDS
            self._changed |= dict.fromkeys(self._told)
            self._told = dict.fromkeys(self._told, Stamp(0, 0.0))
        changed, self._changed = self._changed, {}
        return [publication for agent in changed if (publication := self._tell(agent)) is not None]

    def _tell(self, agent: AgentId) -> Publication | None:
        stamp, topic = self._elsewhere(agent), self._topics.remote(agent)
        if stamp is None:
            return Publication(topic=topic, payload=b"", retain=True) if self._told.pop(agent, None) else None
        if self._told.get(agent) == stamp:
            return None
        self._told[agent] = stamp
        return Publication(
            topic=topic,
            payload=self._registry.card(agent) or b"",
            retain=True,
            message_expiry_interval=EXPIRY_SECONDS,
            user_properties=((VIA, self._registry.origin(agent)),),
        )

    def _elsewhere(self, agent: AgentId) -> Stamp | None:
        """Which card of an agent that is at another broker is held; None: it is here, or nowhere."""
        return self._registry.stamp(agent) if self._registry.origin(agent) else None

    def _note(self, agent: AgentId) -> None:
        self._changed[agent] = None


def told_by(publication: Publication) -> str:
    """The orchestrator that told of a remote agent."""
    try:
        return check_id(dict(publication.user_properties).get(VIA, SOMEBODY), what="orchestrator")
    except ValueError:
        return SOMEBODY
