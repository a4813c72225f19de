"""Real brokers say which cards they retain, beside a listener on the same connection."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foa.ports import Delivery
from foa.registry.doubts import without_card
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics
from tests.brokers import start_embedded, start_mosquitto

TOPICS = Topics()


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
async def test_whose_card_is_retained_is_told_before_the_echo(kind: str, tmp_path: Path):
    agents = [AgentId(f"a{i}") for i in range(200)]
    broker = start_embedded() if kind == "embedded" else start_mosquitto(tmp_path)
    async with (
        asyncio.timeout(30),
        broker as running,
        MqttTransport(f"mqtt://127.0.0.1:{running.port}", client_id="zero") as transport,
        transport.subscribe(Filter(topic_filter=TOPICS.capability())) as inbox,
    ):
        for agent in agents[::2]:
            await transport.publish(Publication(topic=TOPICS.capability(agent), payload=b"x" * 4_000, retain=True))
            await (await anext(inbox)).acknowledge()
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                drain = group.create_task(_acknowledge(inbox), name="drain")
                assert await without_card(transport, agents, topics=TOPICS, name="zero", seconds=20) == set(agents[1::2])
                drain.cancel()


async def _acknowledge(inbox: AsyncIterator[Delivery]) -> None:
    async for delivery in inbox:
        await delivery.acknowledge()
