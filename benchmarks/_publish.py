"""From a card's arrival until a search finds its agent, at a fixed rate that waits for nobody, while an index is built.

Cards are due at fixed moments, and latency counts from there: a registry that falls behind shows it. Those that are due
together are admitted together, as the listener does it, and are routable together: the one that waited longest is searched
for, before the next ones are taken. At the end every one of them is searched for.
"""

import asyncio
import time
from typing import Any

import numpy as np

from benchmarks._fleet import made, point
from foa.errors import BadCapability
from foa.index.shard import EdgeOptions
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import IndexQuery
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.listen import BATCH
from foa.registry.registry import Registry
from foa.values.vcv import Vcv

PER_SECOND = 200
_KEYS = 8


async def publish(registry: Registry, embedder: WordLlamaEmbedder, updates: int, options: EdgeOptions) -> dict[str, Any]:
    """Publish so many cards, `PER_SECOND`; gives the figures."""
    cards = await _cards(updates, embedder)
    filler = [made(10**7 + i, f"filler number {i}", _unit(i, embedder.dimension), set()) for i in range(options.index_from)]
    for vcv in filler:
        registry.roster.put(vcv, vcv.e)
    await registry.index.upsert([point(vcv) for vcv in filler])  # and a build begins
    latencies, sizes, found = list[float](), list[int](), list[Vcv]()
    begin = time.perf_counter()
    while len(found) < updates:
        first = len(found)
        await asyncio.sleep(begin + first / PER_SECOND - time.perf_counter())
        due = min(updates, first + BATCH, 1 + max(first, int((time.perf_counter() - begin) * PER_SECOND)))
        found += await _admit(registry, cards[first:due])
        await _expect_found(registry, found[first])
        latencies += [time.perf_counter() - begin - i / PER_SECOND for i in range(first, due)]
        sizes.append(due - first)
    spent = time.perf_counter() - begin
    for vcv in found:
        await _expect_found(registry, vcv)
    spread = np.percentile(latencies, [50, 99]) * 1_000
    return {
        "publish_to_routable_p50_ms": round(float(spread[0]), 3),
        "publish_to_routable_p99_ms": round(float(spread[1]), 3),
        "publish_most_at_once": max(sizes),
        "updates_per_second": round(updates / spent, 1),
    }


async def _cards(count: int, embedder: WordLlamaEmbedder) -> list[bytes]:
    keys, cards = [new_key() for _ in range(_KEYS)], list[bytes]()
    for i in range(count):
        text = f"counts {i} quokkas on isle {i * 7919}"
        vcv = await build_vcv(agent_id=f"new-{i}", version=1, name=f"quokka {i}", description=text, embedder=embedder)
        cards.append(encode_card(vcv, keys[i % _KEYS]))
    return cards


async def _admit(registry: Registry, cards: list[bytes]) -> list[Vcv]:
    results = await registry.admit_many([(None, card) for card in cards])
    for result in results:
        if isinstance(result, BadCapability):
            raise result
    return [result for result in results if isinstance(result, Vcv)]


async def _expect_found(registry: Registry, vcv: Vcv) -> None:
    hits = await registry.search(IndexQuery(vector=vcv.c, k=5))
    if vcv.agent_id not in [hit.agent for hit in hits]:
        raise RuntimeError(f"{vcv.agent_id} was published and is not found")


def _unit(seed: int, dimension: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return values / np.linalg.norm(values)
