"""How fast and how truly routing finds agents in a large registry.

Profiles are real authors' text, recombined; queries are MetaTool's and Seal-Tools'. Routes are timed without embedding:
filter, search by vector and words, refusals, score, explanation. Recall is against exact search (numpy) on the same vectors.
Policy labels are drawn at random: `p100` every agent has, `p10` one in ten, `p1` one in a hundred, `p01` one in a thousand.
"""

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._data import folder, rows
from benchmarks._profiles import profiles
from foa.app.clock import SystemClock
from foa.index.edge import EdgeIndex
from foa.index.shard import EdgeOptions
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import IndexPoint, IndexQuery
from foa.registry.admission import RegistryLimits
from foa.registry.bloom import bloom, set_positions
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.registry.shelf import FileShelf
from foa.route import Router, RouteRules
from foa.values.ids import AgentId
from foa.values.resources import Needs, Price, Resources
from foa.values.vcv import Matrix, Vcv

LABELS = {"p100": 1.0, "p10": 0.1, "p1": 0.01, "p01": 0.001}
_CHUNK = 2_000


def run(
    quick: bool, *, agents: int = 0, queries: int = 0, shards: int = 1, quantised: bool = False, words: bool = True,
    ef: int = 0, updates: int = 0, threads: int = 2,
) -> dict[str, Any]:  # fmt: skip
    """Measure.

    Args:
        quick: 10,000 agents and 200 queries, unless told otherwise.
        agents: profiles in the registry; 0: 100,000.
        queries: routes timed and recalls checked, for each label; 0: 500.
        shards: partitions of the index.
        quantised: 4-bit codes in memory, vectors on disk.
        words: keep and search the words.
        ef: candidates of an HNSW search without a filter; 0: the default.
        updates: cards published at 200 a second while an index is built; 0: 400.
        threads: of the index build.
    """
    count = agents or (10_000 if quick else 100_000)
    extra = {"ef": ef} if ef else {}
    options = EdgeOptions(quantised=quantised, words=words, build_threads=threads, **extra)
    return asyncio.run(_run(count, queries or (200 if quick else 500), shards, options, updates or (200 if quick else 400)))


async def _run(count: int, queries: int, shards: int, options: EdgeOptions, updates: int) -> dict[str, Any]:
    embedder = WordLlamaEmbedder()
    await embedder.embed(["load the weights"])
    texts = _queries(queries)
    vectors = await embedder.embed(texts)
    with tempfile.TemporaryDirectory(prefix="foa-bench-") as name:
        path = Path(name)
        source = profiles(count)
        source = itertools.chain(
            [next(source)], source
        )  # the authors' texts are this benchmark's memory, not the registry's
        before = _resident_mb()
        index = EdgeIndex(embedder.dimension, path=path / "index", shards=shards, options=options)
        limits = RegistryLimits(updates_per_second=1e6, updates_burst=10**6)
        shelf = FileShelf(path / "cards.db")
        registry = Registry(index, embedder, clock=SystemClock(), limits=limits, shelf=shelf)
        filled, flags = await _fill(registry, source, count, path / "vectors.f32")
        started = time.perf_counter()
        await index.settled()
        built = time.perf_counter() - started
        memory = _resident_mb() - before
        router = Router(registry, embedder, Reputation(), clock=SystemClock(), rules=RouteRules(words=options.words))
        times = await _time_routes(router, texts, vectors)
        fleet = np.fromfile(path / "vectors.f32", np.float32).reshape(count, embedder.dimension)
        recalls, searches = await _recalls(registry, vectors, fleet, flags)
        brute = _brute_force(vectors, fleet)
        publish = await _publish(registry, embedder, updates, options)
        await registry.aclose()
    return {
        "figures": {
            "agents": count,
            **_spread("", times[""]),
            **{f"{label}_{key}": value for label in LABELS for key, value in _spread("", times[label]).items()},
            "recall_at_10": recalls,
            "search_p50_ms": {label: _ms(statistics.median(some)) for label, some in searches.items()},
            "memory_mb": round(memory),
            "fill_s": round(filled, 1),
            "build_s": round(built, 1),
            **publish,
        },
        "baseline": {"brute_force_p50_ms": _ms(statistics.median(brute)), "brute_force": "numpy float32, both cores"},
        "repetitions": queries,
    }


def _queries(count: int) -> list[str]:
    meta = [row["query"] for row in rows(folder("routing_metatool") / "queries_single.jsonl")]
    seal = [row["query"] for row in rows(folder("routing_sealtools") / "test_in_domain.jsonl")]
    both = [text for pair in zip(meta[:: max(1, len(meta) // len(seal))], seal, strict=False) for text in pair]
    return (both * (count // len(both) + 1))[:count]


async def _fill(registry: Registry, source: Iterator[str], count: int, file: Path) -> tuple[float, dict[str, np.ndarray]]:
    """Put agents straight into roster and index: signing a million cards would measure something else."""
    rng = np.random.default_rng(7)
    flags = {label: rng.random(count) < share for label, share in LABELS.items()}
    spent, done = 0.0, 0
    with file.open("wb") as out:
        while done < count:
            texts = list(itertools.islice(source, min(_CHUNK, count - done)))
            vectors = await registry.embedder.embed(texts)
            vectors.tofile(out)
            some = {label: flag[done : done + len(texts)] for label, flag in flags.items()}
            vcvs = [_vcv(done + i, text, vectors[i], {n for n, f in some.items() if f[i]}) for i, text in enumerate(texts)]
            started = time.perf_counter()
            for vcv in vcvs:
                registry.roster.put(vcv, vcv.e)
            await registry.index.upsert([_point(vcv) for vcv in vcvs])
            spent += time.perf_counter() - started
            done += len(texts)
    return spent, flags


def _vcv(i: int, text: str, vector: np.ndarray, policies: set[str]) -> Vcv:
    skills = tuple(word for word in text.lower().split() if len(word) > 7)[:4]
    return Vcv(
        agent_id=AgentId(f"agent-{i:07}"), version=1, name=f"Agent {i}", description=text, skills=skills, c=vector,
        s=bloom(skills), r=Resources(price=Price(usd_per_call=0.001 * (i % 17)), latency_seconds=1.0 + i % 5),
        p=frozenset(policies), e=vector, embedder="bench",
    )  # fmt: skip


def _point(vcv: Vcv) -> IndexPoint:
    return IndexPoint(
        agent=vcv.agent_id, vector=vcv.c, text=vcv.description, bloom=set_positions(vcv.s), policies=vcv.p, kinds=vcv.kinds
    )


async def _time_routes(router: Router, texts: Sequence[str], vectors: Matrix) -> dict[str, list[float]]:
    """Seconds of each route, without a policy and under each label."""
    needs, times = Needs(max_usd_per_call=0.01, max_latency_seconds=3), {}
    for label in ("", *LABELS):
        policies = [label] if label else []
        for text, vector in zip(texts[:20], vectors, strict=False):
            await router.route(text=text, vector=vector, policies=policies, needs=needs)
        spent = times.setdefault(label, [])
        for text, vector in zip(texts, vectors, strict=True):
            started = time.perf_counter()
            await router.route(text=text, vector=vector, policies=policies, needs=needs)
            spent.append(time.perf_counter() - started)
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


def _brute_force(vectors: Matrix, fleet: Matrix) -> list[float]:
    times: list[float] = []
    for vector in vectors[:50]:
        started = time.perf_counter()
        scores = fleet @ vector
        top = np.argpartition(-scores, 32)[:32]
        top[np.argsort(-scores[top])]
        times.append(time.perf_counter() - started)
    return times


async def _publish(registry: Registry, embedder: WordLlamaEmbedder, updates: int, options: EdgeOptions) -> dict[str, Any]:
    """Cards at 200 a second: from the card's arrival until a search finds its agent, while an index is built."""
    keys = [new_key() for _ in range(8)]
    cards: list[bytes] = []
    for i in range(updates):
        text = f"counts {i} quokkas on isle {i * 7919}"
        vcv = await build_vcv(agent_id=f"new-{i}", version=1, name=f"quokka {i}", description=text, embedder=embedder)
        cards.append(encode_card(vcv, keys[i % 8]))
    filler = range(options.index_from)
    more = [_point(_vcv(10**7 + i, f"filler number {i}", _unit(i, embedder.dimension), set())) for i in filler]
    await registry.index.upsert(more)
    latencies: list[float] = []
    begin = time.perf_counter()
    for i, card in enumerate(cards):
        await asyncio.sleep(max(0.0, begin + i / 200 - time.perf_counter()))
        started = time.perf_counter()
        vcv = await registry.admit(card)
        hits = await registry.search(IndexQuery(vector=vcv.c, k=5))
        if vcv.agent_id not in [hit.agent for hit in hits]:
            raise RuntimeError(f"{vcv.agent_id} was published and is not found")
        latencies.append(time.perf_counter() - started)
    spread = np.percentile(latencies, [50, 99])
    return {
        "publish_to_routable_p50_ms": _ms(float(spread[0])),
        "publish_to_routable_p99_ms": _ms(float(spread[1])),
        "updates_per_second": round(updates / (time.perf_counter() - begin), 1),
    }


def _unit(seed: int, dimension: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return values / np.linalg.norm(values)


def _spread(prefix: str, seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {f"{prefix}p50_ms": _ms(float(p50)), f"{prefix}p99_ms": _ms(float(p99))}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6
