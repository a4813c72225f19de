"""An embedder that is away costs time, never the registry, its listener or a start."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.fakes import HandClock
from tests.unit.registry.test_registry import card, until
from tests.unit.test_card import HashEmbedder

from foa.errors import BadCapability, ModelUnreachable, NotEmbedded
from foa.index.exact import ExactIndex
from foa.ports import IndexQuery
from foa.registry.admission import RegistryLimits
from foa.registry.keys import new_key
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation, encode_outcome
from foa.registry.vitals import GONE, encode_vitals
from foa.settle import remember
from foa.state.memory import MemoryOutcomes
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Matrix, Vitals

A = AgentId("a")


class Moody(HashEmbedder):
    """Answers unless it is away, or is asked for a text it cannot take."""

    def __init__(self) -> None:
        self.away = False
        self.poison = ""
        self.asked = 0
        self.answers = asyncio.Event()  # it hangs while this is not set
        self.answers.set()

    async def embed(self, texts: Sequence[str]) -> Matrix:
        self.asked += 1
        await self.answers.wait()
        if self.away or (self.poison and any(self.poison in text for text in texts)):
            raise ModelUnreachable("nobody answers at http://localhost:11434")
        return await super().embed(texts)


def make(**limits: int | float) -> tuple[Registry, Moody, HandClock]:
    embedder, clock = Moody(), HandClock()
    rules = RegistryLimits(**limits)  # type: ignore[arg-type]
    return Registry(ExactIndex(256), embedder, clock=clock, limits=rules), embedder, clock


async def test_a_card_that_could_not_be_embedded_is_refused_with_the_reason_and_taken_later():
    registry, embedder, clock = make()
    embedder.away = True
    with pytest.raises(NotEmbedded, match="nobody answers"):
        await registry.admit(await card(), agent=A)
    assert "waits for another try" in registry.refusals[A]
    assert registry.again_seconds == pytest.approx(15.0)
    embedder.away = False
    await registry.try_again()
    assert A not in registry  # its time has not come
    await clock.move(15.0)
    await registry.try_again()
    assert A in registry
    assert A not in registry.refusals
    assert registry.again_seconds is None


async def test_while_the_embedder_stays_away_a_card_is_tried_once_each_time():
    registry, embedder, clock = make()
    embedder.away = True
    await registry.admit_many([(A, await card())])
    for _ in range(3):
        await clock.move(15.0)
        await registry.try_again()
        assert registry.again_seconds == pytest.approx(15.0)
    embedder.away = False
    await clock.move(15.0)
    await registry.try_again()
    assert A in registry


async def test_no_more_cards_wait_than_there_is_room_for():
    registry, embedder, _ = make(unembedded=1)
    embedder.away = True
    first, second = await registry.admit_many([(A, await card()), (AgentId("b"), await card(agent_id="b"))])
    assert "waits for another try" in str(first)
    assert "too many wait" in str(second)


async def test_cards_that_peers_tell_of_leave_room_for_those_of_the_own_broker():
    registry, embedder, clock = make(unembedded=2)
    embedder.away = True
    await registry.admit_many([(None, await card(agent_id=f"told-{i}")) for i in range(3)], via="zero-b")
    await registry.admit_many([(A, await card())])
    embedder.away = False
    await clock.move(15.0)
    await registry.try_again()
    assert A in registry
    assert registry.origin(A) == ""


async def test_a_card_of_an_agent_that_left_or_came_newer_is_not_tried_again():
    registry, embedder, clock = make()
    embedder.away = True
    await registry.admit_many([(A, await card()), (AgentId("b"), await card(agent_id="b"))])
    await registry.leave(A)
    embedder.away = False
    await registry.admit(await card(agent_id="b", version=2))
    assert registry.again_seconds is None
    await clock.move(15.0)
    await registry.try_again()
    assert A not in registry


async def test_a_card_that_alone_makes_the_embedder_fail_does_not_hold_up_the_others():
    registry, embedder, clock = make()
    embedder.poison = "poison"
    names = [AgentId(f"n{i}") for i in range(7)]
    cards = [(AgentId("bad"), await card(agent_id="bad", description="poison"))]
    cards += [(name, await card(agent_id=name)) for name in names]
    assert all(isinstance(outcome, BadCapability) for outcome in await registry.admit_many(cards))
    for _ in range(12):
        await clock.move(15.0)
        await registry.try_again()
    assert all(name in registry for name in names)
    assert AgentId("bad") not in registry


async def test_an_agent_that_is_back_while_the_embedder_is_away_is_found_after_its_next_vitals():
    registry, embedder, _ = make()
    vcv = await registry.admit(await card(skills=["python"]))
    await registry.hear_vitals(A, GONE)
    embedder.away = True
    await registry.hear_vitals(A, encode_vitals(Vitals()))
    assert not await registry.search(IndexQuery(vector=vcv.c, k=1))
    embedder.away = False
    await registry.hear_vitals(A, encode_vitals(Vitals()))
    assert [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=1))] == [A]


@asynccontextmanager
async def listening(registry: Registry, clock: HandClock) -> AsyncIterator[MemoryTransport]:
    hub, ready = MemoryHub(), asyncio.Event()
    async with (
        MemoryTransport(hub, client_id="zero") as inner,
        MemoryTransport(hub, client_id="agent") as outer,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(listen(registry, inner, topics=Topics(), clock=clock, ready=ready), name="listen")
        await ready.wait()
        yield outer
        task.cancel()


async def test_the_listener_goes_on_without_an_embedder_and_tries_again_with_the_next_delivery():
    registry, embedder, clock = make()
    embedder.away = True
    async with listening(registry, clock) as agent:
        await agent.publish(Publication(topic=Topics().capability(A), payload=await card(), retain=True))
        await until(lambda: A in registry.refusals)
        embedder.away = False
        await clock.move(15.0)
        stranger = await card(agent_id="b", key=new_key())
        await agent.publish(Publication(topic=Topics().capability(AgentId("b")), payload=stranger, retain=True))
        await until(lambda: A in registry and AgentId("b") in registry)


async def test_the_listener_tries_again_by_itself_when_nothing_comes():
    registry, embedder, clock = make(again_seconds=0.02)
    embedder.away = True
    async with listening(registry, clock) as agent:
        await agent.publish(Publication(topic=Topics().capability(A), payload=await card(), retain=True))
        await until(lambda: A in registry.refusals)
        embedder.away = False
        await clock.move(0.02)
        await until(lambda: A in registry)


async def test_a_start_without_an_embedder_remembers_reputation_all_the_same():
    registry, embedder, _ = make()
    embedder.away = True
    outcomes, reputation = MemoryOutcomes(), Reputation()
    given = Outcome(agent=A, kind="general", job="job-1", subtask="s1", grade=0.0, weight=1.0, at=1.0, text="a task")
    await outcomes.append(encode_outcome(given))
    before = reputation.mean(A, "general")
    await remember(reputation, registry, outcomes)
    assert reputation.mean(A, "general") < before


async def test_an_embedder_that_hangs_is_given_up_after_a_time_and_then_left_alone_until_the_next_try():
    registry, embedder, clock = make(embed_seconds=0.01)
    embedder.answers.clear()
    with pytest.raises(NotEmbedded, match=r"did not answer within 0\.01 s"):
        await registry.admit(await card(), agent=A)
    with pytest.raises(NotEmbedded, match="hung, and is asked again in 15 s"):
        await registry.admit(await card(agent_id="b"))
    assert embedder.asked == 1
    embedder.answers.set()
    await clock.move(15.0)
    for _ in range(2):  # after a failure, half as many at once
        await registry.try_again()
    assert len(registry) == 2


async def test_leaves_and_last_wills_are_heard_while_the_embedder_hangs():
    registry, embedder, clock = make()
    for name in ("gone", "left", "busy"):
        await registry.admit(await card(agent_id=name))
    async with listening(registry, clock) as agent:
        embedder.answers.clear()
        before = embedder.asked
        await agent.publish(Publication(topic=Topics().capability(A), payload=await card()))
        await until(lambda: embedder.asked > before)
        await agent.publish(Publication(topic=Topics().vitals(AgentId("gone")), payload=GONE))
        await agent.publish(Publication(topic=Topics().capability(AgentId("left")), payload=b""))
        await agent.publish(
            Publication(topic=Topics().vitals(AgentId("busy")), payload=encode_vitals(Vitals(load=0.5)), qos=0)
        )
        await until(lambda: registry.vitals(AgentId("busy")).load == 0.5)
        assert A not in registry
        assert registry.away == {"gone"}
        assert AgentId("left") not in registry
        embedder.answers.set()
        await until(lambda: A in registry)


async def test_who_leaves_while_its_card_waits_for_the_embedder_is_not_there_afterwards():
    registry, embedder, clock = make()
    async with listening(registry, clock) as agent:
        embedder.answers.clear()
        await agent.publish(Publication(topic=Topics().capability(A), payload=await card()))
        await agent.publish(Publication(topic=Topics().capability(A), payload=b""))
        await agent.publish(Publication(topic=Topics().capability(AgentId("b")), payload=await card(agent_id="b")))
        embedder.answers.set()
        await until(lambda: AgentId("b") in registry)
    assert A not in registry


async def test_who_leaves_while_it_is_shown_again_is_not_found():
    registry, embedder, _ = make()
    vcv = await registry.admit(await card(skills=["python"]))
    await registry.hear_vitals(A, GONE)
    embedder.answers.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(registry.hear_vitals(A, encode_vitals(Vitals())), name="back")
        await asyncio.sleep(0)
        await registry.leave(A)
        embedder.answers.set()
    assert await registry.index.count() == 0
    assert not await registry.search(IndexQuery(vector=vcv.c, k=1))


async def test_a_card_that_another_orchestrator_told_of_is_still_known_from_it_after_it_waited():
    registry, embedder, clock = make()
    embedder.away = True
    await registry.admit_many([(None, await card())], via="zero-b")
    await registry.admit_many([(None, await card(agent_id="b"))])
    embedder.away = False
    await clock.move(15.0)
    for _ in range(2):
        await registry.try_again()
    assert (registry.origin(A), registry.origin(AgentId("b"))) == ("zero-b", "")
