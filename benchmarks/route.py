"""How fast and how truly routing finds agents in a large registry.

Profiles are real authors' text, recombined (`_fleet.py`); queries are MetaTool's and Seal-Tools'. Routes are timed without
embedding: filter, search by vector and words, refusals, score, explanation. Recall is against exact search (numpy) on the
same vectors, and by vector and words together (`_both.py`). `--keep DIR` leaves vectors and index in DIR, for the next run
to measure only; what is measured is a copy.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._both import recall_by_both
from benchmarks._data import folder, rows
from benchmarks._fleet import LABELS, Fleet
from benchmarks._publish import publish
from foa.app.clock import SystemClock
from foa.errors import Unroutable
from foa.index.shard import EdgeOptions
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import IndexQuery
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.route import Router, RouteRules
from foa.values.resources import Needs
from foa.values.vcv import Matrix


class _Time(NamedTuple):
    """Seconds. Where others use the machine as well, the processor's time is near to what the wall says when they do not."""

    wall: float
    processor: float  #: of all threads

    @classmethod
    def now(cls) -> "_Time":
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "_Time") -> "_Time":
        return _Time(self.wall - other.wall, self.processor - other.processor)


_LOOKED_AT = 500  # queries by which the width of the search was chosen: they are not measured
_SCORED_BY_BOTH = 100  # queries whose best agents by meaning and words together are worked out
_HNSWLIB_MOST = 200_000  # agents; beyond, its build would take longer than everything else


def run(
    quick: bool, *, agents: int = 0, queries: int = 0, shards: int = 1, quantised: bool = False, words: bool = True,
    ef: int = 0, updates: int = 0, threads: int = 2, keep: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Measure.

    Args:
        quick: 10,000 agents and 200 queries, unless told otherwise.
        agents: profiles in the registry; 0: 100,000.
        queries: routes timed and recalls checked, for each label; 0: 500.
        shards: partitions of the index.
        quantised: only 4-bit codes in memory, vectors on disk.
        words: keep and search the words.
        ef: candidates of an HNSW search without a filter; 0: the default.
        updates: cards published at 200 a second while an index is built; 0: 400.
        threads: of the index build.
        keep: folder where vectors and index stay for the next run; empty: nowhere.
    """
    count = agents or (10_000 if quick else 100_000)
    extra = {"ef": ef} if ef else {}
    options = EdgeOptions(quantised=quantised, words=words, build_threads=threads, **extra)
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
    return asyncio.run(
        _run(count, queries or (200 if quick else 500), shards, options, updates or (200 if quick else 400), keep)
    )


async def _run(count: int, queries: int, shards: int, options: EdgeOptions, updates: int, keep: str) -> dict[str, Any]:
    embedder = WordLlamaEmbedder()
    await embedder.embed(["load the weights"])
    texts = _queries(queries)
    vectors = await embedder.embed(texts)
    with tempfile.TemporaryDirectory(prefix="foa-bench-", dir=keep or None) as name:
        fleet = Fleet(Path(keep or name), count, embedder)
        if keep:
            await fleet.prepare(options, shards)
        before = _memory()
        registry, spent = await fleet.open(Path(name), options, shards)
        filled = _memory()
        router = Router(registry, embedder, Reputation(), clock=SystemClock(), rules=RouteRules(words=options.words))
        times = await _time_routes(router, texts, vectors)
        routed = _memory()
        matrix = fleet.vectors()
        recalls, searches = await _recalls(registry, vectors, matrix, fleet.flags)
        seen = vectors[:_SCORED_BY_BOTH]
        both = await recall_by_both(registry, fleet.texts(), texts[: len(seen)], seen, matrix) if options.words else None
        baseline = _brute_force(vectors, matrix) | _hnswlib(vectors, matrix)
        del matrix
        published = await publish(registry, embedder, updates, options)
        await registry.aclose()
    return {
        "figures": {
            "agents": count,
            **_spread("", times[""]),
            **{f"{label}_{key}": value for label in LABELS for key, value in _spread("", times[label]).items()},
            "recall_at_10": recalls,
            "recall_at_10_by_both": both,
            "search_p50_ms": {label: _ms(statistics.median(some)) for label, some in searches.items()},
            # resident; of these the pages of files, which the system takes back when it needs them
            "memory_mb": routed["Rss"] - before["Rss"],
            "memory_file_mb": routed["Rss"] - routed["Anonymous"] - before["Rss"] + before["Anonymous"],
            "memory_before_routes_mb": filled["Rss"] - before["Rss"],
            "memory_of_process_mb": routed["Rss"],
            "open_s": round(spent.open, 2),
            "fill_s": round(spent.fill, 1),
            "build_s": round(spent.build, 1),
            **published,
        },
        "baseline": baseline,
        "repetitions": queries,
    }


def _queries(count: int) -> list[str]:
    meta = [row["query"] for row in rows(folder("routing_metatool") / "queries_single.jsonl")]
    seal = [row["query"] for row in rows(folder("routing_sealtools") / "test_in_domain.jsonl")]
    both = [text for pair in zip(meta[:: max(1, len(meta) // len(seal))], seal, strict=False) for text in pair]
    return (both * ((_LOOKED_AT + count) // len(both) + 1))[_LOOKED_AT:][:count]


async def _time_routes(router: Router, texts: Sequence[str], vectors: Matrix) -> dict[str, list[_Time]]:
    """What each route took, without a policy and under each label; that no agent fits is an answer, too."""
    needs, times = Needs(max_usd_per_call=0.01, max_latency_seconds=3), {}
    for label in ("", *LABELS):
        policies = [label] if label else []
        spent: list[_Time] = times.setdefault(label, [])
        for text, vector in [*zip(texts[:20], vectors[:20], strict=True), *zip(texts, vectors, strict=True)]:
            started = _Time.now()
            with contextlib.suppress(Unroutable):
                await router.route(text=text, vector=vector, policies=policies, needs=needs)
            spent.append(_Time.now() - started)
        del spent[:20]  # to warm up
    return times


async def _recalls(
    registry: Registry, vectors: Matrix, fleet: Matrix, flags: dict[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    found: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    for label, flag in flags.items():
        rows_of = np.flatnonzero(flag)
        allowed = fleet if len(rows_of) == len(fleet) else fleet[rows_of]
        hits, wanted = 0, 0
        for vector in vectors:
            scores = allowed @ vector
            k = min(10, len(scores))
            # a tie at the tenth place is as good as the tenth
            least = np.partition(scores, -k)[-k]
            started = time.perf_counter()
            got = await registry.search(IndexQuery(vector=vector, k=10, policies=frozenset({label})))
            times.setdefault(label, []).append(time.perf_counter() - started)
            numbers = [int(hit.agent.rpartition("-")[2]) for hit in got]
            hits += sum(bool(flag[n] and fleet[n] @ vector >= least - 1e-4) for n in numbers)
            wanted += k
        found[label] = round(hits / max(1, wanted), 4)
    return found, times


def _brute_force(vectors: Matrix, fleet: Matrix) -> dict[str, Any]:
    times: list[_Time] = []
    for vector in vectors[:50]:
        started = _Time.now()
        scores = fleet @ vector
        top = np.argpartition(-scores, 32)[:32]
        top[np.argsort(-scores[top])]
        times.append(_Time.now() - started)
    return {"brute_force": "numpy float32, both cores, 50 queries, vectors only", **_spread("brute_force_", times)}


def _hnswlib(vectors: Matrix, fleet: Matrix) -> dict[str, Any]:
    """Another library's graph of the same size over the same vectors: without words, filters, payloads, a log or changes."""
    if importlib.util.find_spec("hnswlib") is None:
        return {"hnswlib": "not installed (pip install hnswlib compiles it)"}
    if len(fleet) > _HNSWLIB_MOST:
        return {"hnswlib": f"not built for more than {_HNSWLIB_MOST:,} agents"}
    hnswlib = importlib.import_module("hnswlib")
    graph = hnswlib.Index(space="ip", dim=fleet.shape[1])
    started = time.perf_counter()
    graph.init_index(max_elements=len(fleet), M=32, ef_construction=256)
    graph.add_items(fleet, num_threads=2)
    built = time.perf_counter() - started
    graph.set_ef(EdgeOptions().candidates(len(fleet)))
    times: list[float] = []
    hits = 0
    for vector in vectors:
        started = time.perf_counter()
        found, _ = graph.knn_query(vector, k=32, num_threads=1)
        times.append(time.perf_counter() - started)
        scores = fleet @ vector
        least = np.partition(scores, -10)[-10]
        hits += int((scores[found[0][:10]] >= least - 1e-4).sum())
    return {
        "hnswlib": "vectors only, M 32, ef as ours",
        "hnswlib_p50_ms": _ms(statistics.median(times)),
        "hnswlib_recall_at_10": round(hits / (10 * len(vectors)), 4),
        "hnswlib_build_s": round(built, 1),
    }


def _spread(prefix: str, times: Sequence[_Time]) -> dict[str, float]:
    p50, p99 = np.percentile([one.wall for one in times], [50, 99])
    processor = statistics.median(one.processor for one in times)
    return {f"{prefix}p50_ms": _ms(float(p50)), f"{prefix}p99_ms": _ms(float(p99)), f"{prefix}cpu_p50_ms": _ms(processor)}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _memory() -> dict[str, int]:
    """Megabytes of this process that are resident, in all and of no file."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name: round(kilobytes[name] * 1024 / 1e6) for name in ("Rss", "Anonymous")}
