"""An index of layers beside exact search, whatever came, changed, left, was built, failed or was killed in between."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.index.builder import BuildJob, build
from foa.index.counts import WordCounts, idf
from foa.index.layer import Layer
from foa.index.partition import Partition
from foa.index.shard import EdgeOptions
from foa.index.words import document_weights, query_weights
from foa.ports import IndexPoint, IndexQuery
from foa.values.evidence import fuse
from foa.values.ids import AgentId

DIMENSION = 8
NAMES = [AgentId(f"a{i}") for i in range(24)]
VOCABULARY = ("alpha", "bravo", "cedar", "delta", "ember")
OPTIONS = EdgeOptions(index_from=10**6)  # builds begin where a test says so

TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=4).map(" ".join)
POINTS = st.builds(
    lambda agent, seed, more, text, proved, policies, kinds, bloom: IndexPoint(
        agent=agent,
        vector=unit(seed),
        more_vectors=tuple(unit(100 + seed + i) for i in range(more)),
        text=text,
        proved=proved,
        policies=policies,
        kinds=kinds,
        bloom=bloom,
    ),
    st.sampled_from(NAMES),
    st.integers(0, 60),
    st.integers(0, 2),
    TEXTS,
    TEXTS,
    st.sampled_from([frozenset[str](), frozenset({"gdpr"})]),
    st.sampled_from([("draft",), ("draft", "propose")]),
    st.sampled_from([(), (3,), (3, 9)]),
)
QUERIES = st.builds(
    lambda seed, text, k, kappa, policies, kind, bloom: IndexQuery(
        vector=unit(seed), text=text, k=k, kappa=kappa, policies=policies, kind=kind, bloom=bloom
    ),
    st.integers(0, 60),
    st.lists(st.sampled_from([*VOCABULARY, "nobody"]), max_size=5).map(" ".join),
    st.sampled_from([1, 3, 40]),
    st.sampled_from([0.025, 0.3]),
    st.sampled_from([frozenset[str](), frozenset({"gdpr"})]),
    st.sampled_from(["", "draft", "propose"]),
    st.sampled_from([(), (3,)]),
)
STEPS = st.lists(
    st.one_of(
        st.lists(POINTS, min_size=1, max_size=12),
        st.lists(POINTS, min_size=1, max_size=12),
        st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=12),
        st.sampled_from(["build", "begin", "finish", "fail", "restart", "kill"]),
    ),
    max_size=10,
)


def unit(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


def half(seed: int) -> np.ndarray:
    """A unit vector with a cosine of 1/2 with unit(seed)."""
    side = unit(seed + 1) - (unit(seed + 1) @ unit(seed)) * unit(seed)
    return (unit(seed) / 2 + np.sqrt(0.75) * side / np.linalg.norm(side)).astype(np.float32)


class Inline(Partition):
    """Builds in this process: another one takes a second to begin."""

    failing = False

    def _run(self, command: Sequence[str]) -> bool:
        if not self.failing:
            build(msgspec.json.decode(Path(command[-1]).read_bytes(), type=BuildJob))
        return not self.failing


@dataclass(slots=True)
class World:
    """A partition, and what should be in it."""

    folder: Path
    options: EdgeOptions = OPTIONS
    held: dict[AgentId, IndexPoint] = field(default_factory=dict[AgentId, IndexPoint])
    sources: list[Layer] = field(default_factory=list[Layer])  #: of the build that is under way
    part: Inline = field(init=False)

    def __post_init__(self) -> None:
        self.part = self._open()

    def _open(self) -> Inline:
        return Inline(self.folder, dimension=DIMENSION, options=self.options)

    def upsert(self, points: Sequence[IndexPoint]) -> None:
        self.part.upsert(points)
        self.held |= {point.agent: point for point in points}

    def remove(self, agents: Iterable[AgentId]) -> None:
        self.part.remove(agents)
        for agent in agents:
            self.held.pop(agent, None)

    def begin(self) -> None:
        if not self.sources:
            self.sources = self.part.freeze(self.part.prepare())

    def finish(self, *, failing: bool = False) -> None:
        if self.sources:
            self.part.failing = failing
            self.part.swap(self.sources, self.part.build(self.sources))
            self.part.tidy(self.sources)
            self.sources = []

    def restart(self) -> None:
        self.finish(failing=True)
        self.part.close()
        self.part = self._open()

    def kill(self) -> None:
        """What was saved is there, what was not may be; who is here is told again."""
        self.part.save()
        copy = self.folder.with_name(self.folder.name + "x")
        shutil.copytree(self.folder, copy)
        self.part.close()
        self.folder, self.sources = copy, []
        self.part = self._open()
        self.part.remove([agent for agent in self.part.agents() if agent not in self.held])
        self.part.upsert(list(self.held.values()))

    def step(self, step: object) -> None:
        match step:
            case "build":
                self.begin()
                self.finish()
            case "begin":
                self.begin()
            case "finish":
                self.finish()
            case "fail":
                self.finish(failing=True)
            case "restart":
                self.restart()
            case "kill":
                self.kill()
            case list():
                self.upsert(step)
            case _:
                self.remove(step)  # type: ignore[arg-type]

    def having(self, word: int) -> int:
        return sum(word in document_weights(p.text, p.proved) for p in self.held.values())

    def weights(self, text: str) -> dict[int, float]:
        return {
            word: weight * idf(len(self.held), having)
            for word, weight in query_weights(text).items()
            if (having := self.having(word))
        }


@contextmanager
def world(**options: object) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder) / "index", EdgeOptions(**({"index_from": 10**6} | options)))  # type: ignore[arg-type]
        yield made
        made.part.close()


def expected(world: World, query: IndexQuery, weights: dict[int, float]) -> dict[AgentId, float]:
    """The fused score of everybody who passes the filter."""
    found = {}
    for point in world.held.values():
        if query.policies <= point.policies and set(query.bloom) <= set(point.bloom) and query.kind in ("", *point.kinds):
            words = document_weights(point.text, point.proved)
            lexical = sum(weight * words.get(word, 0.0) for word, weight in weights.items())
            near = max(float(vector @ query.vector) for vector in (point.vector, *point.more_vectors))
            found[point.agent] = float(fuse(np.array([near]), np.array([lexical]), query.kappa)[0])
    return found


def check_rarity(world: World, text: str) -> dict[int, float]:
    """Counts are right but for what left indexed layers; gives what the words weigh."""
    layers = world.part._layers
    weights, words = world.part._weighed(text, layers), list(query_weights(text))
    told = [sum(column) for column in zip(*(layer.having(words) for layer in layers), strict=True)]
    true = [world.having(word) for word in words]
    left = sum(len(layer.shard.forward) - layer.table.at(layer.number) for layer in layers)
    assert told == pytest.approx(true, abs=left + 1e-6)
    assert {word for word, n in zip(words, true, strict=True) if n} <= weights.keys()
    assert all(weight > 0 for weight in weights.values())
    if not left:
        assert weights == pytest.approx(world.weights(text))
    return weights


def check(world: World, query: IndexQuery) -> None:
    part = world.part
    assert len(part) == len(world.held)
    assert set(part.agents()) == set(world.held)
    weights = check_rarity(world, query.text)
    by_agent = expected(world, query, weights)
    best = sorted(by_agent.values(), reverse=True)[: query.k]
    hits = part.search(query)
    assert len({hit.agent for hit in hits}) == len(hits) == len(best)
    scores = [float(fuse(np.array([h.similarity]), np.array([h.lexical]), query.kappa)[0]) for h in hits]
    assert scores == pytest.approx(best, abs=4e-3)
    assert scores == pytest.approx([by_agent[hit.agent] for hit in hits], abs=4e-3)
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.lists(QUERIES, min_size=2, max_size=4), st.sampled_from([100_000, 6]))
def test_whatever_happened_the_best_by_both_are_found(steps, queries, postings):
    # fewer agents than a search looks at: it misses none
    with world(postings=postings) as made:
        for step in steps:
            made.step(step)
            for query in queries:
                check(made, query)


def point(i: int, text: str = "", **fields: object) -> IndexPoint:
    return IndexPoint(agent=AgentId(f"a{i:04}"), vector=unit(i), text=text, **fields)  # type: ignore[arg-type]


def found(world: World, **fields: object) -> list[str]:
    return [hit.agent for hit in world.part.search(IndexQuery(**({"vector": unit(0)} | fields)))]  # type: ignore[arg-type]


def test_the_last_of_a_batch_holds_even_where_it_is_what_was_there():
    with world() as made:
        made.upsert([point(1, "alpha")])
        made.upsert([point(1, "bravo"), point(1, "alpha")])
        check(made, IndexQuery(vector=unit(0), text="alpha bravo", k=3))
        assert made.part.written == 1


def test_a_word_that_is_only_in_another_layer_chooses_nobody_here():
    with world(postings=100, looked_at=4) as made:
        worded = [IndexPoint(agent=AgentId(f"w{i}"), vector=-unit(0), text="common") for i in range(150)]
        made.upsert([*worded, *(IndexPoint(agent=AgentId(f"n{i}"), vector=half(0)) for i in range(200))])
        made.step("build")
        made.upsert([point(900, "unique")])
        # 150 have "common", more than postings; "unique" is nobody's in the layer that was built
        # idf(351, 150) is .85, and 1 − exp(−.85 · 2) more than 1/2
        hits = made.part.search(IndexQuery(vector=unit(0), text="common unique", k=5, kappa=2.0))
        assert hits[0].agent == "a0900"
        assert all(hit.agent.startswith("w") for hit in hits[1:])


def test_masked_agents_do_not_stand_between_words_and_those_who_have_them():
    with world(looked_at=2) as made:
        crowd = [point(i, "cuneiform") for i in range(50)]
        last = IndexPoint(agent=AgentId("last"), vector=-unit(0), text="cuneiform and very much else of other things")
        near = [IndexPoint(agent=AgentId(f"n{i}"), vector=half(0), text="holidays") for i in range(50)]
        made.upsert([*crowd, last, *near])
        made.begin()
        made.remove([one.agent for one in crowd])
        assert found(made, text="cuneiform", k=1, kappa=5.0) == ["last"]
        made.finish()
        assert found(made, text="cuneiform", k=1, kappa=5.0) == ["last"]


def test_a_word_still_tells_when_most_who_had_it_left_an_indexed_layer():
    with world() as made:
        made.upsert([point(i, "alpha" if i % 2 else "bravo") for i in range(400)])
        made.step("build")
        made.remove([AgentId(f"a{i:04}") for i in range(10, 400)])
        made.remove([AgentId("a0001"), AgentId("a0003")])
        # 3 of the 8 that are left
        assert list(made.part._weighed("alpha", made.part._layers).values()) == pytest.approx([idf(8, 3)])
        made.restart()
        # what the 392 had is not read again: 200 · 8/400 = 4
        assert list(made.part._weighed("alpha", made.part._layers).values()) == pytest.approx([idf(8, 4)])
        made.remove([AgentId("a0005")])
        # 199 · 7/399 = 3.49
        assert list(made.part._weighed("alpha", made.part._layers).values()) == pytest.approx([idf(7, 199 * 7 / 399)])
        made.upsert([point(i, "alpha bravo") for i in range(10)])  # nobody of the indexed layer is left
        assert list(made.part._weighed("alpha", made.part._layers).values()) == pytest.approx([idf(10, 10)])


COLUMNS = ["words-rows", "words-ends", "words", "words-weights"]
POSTINGS = ["postings-words", "postings-ends", "postings-slots", "postings-weights"]


@pytest.mark.parametrize("column", [*COLUMNS, *POSTINGS])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "zip", "other kind"])
def test_words_that_cannot_be_read_are_read_again_from_the_points(column: str, damage: str):
    with world() as made:
        made.upsert([point(i, "alpha bravo" if i % 2 else "bravo", more_vectors=(unit(5),)) for i in range(30)])
        made.step("build")
        made.part.close()
        (file,) = made.folder.rglob(f"{column}.npy")
        told, stored = file.read_bytes(), np.load(file)
        if damage == "missing":
            file.unlink()
        elif damage == "other kind":
            np.save(file, stored.astype(np.float64))
        else:
            file.write_bytes({"empty": b"", "cut": told[:-5], "zip": b"PK\x03\x04" + told}[damage])
        made.part = made._open()
        assert made.part._weighed("alpha", made.part._layers) == pytest.approx(made.weights("alpha"))
        assert len(found(made, text="alpha", k=15)) == 15
        assert file.read_bytes() == told


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("words-rows", lambda rows: rows + 1000),
        ("words-ends", lambda ends: ends[::-1]),
        ("words", lambda words: words[:-1]),
        ("postings-words", lambda words: words[::-1]),
        ("postings-ends", lambda ends: ends + 1),
        ("postings-slots", lambda slots: slots[:-1]),
    ],
)
def test_columns_that_contradict_each_other_are_read_again_from_the_points(column: str, change: Callable[[Any], Any]):
    with world() as made:
        made.upsert([point(i, "alpha bravo" if i % 2 else "bravo") for i in range(30)])
        made.step("build")
        made.part.close()
        (file,) = made.folder.rglob(f"{column}.npy")
        told = file.read_bytes()
        np.save(file, change(np.load(file)))
        made.part = made._open()
        assert file.read_bytes() == told


WORDS = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 5), max_size=8, unique=True)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["add", "all", "drop", "gather"])), max_size=20))
def test_words_are_counted_as_a_counter_counts(changes):
    counts, true, here = WordCounts(), Counter[int](), list[list[int]]()
    for words, change in changes:
        match change:
            case "add":
                counts.add(words)
            case "all":
                counts.add_all(np.array(words, np.uint32))
            case "drop":
                for gone in here[:1]:
                    counts.drop(gone)
                    true.subtract(gone)
                here = here[1:]
            case _:
                counts._gather()
        if change in ("add", "all"):
            true.update(words)
            here.append(words)
        asked = [*words, *true, 6]
        assert counts.of(asked) == [true[word] for word in asked]


def test_what_came_and_went_is_kept_in_columns():
    counts = WordCounts()
    for start in range(0, 200_000, 50):
        counts.add(range(start, start + 50))
    assert len(counts._since) <= 65_536 + 50
    for start in range(0, 199_900, 50):
        counts.drop(range(start, start + 50))
    assert counts.of([5, 199_950]) == [0, 1]
    counts._gather()
    assert len(counts._words) == 100


def test_an_agent_that_proved_a_million_words_is_stored_and_found():
    with world() as made:
        made.upsert([point(1, proved=" ".join(f"w{i}x" for i in range(1_000_000))), point(2)])
        assert found(made, text="w77777x", k=1, kappa=9.0) == ["a0001"]


def test_texts_without_words_neither_count_nor_harm():
    with world() as made:
        made.upsert([point(1), point(2, "the of a"), point(3, "alpha")])
        for text in ("", "the of", "\ud800", "nobody knows this", "alpha " * 5_000):
            assert len(found(made, text=text, k=9)) == 3
        made.remove([AgentId("a0001"), AgentId("a0002")])
        assert found(made, text="alpha", k=9) == ["a0003"]
