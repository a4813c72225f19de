"""Cards that come together: taken in their order, and others have a turn in between."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import HandClock
from tests.unit.registry.test_registry import card, make
from tests.unit.test_card import HashEmbedder

from foa.index.exact import ExactIndex
from foa.registry import listen as listener
from foa.registry.admission import parts
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Matrix, Vcv


class Slow(HashEmbedder):
    """Takes its time, or hangs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def embed(self, texts: Sequence[str]) -> Matrix:
        await asyncio.sleep(self.seconds)
        return await super().embed(texts)


class Deaf(MemoryTransport):
    """At a broker that takes what it says, and gives it to nobody."""

    async def publish(self, publication: Publication) -> None:
        """Swallow it."""


@asynccontextmanager
async def started(
    embedder: HashEmbedder, cards: int, *, at: type[MemoryTransport] = MemoryTransport, more: Sequence[bytes] = ()
) -> AsyncGenerator[Registry]:
    """A registry that starts with so many retained cards, once its listener says that it is ready.

    Args:
        embedder: its own.
        cards: retained before it starts.
        at: its session at the broker.
        more: cards that are published one by one, each when the one before was taken.
    """
    hub, ready, clock = MemoryHub(), asyncio.Event(), HandClock()
    registry = Registry(ExactIndex(256), embedder, clock=clock)

    async def flood(agent: MemoryTransport) -> None:
        for payload in more:
            before = registry.arrivals
            await agent.publish(Publication(topic=Topics().capability(AgentId("a")), payload=payload, retain=True))
            await registry.arrived(after=before)

    async with at(hub, client_id="zero") as inner, MemoryTransport(hub, client_id="agent") as agent:
        for i in range(cards):
            payload = await card(agent_id=f"agent-{i}")
            await agent.publish(Publication(topic=Topics().capability(AgentId(f"agent-{i}")), payload=payload, retain=True))
        async with asyncio.TaskGroup() as group:
            hear = listen(registry, inner, topics=Topics(), clock=clock, ready=ready, name="zero")
            tasks = [group.create_task(hear, name="listen"), group.create_task(flood(agent), name="flood")]
            await ready.wait()
            yield registry
            for task in tasks:
                task.cancel()


@given(st.lists(st.integers(0, 200_000), max_size=100))
def test_a_burst_is_cut_into_parts_of_few_and_small_cards_in_order(sizes: list[int]):
    cards = [(AgentId(str(i)), bytes(size)) for i, size in enumerate(sizes)]
    cut = list(parts(cards))
    assert [one for part in cut for one in part] == cards
    for part in cut:
        assert 1 <= len(part) <= 32
        assert len(part) == 1 or sum(len(payload) for _, payload in part) <= 131_072


def test_ordinary_cards_are_taken_by_the_thirty_two():
    assert [len(part) for part in parts([(None, bytes(2_300))] * 70)] == [32, 32, 6]


async def test_whoever_waits_has_a_turn_while_a_burst_is_taken():
    registry, known = make(), list[int]()

    async def look() -> None:
        while len(registry) < 100:
            known.append(len(registry))
            await asyncio.sleep(0)

    cards = [(None, await card(agent_id=f"agent-{i}")) for i in range(100)]
    async with asyncio.TaskGroup() as group:
        group.create_task(registry.admit_many(cards), name="burst")
        group.create_task(look(), name="look")
    # 100 cards are parts of 32, 32, 32 and 4; neither this index nor this embedder ever waits
    assert known == [32, 64, 96]


async def test_the_last_card_of_an_agent_in_a_burst_counts():
    registry = make()
    cards = [await card(version=version, description=f"does thing {version}") for version in range(1, 50)]
    results = await registry.admit_many([(None, payload) for payload in cards])
    assert all(isinstance(result, Vcv) for result in results)
    vcv = registry.get(AgentId("a"))
    assert vcv is not None
    assert vcv.version == 49


async def test_a_start_waits_for_its_retained_cards_as_long_as_they_keep_coming(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "CATCH_UP_SECONDS", 0.2)
    monkeypatch.setattr(listener, "BATCH", 1)
    # 30 cards of 20 ms are three times as long as a start waits where none is taken
    async with started(Slow(0.02), 30) as registry:
        assert len(registry) == 30


@pytest.mark.parametrize(("seconds", "rounds"), [(3_600.0, 24), (0.02, 2)])
async def test_a_start_does_not_wait_for_a_card_that_hangs_nor_for_a_flood(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, rounds: int
):
    monkeypatch.setattr(listener, "CATCH_UP_SECONDS", 0.05)
    monkeypatch.setattr(listener, "CATCH_UP_ROUNDS", rounds)
    monkeypatch.setattr(listener, "BATCH", 1)
    async with started(Slow(seconds), 100) as registry:
        assert len(registry) < 100
    assert "retained cards may be missing" in caplog.text


async def test_a_start_at_a_broker_without_cards_waits_for_nothing(caplog: pytest.LogCaptureFixture):
    async with asyncio.timeout(listener.CATCH_UP_SECONDS / 2), started(HashEmbedder(), 0) as registry:
        assert len(registry) == 0
    assert not caplog.records


async def test_cards_that_are_published_now_do_not_hold_a_start_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "CATCH_UP_SECONDS", 0.1)
    # 200 cards of 20 ms each are 40 times as long as a start waits where no retained card is taken
    more = [await card(version=version) for version in range(1, 201)]
    async with asyncio.timeout(30), started(Slow(0.02), 0, at=Deaf, more=more) as registry:
        vcv = registry.get(AgentId("a"))
        assert vcv is not None
        assert vcv.version < 100


async def test_a_start_takes_what_its_session_had_missed_before_it_is_ready(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "CATCH_UP_SECONDS", 0.2)
    monkeypatch.setattr(listener, "BATCH", 1)
    missed = [await card(agent_id=f"agent-{i}") for i in range(30)]

    class Behind(MemoryTransport):
        """What was queued for its session comes first, and was not retained."""

        async def publish(self, publication: Publication) -> None:
            for i, payload in enumerate(missed):
                await super().publish(Publication(topic=Topics().capability(AgentId(f"agent-{i}")), payload=payload))
            await super().publish(publication)

    # 30 cards of 20 ms are three times as long as a start waits where nothing is taken
    async with started(Slow(0.02), 0, at=Behind) as registry:
        assert len(registry) == 30
