"""What the own broker is told of agents elsewhere, and what listeners make of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.fakes import HandClock
from tests.unit.registry.test_registry import KEY, card, make, until

from foa.ports import IndexQuery
from foa.registry.admission import Departed
from foa.registry.keys import public_key
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.remote import EXPIRY_SECONDS, REFRESH_SECONDS, RemoteAgents, told_by
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

A, TOPICS = AgentId("a"), Topics()


def remote(registry: Registry, clock: HandClock) -> RemoteAgents:
    return RemoteAgents(registry, topics=TOPICS, clock=clock)


async def test_a_remote_agent_is_told_once_for_each_version_and_taken_back_when_it_left():
    clock = HandClock()
    registry = make(clock)
    told = remote(registry, clock)
    await registry.admit_many([(None, await card())], via="zero-b")
    [publication] = told.news()
    assert publication == Publication(
        topic="foa/capabilities/remote/a",
        payload=await card(),
        retain=True,
        message_expiry_interval=EXPIRY_SECONDS,
        user_properties=(("foa-via", "zero-b"),),
    )
    await registry.admit_many([(None, await card())], via="zero-c")  # the same card, from somebody else
    assert told.news() == []
    await registry.admit_many([(None, await card(version=2))], via="zero-b")
    assert [one.payload for one in told.news()] == [await card(version=2)]
    await registry.leave_elsewhere(A, Departed(version=2, issued_at=0.0, key=public_key(KEY)))
    assert told.news() == [Publication(topic="foa/capabilities/remote/a", payload=b"", retain=True)]
    assert told.news() == []


async def test_an_agent_that_comes_to_this_broker_is_not_told_as_remote_any_more():
    clock = HandClock()
    registry = make(clock)
    told = remote(registry, clock)
    await registry.admit_many([(None, await card()), (None, await card(agent_id="b"))], via="zero-b")
    assert len(told.news()) == 2
    await registry.admit_many([(A, await card())])
    assert [(one.topic, one.payload) for one in told.news()] == [("foa/capabilities/remote/a", b"")]
    await registry.admit_many([(AgentId("here"), await card(agent_id="here"))])
    assert told.news() == []


async def test_everything_is_told_again_once_a_day():
    clock = HandClock()
    registry = make(clock)
    await registry.admit_many([(None, await card())], via="zero-b")
    told = remote(registry, clock)  # started again: the broker has it already
    assert told.news() == []
    await clock.move(REFRESH_SECONDS)
    assert [one.topic for one in told.news()] == ["foa/capabilities/remote/a"]
    assert told.news() == []


def test_who_told_of_an_agent_is_an_id_or_unknown():
    for via, shown in (("zero-b", "zero-b"), ("no id\x00", "another-broker"), ("", "another-broker")):
        assert told_by(Publication(topic="t", payload=b"", user_properties=(("foa-via", via),))) == shown
    assert told_by(Publication(topic="t", payload=b"")) == "another-broker"


@asynccontextmanager
async def listening(registry: Registry, clock: HandClock) -> AsyncGenerator[MemoryTransport]:
    hub, ready = MemoryHub(), asyncio.Event()
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="zero") as inner,
        MemoryTransport(hub, client_id="other") as outer,
        asyncio.TaskGroup() as group,
    ):
        run = listen(registry, inner, topics=TOPICS, clock=clock, ready=ready, name="zero")
        task = group.create_task(run, name="listen")
        await ready.wait()
        yield outer
        task.cancel()


def told(payload: bytes) -> Publication:
    return Publication(topic=TOPICS.remote(A), payload=payload, retain=True, user_properties=(("foa-via", "zero-b"),))


async def test_a_listener_takes_remote_cards_and_forgets_them_without_a_tombstone():
    clock = HandClock()
    registry = make(clock)
    async with listening(registry, clock) as other:
        await other.publish(told(await card()))
        await until(lambda: A in registry)
        assert registry.origin(A) == "zero-b"
        await other.publish(told(b""))
        await until(lambda: A not in registry)
        assert registry.departed(A) is None
        await other.publish(told(await card()))  # no older card was buried
        await until(lambda: A in registry)


async def test_nobody_takes_an_agent_of_this_broker_away_by_saying_that_it_is_elsewhere():
    clock = HandClock()
    registry = make(clock)
    async with listening(registry, clock) as other:
        await other.publish(Publication(topic=TOPICS.capability(A), payload=await card(), retain=True))
        await until(lambda: A in registry)
        for payload in (b"", await card(), b"no card"):
            await other.publish(told(payload))
        await other.publish(Publication(topic=TOPICS.capability(AgentId("b")), payload=await card(agent_id="b")))
        await until(lambda: AgentId("b") in registry)
        assert registry.origin(A) == ""
        vcv = registry.get(A)
        assert vcv is not None
        assert "a" in [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=3, kind="draft"))]


async def test_a_forged_remote_card_is_refused_and_auditors_hear_it():
    clock = HandClock()
    registry = make(clock)
    async with listening(registry, clock) as other, other.subscribe(Filter(topic_filter=TOPICS.enforcement())) as audit:
        await other.publish(told((await card()).replace(b"does things", b"does all things")))
        denial = (await anext(audit)).publication.payload
        assert b"its signature does not hold" in denial
        assert A not in registry
