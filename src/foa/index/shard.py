"""One Qdrant Edge shard with this project's schema: c (and further vectors) as points, words as a sparse vector.

A point is one vector of one agent; its payload repeats what filters ask for. Its id is of `foa.index.table`.
"""

import bisect
import contextlib
import hashlib
import itertools
import math
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from foa.index.counts import WordCounts
from foa.index.files import all_to_disk, to_disk
from foa.index.forward import ForwardIndex
from foa.index.found import Scores
from foa.index.inverted import InvertedIndex
from foa.index.table import SLOTS, Row, point_ids
from foa.index.words import document_weights
from foa.ports import IndexPoint, IndexQuery
from foa.values.ids import AgentId
from foa.values.vcv import Vector

_LEAST_SCORED = 64  #: of the best by their codes
_LONG_LOG = 100 << 20  # bytes of a log's files of 32 MB; two are there before anything is logged, one full one stays
_HALF = -1  # digest of an agent whose further vectors were not all stored when the process was killed: nobody's
_AT_ONCE = 250  # points that are read or deleted, in some 3 ms, in which the engine holds the interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """How shards are laid out. HNSW numbers as in Malkov and Yashunin (arXiv:1603.09320)."""

    m: int = 32  #: links a node; on real texts 16 lost 3 % of recall
    ef_construct: int = 400  #: candidates while building
    ef: int = 288  #: candidates while searching a hundred thousand points; two thirds more for each ten times as many
    #: agents that a search by vector, and one by words, looks at where both count, of a hundred thousand; twice as many of
    #: ten times as many
    looked_at: int = 128
    postings: int = 50_000  #: most of the pairs of a word and an agent who has it that a search by words reads
    scan_below: int = 20_000  #: points, or matches of a filter, up to which all are compared by their codes
    index_from: int = 10_000  #: unindexed points from which a build starts
    build_threads: int = 1
    search_threads: int = 2
    words: bool = True  #: keep the words of the texts, for BM25
    quantised: bool = False  #: only the 4-bit codes are kept in memory, vectors are read from disk to score the best

    def candidates(self, points: int) -> int:
        """Give how many candidates a search among so many points follows: a larger graph has more that lead astray."""
        return round(self.ef * (1 + 2 / 3 * _decades(points)))

    def near(self, points: int) -> int:
        """Give how many agents a search by vector, and one by words, looks at among so many points where both count."""
        return round(self.looked_at * 2 ** _decades(points))


def _decades(points: int) -> float:
    """How many times ten times a hundred thousand."""
    return max(0.0, math.log10(max(1, points) / 100_000))


def labels_of(query: IndexQuery) -> tuple[str, ...]:
    """Give the labels that a query asks for."""
    return labels(query.policies, [query.kind] if query.kind else ())


def labels(policies: Iterable[str], kinds: Iterable[str]) -> tuple[str, ...]:
    """Give the labels under which matches are counted."""
    named = (*(f"p:{policy}" for policy in sorted(policies)), *(f"k:{kind}" for kind in sorted(set(kinds))))
    return tuple(sys.intern(name) for name in named)


def digest(point: IndexPoint) -> int:
    """Give 63 bits that differ where two versions of a point do."""
    state = hashlib.blake2b(digest_size=8)
    for vector in (point.vector, *point.more_vectors):
        state.update(vector.tobytes())
    facts = (point.text, point.proved, tuple(point.bloom), sorted(point.policies), point.embedder, tuple(point.kinds))
    state.update(repr(facts).encode(errors="replace"))
    return int.from_bytes(state.digest(), "little") >> 1


class Shard:
    """One open shard. Not for two threads at once."""

    def __init__(self, path: Path, *, dimension: int, options: EdgeOptions) -> None:
        """Open the shard at this path, or make it. What is there is laid out by these options at its next build."""
        self.path = path
        self.options = options
        self.counts = WordCounts()  #: how many agents have each word, from `know_words` on
        self.forward = ForwardIndex()  #: which words each agent has, from `know_words` on
        self.inverted: InvertedIndex | None = None  #: who has each word, from `know_words` on, where it is indexed
        self._engine = _open(path, dimension, options)
        self._size: int | None = None  # asking the engine takes longer than all else that a search does with it
        self._whole = threading.Lock()  # a flush, which may be another thread's, has all of an agent or nothing

    def upsert(self, points: Sequence[tuple[IndexPoint, Row]]) -> None:
        """Store agents."""
        made: list[edge.Point] = []
        worded: list[tuple[int, dict[int, float]]] = []
        further: list[edge.UpdateOperation] = []
        for point, row in points:
            words = document_weights(point.text, point.proved) if self.options.words else {}
            worded.append((row.slot, words))
            payload = _payload(point)
            main, *more = point_ids(row.slot, row.vectors)
            known = {"n": row.vectors, "h": _HALF if more else row.digest}
            made.append(edge.Point(main, _vectors(point, words), payload | known))
            for one, vector in zip(more, point.more_vectors, strict=True):
                made.append(edge.Point(one, {"c": vector.tolist()}))
            if more:  # once for all of an agent: the engine's reading of a payload is what costs
                further.append(edge.UpdateOperation.set_payload(list[Any](more), payload))
                further.append(edge.UpdateOperation.set_payload([main], {"h": row.digest}))
        self._size = None
        with self._whole:
            self._engine.update(edge.UpdateOperation.upsert_points(made))
            for operation in further:
                self._engine.update(operation)
        for slot, words in worded:
            self.counts.add(list(words))
            self.forward.put(slot, words)

    def delete(self, ids: Sequence[int]) -> None:
        """Forget points; unknown ones do nothing. Their words are counted on: `uncount` comes before."""
        self._size = None
        for some in _parts(ids):
            self._engine.update(edge.UpdateOperation.delete_points(some))

    def uncount(self, ids: Sequence[int]) -> None:
        """Count the words of the agents of these points no more; unknown ones do nothing."""
        self.counts.drop(self.forward.drop([one for one in ids if one < SLOTS]).tolist())

    def nearest(self, query: IndexQuery, *, limit: int, wider: float = 1.0, exact: bool = False) -> Scores:
        """Give the nearest points that pass the filter, with their cosines, best first.

        By their codes, the best of which are scored by their vectors: following the graph, or, where no more than
        `scan_below` pass, all of them.

        Args:
            query: vector and filter.
            limit: most points.
            wider: how many times the usual candidates are followed.
            exact: compare all vectors: where a filter that many pass would make the graph lose its way.
        """
        codes = edge.QuantizationSearchParams(rescore=True, oversampling=max(1.0, _LEAST_SCORED / limit))
        ef = max(round(self.options.candidates(len(self)) * wider), limit)
        params = edge.SearchParams(hnsw_ef=ef, exact=exact, quantization=codes)
        return self._query(edge.Query.Nearest(query.vector.tolist(), using="c"), _filter(query), limit, params)

    def matches(self, query: IndexQuery) -> int:
        """Tell about how many points pass the filter, in some 15 µs."""
        only = _filter(query)
        return len(self) if only is None else self._engine.count(edge.CountRequest(filter=only, exact=False))

    def by_words(self, words: Mapping[int, float], query: IndexQuery, *, limit: int) -> Scores:
        """Give the points that pass the filter and have some of the rarest of these words, with what these tell; best first.

        The rarest are as many as `postings` agents have together, and one at least.

        Args:
            words: hashes, each with what the word weighs.
            query: its filter.
            limit: most points.
        """
        rare = self._rarest(words)
        if not rare:
            return {}
        nearest = edge.Query.Nearest(edge.SparseVector(rare, [words[word] for word in rare]), using="w")
        return self._query(nearest, _filter(query), limit, edge.SearchParams())

    def similarities(self, vector: Vector, ids: Sequence[int]) -> Scores:
        """Give the cosines of these points, best first."""
        nearest = edge.Query.Nearest(vector.tolist(), using="c")
        return self._query(nearest, _only(ids), len(ids), edge.SearchParams(exact=True))

    def rows(self) -> list[Row]:
        """Give what is remembered of every agent here."""
        found: list[Row] = []
        offset = None
        main = edge.Filter(must=[edge.FieldCondition("n", range=edge.RangeFloat(gte=1))])
        while True:
            request = edge.ScrollRequest(
                offset=offset, limit=10_000, filter=main, with_payload=["agent", "n", "h", "p", "k"], with_vector=False
            )
            records, offset = self._engine.scroll(request)
            found += [_row(int(record.id), record.payload or {}) for record in records]  # type: ignore[arg-type]
            if offset is None:
                return found

    def __len__(self) -> int:
        if self._size is None:
            self._size = self._engine.info().points_count
        return self._size

    def flush(self) -> None:
        """Have everything outlive a crash of the machine; it outlives this process once stored, as the engine keeps a log.

        Only the log is written to disk, and the interpreter let go meanwhile; the engine's own flush holds it through some
        fifty writes to the disk, and is for a log that has become long, or is not there as in folders of before.
        """
        logged = 0
        for file in (self.path / "wal").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was full and got another name, after it was written to disk
                logged += to_disk(file)
        if not 0 < logged <= _LONG_LOG:
            with self._whole:
                self._engine.flush()

    def close(self) -> None:
        """Flush and let go."""
        all_to_disk(self.path)  # without the interpreter, so that little is left to write for the engine, which holds it
        self._engine.flush()
        self._engine.close()

    def pour(self, source: "Shard") -> None:
        """Take every point of another shard."""
        offset = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=2_000, with_payload=True, with_vector=True)
            records, offset = source._engine.scroll(request)
            points = [edge.Point(r.id, r.vector or {}, r.payload) for r in records]
            self._size = None
            if points:
                self._engine.update(edge.UpdateOperation.upsert_points(points))
            if offset is None:
                return

    def optimize(self) -> None:
        """Build the HNSW index. The engine holds the interpreter meanwhile: only for a process of its own."""
        self._engine.optimize()

    def know_words(self, *, sealed: bool) -> None:
        """Have `counts`, `forward` and, where nothing more will be stored, `inverted`: of when it was indexed."""
        if not self.options.words:
            return
        if not sealed:
            self.forward = self._read_words()
            self.counts.add_all(self.forward.postings()[0])
        elif not self._map_words():
            self.write_words()
            self._map_words()

    def write_words(self) -> None:
        """Read the words again, some 30 µs a point, and write them down: nothing will be stored any more."""
        if self.options.words:
            forward = self._read_words()
            inverted = InvertedIndex.of(*forward.postings())
            forward.write(self.path)
            inverted.write(self.path)
            self._know(forward, inverted)

    def _map_words(self) -> bool:
        """Have what was written down; False where it is not there, or damaged."""
        sparing = self.options.quantised
        forward = ForwardIndex.read(self.path, sparing=sparing)
        inverted = None if forward is None else InvertedIndex.read(self.path, reach=forward.reach, sparing=sparing)
        if forward is None or inverted is None:
            return False
        self._know(forward, inverted)
        return True

    def _know(self, forward: ForwardIndex, inverted: InvertedIndex) -> None:
        self.counts, self.forward, self.inverted = WordCounts(*inverted.counts), forward, inverted

    def _read_words(self) -> ForwardIndex:
        forward, offset = ForwardIndex(), None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=2_000, with_payload=False, with_vector=["w"])
            records, offset = self._engine.scroll(request)
            for record in records:
                if record.id < SLOTS:  # type: ignore[operator]
                    forward.put(record.id, _words_of(record.vector))  # type: ignore[arg-type]
            if offset is None:
                return forward

    def _rarest(self, words: Mapping[int, float]) -> list[int]:
        here = sorted((count, word) for count, word in zip(self.counts.of(list(words)), words, strict=True) if count > 0)
        so_far = list(itertools.accumulate(count for count, _ in here))
        return [word for _, word in here[: max(1, bisect.bisect_right(so_far, self.options.postings))]]

    def _query(self, query: edge.Query, only: edge.Filter | None, limit: int, params: edge.SearchParams) -> Scores:
        request = edge.QueryRequest(limit=limit, query=query, filter=only, params=params, with_payload=False)
        return {point.id: point.score for point in self._engine.query(request)}  # type: ignore[misc]


def _payload(point: IndexPoint) -> dict[str, Any]:
    return {"agent": point.agent, "p": sorted(point.policies), "b": list(point.bloom), "k": list(point.kinds)}


def _vectors(point: IndexPoint, words: Mapping[int, float]) -> dict[str, Any]:
    dense: dict[str, Any] = {"c": point.vector.tolist()}
    return dense | {"w": edge.SparseVector(list(words), list(words.values()))} if words else dense


def _parts(ids: Sequence[int]) -> Iterator[list[Any]]:
    for start in range(0, len(ids), _AT_ONCE):
        yield list(ids[start : start + _AT_ONCE])


def _words_of(vectors: Any) -> dict[int, float]:
    return dict(zip(vectors["w"].indices, vectors["w"].values, strict=True)) if vectors else {}


def _row(slot: int, payload: dict[str, Any]) -> Row:
    return Row(
        agent=AgentId(payload["agent"]),
        slot=slot,
        vectors=payload["n"],
        digest=payload["h"],
        labels=labels(payload["p"], payload["k"]),
    )


def _only(ids: Iterable[int]) -> edge.Filter:
    return edge.Filter(must=[edge.HasIdCondition(set(ids))])


def _filter(query: IndexQuery) -> edge.Filter | None:
    conditions = [edge.FieldCondition("p", match=edge.MatchValue(policy)) for policy in sorted(query.policies)]
    conditions += [edge.FieldCondition("b", match=edge.MatchValue(position)) for position in query.bloom]
    if query.kind:
        conditions.append(edge.FieldCondition("k", match=edge.MatchValue(query.kind)))
    return edge.Filter(must=list(conditions)) if conditions else None


def _open(path: Path, dimension: int, options: EdgeOptions) -> edge.EdgeShard:
    config = _config(dimension, options)
    if (path / "edge_config.json").exists():
        return edge.EdgeShard.load(str(path), config)
    path.mkdir(parents=True, exist_ok=True)
    engine = edge.EdgeShard.create(str(path), config)
    # without graph links of their own for each label: they multiplied the time of a build and found no more
    for field in ("p", "k"):
        words = edge.KeywordIndexParams(enable_hnsw=False, memory=edge.Memory.Cold)
        engine.update(edge.UpdateOperation.create_field_index(field, words))
    positions = edge.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False, memory=edge.Memory.Cold)
    engine.update(edge.UpdateOperation.create_field_index("b", positions))
    return engine


def _config(dimension: int, options: EdgeOptions) -> edge.EdgeConfig:
    vectors = edge.EdgeVectorParams(
        size=dimension,
        distance=edge.Distance.Cosine,
        datatype=edge.VectorStorageDatatype.Float16,
        # a graph of 4-bit codes is searched three times as fast as one of vectors, and built twice as fast
        quantization_config=edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=edge.Memory.Pinned),
        memory=edge.Memory.Cold if options.quantised else edge.Memory.Cached,
    )
    return edge.EdgeConfig(
        vectors={"c": vectors},
        # queries bring the rarity of their words, which is of all layers
        sparse_vectors={"w": edge.EdgeSparseVectorParams(memory=edge.Memory.Cold)},
        hnsw_config=edge.HnswIndexConfig(
            m=options.m,
            ef_construct=options.ef_construct,
            full_scan_threshold=options.scan_below * dimension * 2 // 1024,  # in kilobytes of 16-bit vectors
            max_indexing_threads=options.build_threads,
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1_000),
        max_search_threads=options.search_threads,
        payload_memory=edge.Memory.Cold,
    )
