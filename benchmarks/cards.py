"""How many cards a second a registry takes: signature, every check, embeddings, roster, shelf and index included.

    admit_per_second         one card after the other, each found before the next is taken
    admit_batch_per_second   all at once, as after a reconnection
    start_10k_s              a start with so many retained cards: from the subscription until the last one is found by search
    …_cpu_us_each            processor time of this process for each card, which a busy machine blurs less
    …_longest_wait_ms        how long the event loop was away at worst; `…_p99_wait_ms` is of its turns that took over 1 ms

The cards are of real authors' text (`_profiles.py`), with four skills and two examples: six or seven vectors each.
The broker of `start_10k_s` is the embedded one, in a process of its own. The index is the default one, in a fresh folder.
Baselines, in the same run: decoding and checking cards alone, and the same cards into an index that is searched exactly.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._profiles import profiles
from benchmarks.broker import embedded
from foa.app.clock import SystemClock
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import IndexQuery, VectorIndex
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, decode_card, encode_card
from foa.registry.keys import new_key
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.shelf import FileShelf
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics

_KEYS = 8
_TOPICS = Topics("foa")
_Card = tuple[AgentId | None, bytes]


class _Taken(NamedTuple):
    """What taking some cards took."""

    seconds: float
    per_second: float
    cpu_us: float  #: processor time of this process for each card, all threads: what a busy machine blurs least
    waits: list[float]  #: milliseconds

    @classmethod
    def since(cls, started: float, spent: float, cards: int, waits: list[float]) -> "_Taken":
        seconds = time.perf_counter() - started
        return cls(seconds, cards / seconds, 1e6 * (time.process_time() - spent) / cards, waits)


def run(quick: bool, *, cards: int = 0, retained: int = 0, repetitions: int = 0) -> dict[str, Any]:
    """Measure.

    Args:
        quick: 500 cards, 1,000 retained ones, once.
        cards: taken one by one and at once; 0: 2,000.
        retained: cards that the broker holds at the start; 0: 10,000.
        repetitions: 0: 3.
    """
    times = repetitions or (1 if quick else 3)
    return asyncio.run(_run(cards or (500 if quick else 2_000), retained or (1_000 if quick else 10_000), times))


async def _run(count: int, retained: int, times: int) -> dict[str, Any]:
    embedder = WordLlamaEmbedder()
    cards = await _cards(max(count, retained), embedder)
    few = cards[:count]
    single = [await _one_by_one(few, embedder) for _ in range(times)]
    batches = [await _at_once(few, embedder) for _ in range(times)]
    starts = [await _start(cards[:retained], embedder) for _ in range(times)]
    exact = [await _at_once(few, embedder, ExactIndex(embedder.dimension)) for _ in range(times)]
    return {
        "figures": {
            "cards": count,
            "card_bytes": round(statistics.mean(len(card) for _, card in few)),
            **_spread("admit_per_second", [taken.per_second for taken in single]),
            **_spread("admit_cpu_us_each", [taken.cpu_us for taken in single]),
            **_spread("admit_batch_per_second", [taken.per_second for taken in batches]),
            **_spread("admit_batch_cpu_us_each", [taken.cpu_us for taken in batches]),
            **_waits("batch", batches),
            "retained": retained,
            **_spread("start_10k_s" if retained == 10_000 else "start_s", [taken.seconds for taken in starts]),
            **_spread("start_cpu_us_each", [taken.cpu_us for taken in starts]),
            **_waits("start", starts),
        },
        "baseline": {
            **_spread("open_card_per_second", [_opened(few) for _ in range(times)]),
            **_spread("exact_admit_batch_per_second", [taken.per_second for taken in exact]),
        },
        "repetitions": times,
    }


async def _cards(count: int, embedder: WordLlamaEmbedder) -> list[_Card]:
    keys, made = [new_key() for _ in range(_KEYS)], list[_Card]()
    for i, text in enumerate(profiles(count)):
        vcv = await build_vcv(
            agent_id=f"agent-{i}", version=1, name=f"Agent {i}", description=text[:1_500], embedder=embedder,
            skills=[word for word in text.lower().split() if 7 < len(word) < 60][:4],
            examples=[f"please {text[:60]}", f"can you {text[-60:]}"], issued_at=1.0,
        )  # fmt: skip
        made.append((vcv.agent_id, encode_card(vcv, keys[i % _KEYS])))
    return made


@asynccontextmanager
async def _registry(embedder: WordLlamaEmbedder, index: VectorIndex | None = None) -> AsyncGenerator[Registry]:
    with tempfile.TemporaryDirectory(prefix="foa-bench-") as name:
        index = index or EdgeIndex(embedder.dimension, path=Path(name) / "index")
        limits, shelf = RegistryLimits(updates_per_second=1e6), FileShelf(Path(name) / "cards.db")
        registry = Registry(index, embedder, clock=SystemClock(), limits=limits, shelf=shelf)
        try:
            yield registry
        finally:
            await registry.aclose()


async def _one_by_one(cards: Sequence[_Card], embedder: WordLlamaEmbedder) -> _Taken:
    async with _registry(embedder) as registry, _watched() as waits:
        started, spent = time.perf_counter(), time.process_time()
        for agent, card in cards:
            await registry.admit(card, agent=agent)
        taken = _Taken.since(started, spent, len(cards), waits)
        await _expect_found(registry, cards[-1][1])
    return taken


async def _at_once(cards: Sequence[_Card], embedder: WordLlamaEmbedder, index: VectorIndex | None = None) -> _Taken:
    async with _registry(embedder, index) as registry, _watched() as waits:
        started, spent = time.perf_counter(), time.process_time()
        await registry.admit_many(cards)
        taken = _Taken.since(started, spent, len(cards), waits)
        await _expect_found(registry, cards[-1][1])
    return taken


async def _start(cards: Sequence[_Card], embedder: WordLlamaEmbedder) -> _Taken:
    """A registry that starts, until it has every retained card."""
    async with embedded(False) as server:
        url = f"mqtt://127.0.0.1:{server.port}"
        async with MqttTransport(url, client_id="agents") as agents:
            for agent, card in cards:
                await agents.publish(Publication(topic=_TOPICS.capability(str(agent)), payload=card, retain=True))
        async with (
            MqttTransport(url, client_id="zero") as ears,
            _registry(embedder) as registry,
            asyncio.TaskGroup() as group,
            _watched() as waits,
        ):
            hear = listen(registry, ears, topics=_TOPICS, clock=SystemClock(), name="zero")
            started, spent = time.perf_counter(), time.process_time()
            task = group.create_task(hear, name="listen")
            await registry.known([agent for agent, _ in cards if agent])
            await _expect_found(registry, cards[-1][1])
            taken = _Taken.since(started, spent, len(cards), waits)
            task.cancel()
    return taken


async def _expect_found(registry: Registry, card: bytes) -> None:
    vcv = decode_card(card)
    if vcv.agent_id not in [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=50))]:
        raise RuntimeError(f"{vcv.agent_id} was published and is not found")


@asynccontextmanager
async def _watched() -> AsyncGenerator[list[float]]:
    """How long the event loop was away between its turns, milliseconds; what is under one does not count."""
    waits = [0.0]

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            if (wait := 1_000 * (now - last) - 1) > 1:
                waits.append(wait)
            last = now

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch(), name="watch")
        try:
            yield waits
        finally:
            task.cancel()


def _waits(name: str, taken: Sequence[_Taken]) -> dict[str, float]:
    waits = [wait for one in taken for wait in one.waits]
    p99 = round(float(np.percentile(waits, 99)), 1)
    return {f"{name}_longest_wait_ms": round(max(waits), 1), f"{name}_p99_wait_ms": p99}


def _opened(cards: Sequence[_Card]) -> float:
    started = time.perf_counter()
    for _, card in cards:
        decode_card(card)
    return len(cards) / (time.perf_counter() - started)


def _spread(name: str, values: Sequence[float]) -> dict[str, Any]:
    """The median, and from the least to the most."""
    digits = 0 if min(values) > 100 else 2
    low, middle, high = (round(value, digits) for value in (min(values), statistics.median(values), max(values)))
    return {name: middle, f"{name}_spread": [low, high]}
