"""An index that was kept beside a registry that has just begun: who is found, and who stays."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.fakes import HandClock
from tests.unit.test_card import HashEmbedder

from foa.errors import ModelUnreachable
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.ports import Embedder, Hit, IndexPoint, IndexQuery
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.registry import Registry
from foa.registry.vitals import GONE
from foa.values.ids import AgentId
from foa.values.vcv import Matrix, Vector

KEY = new_key()
LIMITS = RegistryLimits(search_vectors=0)


class ComingEmbedder(HashEmbedder):
    """Does not answer until it is there."""

    def __init__(self) -> None:
        self.here = True

    async def embed(self, texts: Sequence[str]) -> Matrix:
        if not self.here:
            raise ModelUnreachable("not there")
        return await super().embed(texts)


def begin(folder: Path, embedder: Embedder | None = None, clock: HandClock | None = None) -> tuple[Registry, EdgeIndex]:
    index = EdgeIndex(256, path=folder)
    return Registry(index, embedder or HashEmbedder(), clock=clock or HandClock(), limits=LIMITS), index


async def card(name: str) -> bytes:
    return encode_card(
        await build_vcv(embedder=HashEmbedder(), agent_id=name, version=1, name=name, description="does things"), KEY
    )


def near(vector: Vector, seed: int) -> Vector:
    """Very near, and a little away."""
    moved = vector + 1e-3 * np.random.default_rng(seed).normal(size=len(vector)).astype(np.float32)
    return (moved / np.linalg.norm(moved)).astype(np.float32)


async def test_an_unchanged_card_costs_a_kept_index_nothing(tmp_path: Path):
    names = [f"a{i}" for i in range(20)]
    registry, index = begin(tmp_path)
    await registry.admit_many([(AgentId(name), await card(name)) for name in names])
    assert index.written == 20
    await registry.aclose()
    again, index = begin(tmp_path)
    await again.admit_many([(AgentId(name), await card(name)) for name in names])
    await again.reconcile()
    assert index.written == 0
    assert await index.count() == 20
    await again.aclose()


async def test_whoever_is_gone_when_all_cards_were_heard_leaves_a_kept_index(tmp_path: Path):
    registry, _ = begin(tmp_path)
    await registry.admit_many([(AgentId(name), await card(name)) for name in ("a", "b", "c")])
    await registry.aclose()
    again, index = begin(tmp_path)
    await again.admit_many([(AgentId(name), await card(name)) for name in ("a", "b")])
    await again.hear_vitals(AgentId("b"), GONE)  # away: out of the index until it is back
    vcv = await again.admit(await card("a"))
    assert [hit.agent for hit in await again.search(IndexQuery(vector=vcv.c, k=3))] == ["a"]
    assert sorted(await index.agents()) == ["a", "c"]
    await again.reconcile()
    assert await index.agents() == ["a"]
    await again.aclose()


async def test_a_search_asks_past_those_that_are_not_admitted(tmp_path: Path):
    registry, index = begin(tmp_path)
    vcv = await registry.admit(await card("a"))
    # 200 points of before, every one nearer to the question than the only agent that is here: k = 4, 16, 64, 256
    query = near(vcv.c, 999)
    strangers = [IndexPoint(agent=AgentId(f"old{i}"), vector=near(query, i)) for i in range(200)]
    await index.upsert(strangers)
    hits = await registry.search(IndexQuery(vector=query, k=4))
    assert [hit.agent for hit in hits] == ["a"]
    await registry.aclose()


class Asked(ExactIndex):
    """Remembers how many hits it was asked for."""

    def __init__(self) -> None:
        super().__init__(256)
        self.most = list[int]()

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        self.most.append(query.k)
        return await super().search(query)


async def test_a_search_asks_for_no_more_than_it_takes_to_find_enough_that_are_admitted():
    index = Asked()
    registry = Registry(index, HashEmbedder(), clock=HandClock(), limits=LIMITS)
    vcv = await registry.admit(await card("a"))
    query = near(vcv.c, 999)  # a stranger says just this, the agent almost this, 500 the opposite: k = 1 has only a stranger
    others = {"near": query} | {f"far{i}": near(-vcv.c, i) for i in range(500)}
    await index.upsert([IndexPoint(agent=AgentId(name), vector=vector) for name, vector in others.items()])
    hits = await registry.search(IndexQuery(vector=query, k=1))
    assert [hit.agent for hit in hits] == ["a"]
    assert index.most == [1, 4]
    await registry.aclose()


async def test_nobody_is_taken_out_while_cards_wait_for_the_embedder(tmp_path: Path):
    registry, _ = begin(tmp_path)
    await registry.admit_many([(AgentId(name), await card(name)) for name in ("a", "b")])
    await registry.aclose()
    embedder, clock = ComingEmbedder(), HandClock()
    again, index = begin(tmp_path, embedder, clock)
    embedder.here = False
    await again.admit_many([(AgentId("a"), await card("a"))])
    await again.reconcile()
    assert sorted(await index.agents()) == ["a", "b"]
    embedder.here = True
    await clock.move(LIMITS.again_seconds)
    await again.try_again()
    assert await index.agents() == ["a"]
    assert index.written == 0
    await again.aclose()


class Overtaking(ExactIndex):
    """As at a server: a later call may be done before an earlier one."""

    def __init__(self) -> None:
        super().__init__(256)
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def remove(self, agents: Sequence[AgentId]) -> None:
        self.asked.set()
        await self.let.wait()
        await super().remove(agents)


async def test_who_comes_back_while_its_leave_is_written_is_found():
    index, a = Overtaking(), AgentId("a")
    registry = Registry(index, HashEmbedder(), clock=HandClock(), limits=LIMITS)
    await registry.admit(await card("a"))
    back = asyncio.Event()
    registry.watch(lambda agent: back.set() if agent in registry else None)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(registry.leave(a), name="leave")
        await index.asked.wait()
        vcv = await build_vcv(embedder=HashEmbedder(), agent_id="a", version=2, name="a", description="does things")
        group.create_task(registry.admit(encode_card(vcv, KEY)), name="back")
        await back.wait()
        index.let.set()
    assert [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=1))] == ["a"]
