"""What the own broker is asked for when a peer says that one of its agents left."""

import asyncio

from tests.unit.registry.test_gossip import AGENT_KEY, Circle, card, passing
from tests.unit.registry.test_gossip_hostile import Liar

from foa.registry.doubts import without_card
from foa.registry.gossip import GossipRules
from foa.registry.gossiping import gossip
from foa.registry.keys import public_key
from foa.registry.vitals import GONE
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics

A, B, TOPICS = AgentId("a"), AgentId("b"), Topics()


async def test_who_has_no_retained_card_is_told_from_who_has_one():
    async with asyncio.timeout(10), MemoryTransport(MemoryHub(), client_id="x") as transport:
        await transport.publish(Publication(topic=TOPICS.capability(A), payload=await card("a"), retain=True))
        assert await without_card(transport, [A, B], topics=TOPICS, name="x") == {B}
        assert await without_card(transport, [A], topics=TOPICS, name="x") == set()


async def test_a_broker_that_does_not_answer_has_said_nothing():
    class Silent(MemoryTransport):
        async def publish(self, publication: Publication) -> None:
            """Swallow it."""

    async with asyncio.timeout(10), Silent(MemoryHub(), client_id="x") as transport:
        assert await without_card(transport, [A], topics=TOPICS, name="x", seconds=0.01) == set()


async def test_who_left_while_an_orchestrator_was_cut_off_from_its_own_broker_is_gone_and_nobody_else():
    circle, hub = Circle("xy"), MemoryHub()
    async with asyncio.timeout(20), MemoryTransport(hub, client_id="x") as transport, asyncio.TaskGroup() as group:
        await transport.publish(Publication(topic=TOPICS.capability(A), payload=await card("a"), retain=True))
        for name in ("a", "b"):  # b left, and x did not hear it
            await circle["x"].registry.admit(await card(name))
        run = gossip(circle["x"].gossip, transport, me=circle["x"].id, topics=TOPICS, clock=circle.clock)
        task = group.create_task(run, name="gossip")
        stone = [1, 0.0, public_key(AGENT_KEY)]
        await Liar(circle).tells("x", "delta", tombstones={"a": stone, "b": stone})
        await passing(circle, 30, lambda: B not in circle["x"].registry)
        assert list(circle["x"].registry.agents()) == ["a"]
        assert circle["x"].registry.departed(B) is not None
        task.cancel()


async def test_another_card_that_came_while_the_broker_was_asked_is_here():
    circle = Circle("xy")
    await circle["x"].registry.admit(await card("a"))
    await Liar(circle).tells("x", "delta", tombstones={"a": [1, 0.0, public_key(AGENT_KEY)]})
    doubted = circle["x"].gossip.doubted()
    assert list(doubted) == ["a"]
    assert circle["x"].gossip.doubted() == {}
    await circle["x"].registry.admit(await card("a", 2))
    await circle["x"].gossip.left(doubted)
    assert A in circle["x"].registry


async def test_the_broker_is_asked_for_few_agents_at_once_and_for_none_that_is_away():
    circle = Circle("xy")
    circle["x"].gossip.rules = GossipRules(doubted=3, pending=5)
    for i in range(8):
        await circle["x"].registry.admit(await card(f"a{i}"))
    await circle["x"].registry.hear_vitals(AgentId("a0"), GONE)
    stones = {f"a{i}": [1, 0.0, public_key(AGENT_KEY)] for i in range(8)}
    await Liar(circle).tells("x", "delta", tombstones=stones)
    asked = [list(circle["x"].gossip.doubted()) for _ in range(3)]
    assert asked == [["a1", "a2", "a3"], ["a4", "a5"], []]
