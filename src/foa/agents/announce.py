"""What an agent tells everyone: its signed VCV (retained), its vitals, and that it left.

capabilities/updates/{agent}   card, retained; empty: it left
capabilities/vitals/{agent}    load, queue; online = false: gone
capabilities/vitals/{host}     the last will of a connection, retained: every agent in `agents` is gone, unless it was
                               announced again after `since`
"""

from collections.abc import Sequence

import msgspec

from foa.agents.profile import AgentProfile
from foa.errors import BadMessage
from foa.ports import Embedder
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import SigningKey, public_key
from foa.registry.vitals import GONE, MAX_VITALS_BYTES, Gone, decode_gone, encode_vitals
from foa.values.ids import AgentId, check_id
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Vitals

#: How long the broker keeps a last will for orchestrators that start later.
WILL_EXPIRY_SECONDS = 7 * 86_400


async def card_publication(
    profile: AgentProfile, *, version: int, embedder: Embedder, key: SigningKey | None, issued_at: float, topics: Topics
) -> Publication:
    """Make the retained card of an agent.

    Raises:
        BadCapability: the profile breaks a bound of cards.
        ModelUnreachable: the embedder does not answer.
    """
    vcv = await build_vcv(
        agent_id=profile.agent_id,
        version=version,
        name=profile.name,
        description=profile.description,
        embedder=embedder,
        skills=profile.skills,
        examples=profile.examples,
        spec=profile.spec,
        resources=profile.resources,
        policies=profile.policies,
        kinds=profile.kinds,
        issued_at=issued_at,
        public_key=public_key(key) if key is not None else "",
        fl=profile.fl,
    )
    return Publication(topic=topics.capability(profile.agent_id), payload=encode_card(vcv, key), retain=True)


def vitals_publication(agent: AgentId, vitals: Vitals, topics: Topics) -> Publication:
    """Make a vitals message: QoS 0, never retained."""
    return Publication(topic=topics.vitals(agent), payload=encode_vitals(vitals), qos=0)


def leaving(agent: AgentId, topics: Topics) -> tuple[Publication, Publication]:
    """Make the two messages of a clean leave: no card any more, and gone."""
    return (
        Publication(topic=topics.capability(agent), payload=b"", retain=True),
        Publication(topic=topics.vitals(agent), payload=GONE, qos=1),
    )


def last_will(topics: Topics, host: str, agents: Sequence[AgentId], *, since: float | None = None) -> Publication:
    """Make the last will of a connection that carries these agents: vitals of the host that say they are gone.

    An agent with a connection of its own gives its own id as the host: then the topic alone says who left. MQTT gives a
    connection one will, so a host of many names them in the payload, as many as vitals may hold (about 150); of the others
    the silence of their vitals tells. It is retained: the cards of the dead are, too.

    Args:
        topics: topic names.
        host: id of the host, or of its only agent.
        agents: who is on the connection.
        since: when it began, as in the cards that it carries, seconds since the epoch.
    """
    base = msgspec.json.decode(GONE, type=dict[str, object]) | ({} if since is None else {"since": since})
    payload = msgspec.json.encode(base)
    if list(agents) != [host]:
        named = list(agents)
        while named:
            payload = msgspec.json.encode({**base, "agents": named})
            if len(payload) <= MAX_VITALS_BYTES:
                break
            named = named[: len(named) * 9 // 10]
    expiry = WILL_EXPIRY_SECONDS
    return Publication(topic=topics.vitals(AgentId(host)), payload=payload, retain=True, message_expiry_interval=expiry)


def take_back(topics: Topics, host: str) -> Publication:
    """Take back a retained last will of a host that was only cut off."""
    return Publication(topic=topics.vitals(AgentId(host)), payload=b"", retain=True)


def gone_agents(publication: Publication, topics: Topics) -> tuple[AgentId, ...]:
    """Tell who left, from a vitals message: the agents it names, else its topic's.

    Empty when it says online, or nothing usable.
    """
    return () if (gone := _gone(publication)) is None else _named(gone, publication, topics)


def gone_since(publication: Publication) -> float | None:
    """Tell when the connection had begun that a last will speaks for, seconds since the epoch."""
    return None if (gone := _gone(publication)) is None else gone.since


def _gone(publication: Publication) -> Gone | None:
    try:
        gone = decode_gone(publication.payload)
    except BadMessage:
        return None
    return None if gone.online else gone


def _named(gone: Gone, publication: Publication, topics: Topics) -> tuple[AgentId, ...]:
    if gone.agents:
        return tuple(map(AgentId, gone.agents))
    try:
        return (AgentId(check_id(topics.id_of(publication.topic), what="agent")),)
    except ValueError:
        return ()
