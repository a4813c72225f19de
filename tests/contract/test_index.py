"""What every VectorIndex promises."""

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foa.errors import StoreFailed
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.index.qdrant import QdrantIndex
from foa.index.shard import EdgeOptions
from foa.ports import IndexPoint, IndexQuery, KeptIndex, VectorIndex
from foa.registry.bloom import positions
from foa.values.evidence import fuse
from foa.values.ids import AgentId
from foa.values.vcv import Vector

DIMENSION = 32

ADAPTERS: dict[str, Callable[[], VectorIndex]] = {
    "exact": lambda: ExactIndex(DIMENSION),
    "edge": lambda: EdgeIndex(DIMENSION),
    "edge-3-shards": lambda: EdgeIndex(DIMENSION, shards=3),
    "edge-building": lambda: EdgeIndex(DIMENSION, options=EdgeOptions(index_from=40)),
    "edge-quantised": lambda: EdgeIndex(DIMENSION, options=EdgeOptions(index_from=40, quantised=True)),
    "qdrant": lambda: QdrantIndex.local(DIMENSION),
}


@pytest.fixture(params=ADAPTERS)
async def index(request: pytest.FixtureRequest) -> AsyncIterator[VectorIndex]:
    made = ADAPTERS[request.param]()
    yield made
    await made.aclose()


def unit(seed: int) -> Vector:
    values = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


def side(seed: int) -> Vector:
    """A unit vector at a right angle to unit(seed)."""
    other = unit(seed + 1) - (unit(seed + 1) @ unit(seed)) * unit(seed)
    return other / np.linalg.norm(other)


def point(i: int, **fields: object) -> IndexPoint:
    defaults: dict[str, object] = {"agent": AgentId(f"a{i:05}"), "vector": unit(i), "kinds": ("propose", "draft")}
    return IndexPoint(**(defaults | fields))  # type: ignore[arg-type]


async def agents(index: VectorIndex, **fields: object) -> list[str]:
    defaults: dict[str, object] = {"vector": unit(0), "k": 5}
    return [hit.agent for hit in await index.search(IndexQuery(**(defaults | fields)))]  # type: ignore[arg-type]


async def test_an_empty_index_finds_nobody(index: VectorIndex):
    assert await agents(index) == []
    assert await index.count() == 0


async def test_a_point_is_found_as_soon_as_upsert_returns(index: VectorIndex):
    for i in range(100):
        await index.upsert([point(i)])
        assert (await agents(index, vector=unit(i), k=1)) == [f"a{i:05}"]
    assert await index.count() == 100


async def test_hits_come_best_first_with_their_cosines(index: VectorIndex):
    points = [point(i) for i in range(60)]
    await index.upsert(points)
    hits = await index.search(IndexQuery(vector=unit(7), k=10))
    expected = sorted(((float(p.vector @ unit(7)), p.agent) for p in points), reverse=True)[:10]
    assert [hit.agent for hit in hits] == [agent for _, agent in expected]
    assert [hit.similarity for hit in hits] == pytest.approx([cosine for cosine, _ in expected], abs=2e-3)


async def test_an_agent_is_as_near_as_its_best_vector_and_comes_once(index: VectorIndex):
    await index.upsert([point(1, more_vectors=(unit(50), unit(51))), point(2), point(3)])
    hits = await index.search(IndexQuery(vector=unit(51), k=3))
    assert hits[0].agent == "a00001"
    assert hits[0].similarity == pytest.approx(1, abs=2e-3)
    assert sorted(hit.agent for hit in hits) == ["a00001", "a00002", "a00003"]


async def test_sister_vectors_do_not_crowd_others_out(index: VectorIndex):
    crowd = tuple(unit(0) * 0.9 + unit(i) * 0.1 for i in range(100, 140))
    await index.upsert([point(1, more_vectors=tuple(v / np.linalg.norm(v) for v in crowd)), point(2), point(3)])
    assert sorted(await agents(index, k=3)) == ["a00001", "a00002", "a00003"]


async def test_an_update_replaces_everything(index: VectorIndex):
    await index.upsert([point(1, more_vectors=(unit(50), unit(51)), policies=frozenset({"gdpr"}), text="zebra")])
    await index.upsert([point(2)])
    await index.upsert([point(1, vector=unit(60), text="tiger")])
    assert await index.count() == 2
    assert (await index.search(IndexQuery(vector=unit(50), k=5)))[0].similarity < 0.9
    assert await agents(index, policies=frozenset({"gdpr"})) == []
    assert all(hit.lexical == 0 for hit in await index.search(IndexQuery(vector=unit(2), text="zebra", k=5)))


async def test_a_removed_agent_is_gone_with_all_its_vectors(index: VectorIndex):
    await index.upsert([point(1, more_vectors=(unit(50),), text="zebra"), point(2)])
    await index.remove([AgentId("a00001"), AgentId("nobody")])
    assert await agents(index, vector=unit(50), text="zebra") == ["a00002"]
    assert await index.count() == 1


async def test_filters_are_answered_inside_the_search(index: VectorIndex):
    # only one in a hundred passes, and none of those is near: a filter after the search would find nobody
    few = [
        point(i, vector=unit(900 + i), policies=frozenset({"gdpr", "phi"}), bloom=positions(["python"]))
        for i in range(0, 300, 100)
    ]
    near = [point(i, vector=unit(0), policies=frozenset({"gdpr"})) for i in range(300) if i % 100]
    await index.upsert([*few, *near])
    expected = ["a00000", "a00100", "a00200"]
    assert sorted(await agents(index, policies=frozenset({"gdpr", "phi"}))) == expected
    assert sorted(await agents(index, bloom=positions(["python"]))) == expected
    assert await agents(index, bloom=positions(["python", "cobol"])) == []
    assert await agents(index, policies=frozenset({"unheard-of"})) == []


async def test_only_agents_that_answer_the_request_are_found(index: VectorIndex):
    await index.upsert([point(1, kinds=("draft",)), point(2, kinds=("propose", "draft")), point(3, kinds=())])
    assert await agents(index, kind="propose") == ["a00002"]
    assert sorted(await agents(index, kind="draft")) == ["a00001", "a00002"]


async def test_words_find_what_the_vector_does_not(index: VectorIndex):
    half = (unit(0) + np.sqrt(15) * side(0)) / 4  # a cosine of 1/4 with unit(0)
    await index.upsert([point(i, vector=half, text="plans holidays and books hotels") for i in range(200)])
    await index.upsert([point(999, vector=-unit(0), text="translates Sumerian cuneiform tablets")])
    # both words are of one agent of 201: BM25 is about 2 · 4.9 · 1.6, and 1 − exp(−0.1 · 15) is more than 1/4
    hits = await index.search(IndexQuery(vector=unit(0), text="a cuneiform tablet", k=5, kappa=0.1))
    assert (hits[0].agent, hits[0].similarity) == ("a00999", pytest.approx(-1, abs=2e-3))
    assert hits[0].lexical > 10
    assert [(hit.lexical, round(hit.similarity, 2)) for hit in hits[1:]] == [(0, 0.25)] * 4


async def test_the_best_by_both_is_found_where_many_are_better_by_either(index: VectorIndex):
    # 40 nearer ones without a word, 40 with both words and far away, and one that is second to all of them in both
    near = [point(i, vector=unit(0), text="plans holidays") for i in range(40)]
    worded = [point(100 + i, vector=-unit(0), text="cuneiform tablet") for i in range(40)]
    middle = (unit(0) + side(0)) / np.sqrt(2)  # a cosine of .71
    await index.upsert([*near, *worded, point(999, vector=middle, text="reads every cuneiform sign on a tablet, slowly")])
    hits = await index.search(IndexQuery(vector=0.6 * unit(0) + 0.8 * side(0), text="cuneiform tablet", k=1, kappa=0.2))
    assert [hit.agent for hit in hits] == ["a00999"]
    assert hits[0].lexical > 0


async def test_scores_by_vector_and_words_are_those_of_exact_search(index: VectorIndex, request: pytest.FixtureRequest):
    vocabulary = [f"word{letter}" for letter in "bcdfghjklmnpqrtv"]
    # several shards: each knows how rare a word is among its own agents only
    near, rel = (0.04, 0.8) if "shards" in request.node.name else (0.004, 0.03)
    rng = np.random.default_rng(3)
    points = [
        point(i, text=" ".join(rng.choice(vocabulary, 6)), policies=frozenset({"gdpr"} if i % 3 else set()))
        for i in range(150)
    ]
    exact = ExactIndex(DIMENSION)
    for one in (index, exact):
        await one.upsert(points)
    for seed, policies in itertools.product(range(10), (frozenset[str](), frozenset({"gdpr"}))):
        query = IndexQuery(vector=unit(seed + 500), text=" ".join(rng.choice(vocabulary, 4)), k=12, policies=policies)
        hits, expected = await index.search(query), await exact.search(query)
        both = [fuse(np.array([h.similarity]), np.array([h.lexical]), query.kappa)[0] for h in (*hits, *expected)]
        # near ties may change places: 16-bit vectors are within .002
        assert both[:12] == pytest.approx(both[12:], abs=near)
        lexical = {hit.agent: hit.lexical for hit in expected}
        assert all(hit.lexical == pytest.approx(lexical[hit.agent], rel=rel) for hit in hits if hit.agent in lexical)


async def test_words_keep_to_the_filter(index: VectorIndex):
    await index.upsert([point(1, text="cuneiform"), point(2, text="cuneiform", policies=frozenset({"gdpr"}))])
    assert await agents(index, text="cuneiform", policies=frozenset({"gdpr"})) == ["a00002"]


async def test_words_without_a_word_do_no_harm(index: VectorIndex):
    await index.upsert([point(1, text="cuneiform")])
    for text in ("the of a", "!!! ---", "\x00", "zzz" * 600):
        assert await agents(index, text=text) == ["a00001"]


async def test_recall_survives_churn(index: VectorIndex):
    rng = np.random.default_rng(5)
    held: dict[str, IndexPoint] = {}
    for turn in range(6):
        batch = [point(int(i), vector=unit(int(i) + 1000 * turn)) for i in rng.choice(300, 120, replace=False)]
        await index.upsert(batch)
        held |= {p.agent: p for p in batch}
        leavers = [AgentId(f"a{i:05}") for i in rng.choice(300, 30, replace=False)]
        await index.remove(leavers)
        held = {agent: p for agent, p in held.items() if agent not in leavers}
    assert await index.count() == len(held)
    found = expected = 0
    for seed in range(20):
        query = unit(seed)
        best = sorted(held.values(), key=lambda p: -float(p.vector @ query))[:10]
        hits = await agents(index, vector=query, k=10)
        assert len(hits) == len(set(hits)) == 10
        expected += 10
        found += len({p.agent for p in best} & set(hits))
    assert found / expected >= 0.98


async def test_a_kept_index_knows_whom_it_has(index: VectorIndex):
    if isinstance(index, ExactIndex):  # keeps nothing
        assert not isinstance(index, KeptIndex)
        return
    assert isinstance(index, KeptIndex)
    assert await index.agents() == []
    await index.upsert([point(i, more_vectors=(unit(500 + i),)) for i in range(60)])
    await index.upsert([point(1), point(2, more_vectors=(unit(502),))])  # the second is unchanged
    assert index.written == 61
    await index.remove([AgentId("a00003")])
    await index.save()
    assert sorted(await index.agents()) == [f"a{i:05}" for i in range(60) if i != 3]
    assert await agents(index, vector=unit(502), k=1) == ["a00002"]
    assert await agents(index, vector=unit(501), k=1) != ["a00001"]


async def test_an_edge_index_keeps_its_points_over_a_restart(tmp_path: Path):
    options = EdgeOptions(index_from=50)
    index = EdgeIndex(DIMENSION, path=tmp_path, shards=2, options=options)
    await index.upsert([point(i, policies=frozenset({"gdpr"} if i % 2 else set())) for i in range(200)])
    await index.settled()
    await index.remove([AgentId("a00003")])
    await index.upsert([point(4, vector=unit(999))])
    await index.aclose()
    again = EdgeIndex(DIMENSION, path=tmp_path, shards=2, options=options)
    assert await again.count() == 199
    assert await agents(again, vector=unit(7), k=1) == ["a00007"]
    assert await agents(again, vector=unit(999), k=1) == ["a00004"]
    assert "a00003" not in await agents(again, vector=unit(3), k=199, policies=frozenset({"gdpr"}))
    await again.upsert([point(7)])  # unchanged: nothing to do
    await again.aclose()


async def test_an_edge_index_of_another_dimension_is_built_again(tmp_path: Path):
    index = EdgeIndex(DIMENSION, path=tmp_path)
    await index.upsert([point(1)])
    await index.aclose()
    again = EdgeIndex(8, path=tmp_path)
    assert await again.count() == 0
    await again.aclose()


async def test_points_change_and_leave_while_an_index_is_built(tmp_path: Path):
    index = EdgeIndex(DIMENSION, path=tmp_path, options=EdgeOptions(index_from=2_000))
    await index.upsert([point(i) for i in range(2_000)])  # the build starts here
    await index.upsert([point(1, vector=unit(5001))])
    await index.remove([AgentId("a00002")])
    await index.upsert([point(6_000)])
    for _ in range(2):  # while the build runs, and after it
        assert await agents(index, vector=unit(5001), k=1) == ["a00001"]
        assert "a00002" not in await agents(index, vector=unit(2), k=5)
        assert "a00001" not in await agents(index, vector=unit(1), k=5)
        assert await agents(index, vector=unit(6_000), k=1) == ["a06000"]
        assert await index.count() == 2_000
        await index.settled()
    await index.aclose()


async def test_closing_during_a_build_loses_nothing(tmp_path: Path):
    options = EdgeOptions(index_from=2_000)
    index = EdgeIndex(DIMENSION, path=tmp_path, options=options)
    await index.upsert([point(i) for i in range(2_000)])
    await index.remove([AgentId("a00005")])
    await index.aclose()
    again = EdgeIndex(DIMENSION, path=tmp_path, options=EdgeOptions())
    assert await again.count() == 1_999
    await again.aclose()


async def test_a_build_that_was_cut_off_is_done_at_the_next_start(tmp_path: Path):
    options = EdgeOptions(index_from=2_000)
    index = EdgeIndex(DIMENSION, path=tmp_path, options=options)
    await index.upsert([point(i) for i in range(2_000)])
    await index.aclose()  # kills the build
    assert layers(tmp_path)[0] == 1
    again = EdgeIndex(DIMENSION, path=tmp_path, options=options)
    await again.settled()
    await again.aclose()
    assert 1 not in layers(tmp_path)


@pytest.mark.parametrize("table", [None, b"", b"damaged"])
async def test_an_index_that_did_not_end_well_knows_everybody_again(tmp_path: Path, table: bytes | None):
    index = EdgeIndex(DIMENSION, path=tmp_path / "lost", options=EdgeOptions(index_from=500))
    await index.upsert([point(i, more_vectors=(unit(9_000 + i),), policies=frozenset({"gdpr"})) for i in range(300)])
    await index.remove([AgentId("a00005")])
    await index.settled()  # 598 points: it is built, and written to disk after it
    await asyncio.to_thread(shutil.copytree, tmp_path / "lost", tmp_path / "found")
    await index.aclose()
    if table is not None:
        (tmp_path / "found" / "part-000-of-001" / "table").write_bytes(table)
    again = EdgeIndex(DIMENSION, path=tmp_path / "found")
    # a00005 left while the build ran or after it was written: it may be back, until the broker's cards say who is here
    await again.remove([AgentId("a00005")])
    assert await again.count() == 299
    assert await agents(again, vector=unit(9_007), k=1, policies=frozenset({"gdpr"})) == ["a00007"]
    await again.upsert([point(7), point(400)])
    assert (await again.search(IndexQuery(vector=unit(9_007), k=5)))[0].agent != "a00007"
    assert await agents(again, vector=unit(400), k=1) == ["a00400"]
    await again.aclose()


async def test_an_index_of_another_format_is_built_again(tmp_path: Path):
    folder = tmp_path / "part-000-of-001"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"v": 1, "dimension": 32, "shards": ["layer-000001"], "next": 1}')
    index = EdgeIndex(DIMENSION, path=tmp_path)
    assert await index.count() == 0
    await index.aclose()


@pytest.mark.parametrize("quantised", [False, True])
async def test_a_graph_of_codes_finds_what_exact_search_finds(quantised: bool):
    # near ones in 200 groups, as texts are; 6,000 × 128 is enough for the engine to build a graph
    rng = np.random.default_rng(11)
    vectors = (rng.normal(size=(200, 128))[rng.integers(0, 200, 6_000)] + rng.normal(size=(6_000, 128))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    steps = {"all": 1, "half": 2, "few": 10}  # every agent, every other one, every tenth one has this label
    far = set(np.argsort(-(vectors @ vectors[0]))[1_000:].tolist())
    cleared = [
        frozenset(label for label, step in steps.items() if i % step == 0) | ({"far"} if i in far else set[str]())
        for i in range(6_000)
    ]
    options = EdgeOptions(index_from=6_000, scan_below=1_000, quantised=quantised, build_threads=2)
    index = EdgeIndex(128, options=options)
    await index.upsert([point(i, vector=v, policies=cleared[i]) for i, v in enumerate(vectors)])
    await index.settled()
    for label, step in steps.items():
        rows, policies, found = np.arange(0, 6_000, step), frozenset({label}), 0
        for query in vectors[::300]:
            best = {f"a{rows[i]:05}" for i in np.argsort(-(vectors[rows] @ query))[:10]}
            found += len(best & set(await agents(index, vector=query, k=10, policies=policies)))
        assert found / 200 >= 0.95
    # 5 of 6 may, and none of the 1,000 nearest: filtering what a search of all finds is not enough, all are compared
    got = await agents(index, vector=vectors[0], k=10, policies=frozenset({"far"}))
    assert len(got) == 10
    assert all(int(agent[1:]) in far for agent in got)
    await index.aclose()


def layers(path: Path) -> list[int]:
    manifest = json.loads((path / "part-000-of-001" / "manifest.json").read_text())
    return manifest["layers"]


async def test_a_phrase_counts_more_than_its_words_apart(index: VectorIndex):
    texts = {"together": "stock price watcher", "apart": "price watcher stock"}
    await index.upsert(
        [IndexPoint(agent=AgentId(a), vector=unit(0), text=text, kinds=("draft",)) for a, text in texts.items()]
    )
    found = {hit.agent: hit for hit in await index.search(IndexQuery(vector=unit(0), text="the stock price", k=5))}
    assert found[AgentId("together")].lexical > found[AgentId("apart")].lexical > 0


async def test_what_was_proved_is_found_and_takes_nothing_from_an_agents_own_words(index: VectorIndex):
    proved = "\n".join(f"book a table for {guests} guests tonight" for guests in range(64))
    await index.upsert(
        [
            IndexPoint(agent=AgentId("new"), vector=unit(0), text="restaurant finder", kinds=("draft",)),
            IndexPoint(agent=AgentId("old"), vector=unit(0), text="restaurant finder", proved=proved, kinds=("draft",)),
        ]
    )
    own = {hit.agent: hit.lexical for hit in await index.search(IndexQuery(vector=unit(0), text="restaurant", k=5))}
    assert own[AgentId("new")] == pytest.approx(own[AgentId("old")])
    found = await index.search(IndexQuery(vector=unit(0), text="a table tonight", k=5))
    assert {hit.agent: hit.lexical > 0 for hit in found if hit.agent in ("new", "old")} == {"new": False, "old": True}


async def test_what_was_saved_is_there_after_a_kill_and_costs_nothing_again(tmp_path: Path):
    index = EdgeIndex(DIMENSION, path=tmp_path / "lost", shards=2, options=EdgeOptions(index_from=60))
    await index.upsert([point(i) for i in range(150)])
    await index.settled()
    await index.upsert([point(i) for i in range(150, 170)])
    await index.remove([AgentId("a00003")])
    await index.save()
    assert index.written == 170
    await index.upsert([point(999)])  # behind the save
    await asyncio.to_thread(shutil.copytree, tmp_path / "lost", tmp_path / "found")  # as a kill leaves it
    await index.aclose()
    again = EdgeIndex(DIMENSION, path=tmp_path / "found", shards=2, options=EdgeOptions(index_from=60))
    assert set(await again.agents()) - {"a00999"} == {f"a{i:05}" for i in range(170) if i != 3}
    await again.upsert([point(i) for i in range(170) if i != 3])
    assert again.written == 0
    await again.aclose()


async def test_what_is_logged_does_not_grow_for_ever(tmp_path: Path):
    # the same 100 agents again and again: never enough for a build. 9 × 1,024 numbers are some 47 KB in the log: 67 MB
    def version(i: int) -> IndexPoint:
        rows = np.random.default_rng(i).normal(size=(9, 1024))
        first, *more = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return point(i % 100, vector=first, more_vectors=more)

    index = EdgeIndex(1024, path=tmp_path)
    logs = list((tmp_path / "part-000-of-001").glob("layer-*/wal"))
    assert len(logs) == 1
    for i in range(0, 1_500, 50):
        await index.upsert([version(i + j) for j in range(50)])
    assert log_size(logs[0]) > 100 << 20
    await index.save()
    assert log_size(logs[0]) <= 100 << 20
    assert await index.count() == 100
    assert await agents(index, vector=version(1_442).vector, k=1) == ["a00042"]
    await index.aclose()


def log_size(log: Path) -> int:
    return sum(file.stat().st_size for file in log.iterdir())


async def test_what_the_builder_of_a_killed_process_still_writes_is_in_nobodys_way(tmp_path: Path):
    folder = tmp_path / "part-000-of-001"
    index = EdgeIndex(DIMENSION, path=tmp_path, options=EdgeOptions(index_from=60))
    (folder / "build-0123456789abcdef").mkdir()
    (folder / "build-0123456789abcdef" / "edge_config.json").write_text("half of one")
    await index.upsert([point(i) for i in range(100)])
    await index.settled()
    await index.aclose()
    again = EdgeIndex(DIMENSION, path=tmp_path)
    assert await again.count() == 100
    assert not list(folder.glob("build-*"))
    await again.aclose()


def empty(folder: Path, name: str) -> None:
    """Damage a file somewhere in the index, and not of the empty shard, which is made anew."""
    next(file for file in folder.rglob(name) if "empty" not in file.parts).write_bytes(b"")


@pytest.mark.parametrize("damaged", ["manifest.json", "edge_config.json", "status.dat", "segment.json"])
async def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path: Path, damaged: str):
    index = EdgeIndex(DIMENSION, path=tmp_path)
    await index.upsert([point(i) for i in range(10)])
    await index.aclose()
    empty(tmp_path, damaged)
    with pytest.raises(
        StoreFailed, match=r"part-000-of-001.*cannot read the index .*; remove the folder, it will be built again"
    ):
        EdgeIndex(DIMENSION, path=tmp_path)


async def test_who_is_chosen_by_rare_words_is_scored_by_all_of_them():
    # "common" is a word of all 600, "seldom" of every twentieth, "unique" of one; 100 postings are the rare words' only
    rng = np.random.default_rng(8)
    texts = [
        " ".join(["common", *(["seldom"] if i % 20 == 0 else []), *(["unique"] if i == 40 else []), *["filler"] * (i % 7)])
        for i in range(600)
    ]
    points = [point(i, text=text, vector=unit(int(rng.integers(10_000)))) for i, text in enumerate(texts)]
    index = EdgeIndex(DIMENSION, options=EdgeOptions(index_from=600, postings=100, looked_at=16))
    exact = ExactIndex(DIMENSION)
    for one in (index, exact):
        await one.upsert(points)
    await index.settled()
    query = IndexQuery(vector=unit(77), text="common seldom unique", k=10, kappa=0.2)
    hits = await index.search(query)
    every = {hit.agent: hit for hit in await exact.search(replace(query, k=600))}
    assert [hit.agent for hit in hits[:3]] == list(every)[:3]
    assert [hit.lexical for hit in hits] == pytest.approx([every[hit.agent].lexical for hit in hits], rel=0.02)
    only_common = await index.search(IndexQuery(vector=unit(77), text="common", k=10))  # it is read, however many have it
    assert all(hit.lexical > 0 for hit in only_common)
    await index.aclose()
