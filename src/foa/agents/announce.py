"""What an agent tells everyone: its signed VCV (retained), its vitals, and that it left.

capabilities/updates/{agent}   card, retained; empty: it left
capabilities/vitals/{agent}    load, queue; online = false: gone
capabilities/vitals/{host}     the last will of a connection: every agent in `agents` is gone
"""

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec

from foa.agents.profile import AgentProfile
from foa.ports import Embedder
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import SigningKey, public_key
from foa.registry.vitals import GONE, MAX_VITALS_BYTES, encode_vitals
from foa.values.ids import ID_PATTERN, AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Vitals

_ID = re.compile(ID_PATTERN)


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


def last_will(topics: Topics, host: str, agents: Sequence[AgentId]) -> Publication:
    """Make the last will of a connection that carries these agents: vitals of the host that say they are gone.

    An agent with a connection of its own gives its own id as the host: then the topic alone says who left. MQTT gives a
    connection one will, so a host of many names them in the payload, as many as vitals may hold (about 150); of the others
    the silence of their vitals tells.

    Args:
        topics: topic names.
        host: id of the host, or of its only agent.
        agents: who is on the connection.
    """
    payload = GONE
    if list(agents) != [host]:
        base = msgspec.json.decode(GONE, type=dict[str, object])
        named = list(agents)
        while named:
            payload = msgspec.json.encode({**base, "agents": named})
            if len(payload) <= MAX_VITALS_BYTES:
                break
            named = named[: len(named) * 9 // 10]
    return Publication(topic=topics.vitals(host), payload=payload, qos=1)


class _Gone(msgspec.Struct, frozen=True):
    online: bool = True
    agents: Annotated[tuple[str, ...], msgspec.Meta(max_length=4_096)] = ()


def gone_agents(publication: Publication, topics: Topics) -> tuple[AgentId, ...]:
    """Tell who left, from a vitals message: the agents it names, else its topic's.

    Empty when it says online, or nothing usable.
    """
    if len(publication.payload) > MAX_VITALS_BYTES:
        return ()
    try:
        gone = msgspec.json.decode(publication.payload, type=_Gone)
        named = gone.agents or (topics.id_of(publication.topic),)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ()
    return () if gone.online else tuple(AgentId(agent) for agent in named if _ID.match(agent))
