"""What it costs to keep two orchestrators' registries alike: bytes for ten changes, and time after an hour apart.

`bytes` is everything both sides say until they are alike again after ten changes, where the push of the changes was lost:
digests, what differs, cards. `converged_s` is the time after an hour apart, in which one agent in ten changed. Baselines, in
the same run: the changed cards alone, and the full state sent to a third orchestrator that knows nothing.
"""

import asyncio
import time
from typing import Any

from benchmarks._profiles import profiles
from foa.app.clock import SystemClock
from foa.index.exact import ExactIndex
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, encode_card
from foa.registry.gossip import Gossip
from foa.registry.keys import SigningKey, new_key, public_key
from foa.registry.registry import Registry
from foa.values.ids import OrchestratorId


def run(quick: bool, *, agents: int = 0, changes: int = 10) -> dict[str, Any]:
    """Measure.

    Args:
        quick: changes nothing: with fewer agents the digests would be another share of the bytes.
        agents: known to both sides at the start; 0: 10,000.
        changes: agents that publish a new version.
    """
    return asyncio.run(_run(agents or 10_000, changes))


async def _run(count: int, changes: int) -> dict[str, Any]:
    embedder, key, keys = WordLlamaEmbedder(), new_key(), {name: new_key() for name in "xyz"}
    texts = list(profiles(count))
    cards = [await _card(i, 1, text, embedder, key) for i, text in enumerate(texts)]
    sides = {name: _side(name, keys, embedder) for name in "xyz"}
    for side in (sides["x"], sides["y"]):
        await side.registry.admit_many([(None, card) for card in cards])
        side.push()
    step = max(1, count // changes)
    changed = [await _card(i, 2, f"{texts[i]} Now faster.", embedder, key) for i in range(0, count, step)][:changes]
    await sides["x"].registry.admit_many([(None, card) for card in changed])
    pushed = sum([len(message) for message in sides["x"].push()])
    # the push is lost: the digest alone must find what differs
    started = time.perf_counter()
    spoken = await _converge(sides, "x", "y")
    repaired = time.perf_counter() - started
    vcv_bytes = sum(len(card) for card in changed)
    # an hour apart: one in ten changed on either side
    for name, start in (("x", 0), ("y", 1)):
        news = [await _card(i, 3, f"{texts[i]} And again.", embedder, key) for i in range(start, count, 20)]
        await sides[name].registry.admit_many([(None, card) for card in news])
        sides[name].push()
    started = time.perf_counter()
    hour_bytes = await _converge(sides, "x", "y")
    converged = time.perf_counter() - started
    started = time.perf_counter()
    full_bytes = await _converge(sides, "x", "z")
    full = time.perf_counter() - started
    return {
        "figures": {
            "agents": count,
            "bytes": spoken,
            "vcv_bytes": vcv_bytes,
            "ratio": round(spoken / vcv_bytes, 3),
            "pushed_bytes": pushed,
            "repaired_s": round(repaired, 3),
            "converged_s": round(converged, 3),
            "converged_bytes": hour_bytes,
            "converged_changes": 2 * len(range(0, count, 20)),
        },
        "baseline": {
            "changed_cards_bytes": vcv_bytes,
            "all_cards_bytes": sum(len(card) for card in cards),
            "full_state_bytes": full_bytes,
            "full_state_s": round(full, 3),
        },
        "repetitions": 1,
    }


def _side(name: str, keys: dict[str, SigningKey], embedder: Embedder) -> Gossip:
    limits = RegistryLimits(updates_burst=10**6, search_vectors=0)
    registry = Registry(ExactIndex(embedder.dimension), embedder, clock=SystemClock(), limits=limits)
    peers = {other: public_key(key) for other, key in keys.items()}
    return Gossip(registry, me=OrchestratorId(name), key=keys[name], peers=peers, clock=SystemClock())


async def _card(i: int, version: int, text: str, embedder: Embedder, key: SigningKey) -> bytes:
    vcv = await build_vcv(
        agent_id=f"agent-{i}", version=version, name=f"Agent {i}", description=text[:2_000], embedder=embedder,
        skills=[word for word in text.lower().split() if 7 < len(word) < 60][:6],
    )  # fmt: skip
    return encode_card(vcv, key)


async def _converge(sides: dict[str, Gossip], one: str, other: str) -> int:
    """Let two sides talk until their digests agree; gives the bytes spoken."""
    spoken = 0
    while sides[one].ledger.digest(1_024) != sides[other].ledger.digest(1_024):
        waiting = [(one, sides[one].digest())]
        while waiting:
            who, message = waiting.pop(0)
            spoken += len(message)
            hearer = other if who == one else one
            waiting += [(hearer, answer) for answer in await sides[hearer].hear(message)]
    return spoken
