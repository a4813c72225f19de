"""Last wills: they wait for a link that comes back, are kept for those who start later, and concern one connection."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from foa.agents.announce import card_publication, last_will
from foa.agents.profile import AgentProfile
from foa.app.clock import SystemClock
from foa.app.zero import open_registry
from foa.ports import Transport
from foa.registry.keys import new_key
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.transport.mqtt import MqttTransport
from foa.transport.paho import PahoTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics
from tests.agents import WordEmbedder
from tests.brokers import open_link, start_embedded

A = AgentId("a")
WILL = Publication(topic="foa/capabilities/vitals/a", payload=b"gone")


@pytest.mark.parametrize("make", [MqttTransport, PahoTransport], ids=["mqttium", "paho"])
@pytest.mark.parametrize("back", [True, False], ids=["back", "dead"])
async def test_only_who_stays_away_is_called_gone(make: Callable[..., AbstractAsyncContextManager[Transport]], back: bool):
    async with (
        asyncio.timeout(20),
        start_embedded() as broker,
        open_link(broker.host, broker.port) as link,
        make(f"mqtt://{broker.host}:{broker.port}", client_id="zero") as zero,
        zero.subscribe(Filter(topic_filter="foa/#")) as inbox,
        make(f"mqtt://127.0.0.1:{link.port}", client_id="a", will=WILL, will_delay_interval=60 if back else 1) as agent,
    ):
        await link.cut()
        if back:
            await link.restore()
            await agent.publish(Publication(topic="foa/here", payload=b""))  # waits for the link
        heard = await anext(inbox)
        await link.restore()
    assert heard.publication.topic == ("foa/here" if back else WILL.topic)


async def test_the_will_of_a_former_process_does_not_concern_an_agent_that_is_back():
    hub, topics, clock, embedder = MemoryHub(), Topics(), SystemClock(), WordEmbedder()
    profile = AgentProfile(agent_id=A, name="a", description="routes tasks", spec="", policies=frozenset())
    other = replace(profile, agent_id=AgentId("other"))

    async def card(of: AgentProfile) -> Publication:
        return await card_publication(of, version=1, embedder=embedder, key=new_key(), issued_at=1_000.0, topics=topics)

    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="zero") as zero,
        open_registry(zero, embedder=embedder, clock=clock, topics=topics, name="zero") as registry,
    ):
        await zero.publish(await card(profile))
        await zero.publish(last_will(topics, "host-before", [A], since=999.0))
        await zero.publish(await card(other))  # when it is known, what came before has been taken
        await registry.known([A, AgentId("other")])
        assert registry.vitals(A).online
        await zero.publish(last_will(topics, "host-now", [A], since=1_000.0))
        await zero.publish(await card(replace(other, agent_id=AgentId("third"))))
        await registry.known([AgentId("third")])
        assert not registry.vitals(A).online
