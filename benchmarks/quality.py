"""How well routing chooses: MetaTool's and Seal-Tools' queries through the real registry, index and router.

Figures are of the rows that `teaching` leaves out; constants were tuned on the rows it keeps, and on Seal-Tools' `dev` file.
Baselines in the same run: BM25 alone and cosine alone, brute force.

    metatool_top1_cold      the right one of 199 tools is first, knowing names and descriptions only
    metatool_top1_learned   the same after 2,000 graded outcomes of teaching rows
    sealtools_r5            share of the needed ones of 4,076 tools among the first five
    no_fit_auroc            the router's `fit` tells queries whose tool is there from those whose tool was removed
    stuffer_top1            share of queries that an agent advertising everything wins
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._data import folder, rows, teaching
from foa.app.clock import SystemClock
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.index.words import Words
from foa.models.minilm import MiniLmEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation
from foa.route import Router, RouteRules, Routing
from foa.values.ids import AgentId

OUTCOMES = 2_000
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")


def run(quick: bool, *, index: str = "edge", embedder: str = "wordllama") -> dict[str, Any]:
    """Measure.

    Args:
        quick: 1,000 MetaTool rows and 200 Seal-Tools rows instead of all.
        index: `edge` or `exact`.
        embedder: `wordllama` or `minilm`.
    """
    return asyncio.run(_run(quick, index, _embedder(embedder)))


async def _run(quick: bool, index: str, embedder: Embedder) -> dict[str, Any]:
    meta, meta_baseline, count = await _metatool(quick, index, embedder)
    seal, seal_baseline, queries = await _sealtools(quick, index, embedder)
    return {
        "figures": meta | seal | {"metatool_rows": count, "sealtools_rows": queries, "embedder": embedder.id},
        "baseline": meta_baseline | seal_baseline,
        "repetitions": 1,
    }


class Fleet:
    """Tools as agents, in a registry with a router in front."""

    def __init__(self, embedder: Embedder, index: str) -> None:
        clock = SystemClock()
        limits = RegistryLimits(allow_unsigned=False)
        store = EdgeIndex(embedder.dimension) if index == "edge" else ExactIndex(embedder.dimension)
        self.embedder = embedder
        self.registry = Registry(store, embedder, clock=clock, limits=limits)
        rules = RouteRules(threshold=0.0, fit=0.0, reputation=False)
        self.router = Router(self.registry, embedder, Reputation(), clock=clock, rules=rules)
        self.ids: dict[str, str] = {}
        self._key = new_key()

    async def add(self, tools: Sequence[tuple[str, str]], *, skills: Sequence[str] = ()) -> None:
        """Admit tools: name and description."""
        cards: list[tuple[AgentId | None, bytes]] = []
        for name, description in tools:
            agent = f"t{len(self.ids)}-{_NOT_ID.sub('-', name)[:40]}"
            self.ids[name] = agent
            vcv = await build_vcv(
                agent_id=agent,
                version=1,
                name=_HUMPS.sub(" ", name)[:128],
                description=description[:2_000],
                skills=skills,
                embedder=self.embedder,
            )
            cards.append((None, encode_card(vcv, self._key)))
        for result in await self.registry.admit_many(cards):
            if isinstance(result, Exception):
                raise result

    async def route_all(self, texts: Sequence[str]) -> list[Routing]:
        """Route texts, embedded together."""
        vectors = await self.embedder.embed(texts)
        return [await self.router.route(text=t, vector=v) for t, v in zip(texts, vectors, strict=True)]


def _ranks(routings: Sequence[Routing], wanted: Sequence[str]) -> list[int]:
    """The place of the wanted agent in each routing, from 0; 10⁶ where it is not."""
    orders = [[candidate.agent for candidate in routing.candidates] for routing in routings]
    return [order.index(agent) if agent in order else 10**6 for order, agent in zip(orders, wanted, strict=True)]


def _share(ranks: Sequence[int], k: int) -> float:
    return round(float(np.mean([rank < k for rank in ranks])), 4)


async def _metatool(quick: bool, index: str, embedder: Embedder) -> tuple[dict[str, Any], dict[str, Any], int]:
    source = folder("routing_metatool")
    tools = [(row["tool"], row["description"]) for row in rows(source / "tools.jsonl")]
    queries = [row for row in rows(source / "queries_single.jsonl") if row["tool"] in dict(tools)]
    taught = [row for row in queries if teaching(row["query"])][:OUTCOMES]
    asked = [row for row in queries if not teaching(row["query"])]
    asked = asked[:: max(1, len(asked) // 1_000)] if quick else asked
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    texts, wanted = [row["query"] for row in asked], [fleet.ids[row["tool"]] for row in asked]
    started = time.perf_counter()
    cold = await fleet.route_all(texts)
    each = (time.perf_counter() - started) / len(texts)
    await fleet.registry.learn([_outcome(i, row["query"], fleet.ids[row["tool"]]) for i, row in enumerate(taught)])
    learned = await fleet.route_all(texts)
    await fleet.registry.aclose()
    figures = {
        "metatool_top1_cold": _share(_ranks(cold, wanted), 1),
        "metatool_top5_cold": _share(_ranks(cold, wanted), 5),
        "metatool_top1_learned": _share(_ranks(learned, wanted), 1),
        "metatool_top5_learned": _share(_ranks(learned, wanted), 5),
        "metatool_no_fit_auroc_cold": _no_fit(cold, wanted),
        "metatool_no_fit_auroc_learned": _no_fit(learned, wanted),
        "metatool_outcomes": len(taught),
        "metatool_route_ms": round(each * 1000, 3),
        "stuffer_top1": await _stuffer(embedder, index, tools, texts[:1_000]),
    }
    return figures, await _plain("metatool", embedder, tools, texts, [row["tool"] for row in asked]), len(asked)


def _outcome(i: int, text: str, agent: str) -> Outcome:
    return Outcome(agent=agent, kind="general", job=f"job-{i}", subtask="s", grade=1.0, at=SystemClock().now(), text=text)


def _no_fit(routings: Sequence[Routing], wanted: Sequence[str]) -> float:
    """AUROC of the best α, with the right agent there and with it taken out."""
    there: list[float] = []
    gone: list[float] = []
    for routing, agent in zip(routings, wanted, strict=True):
        alphas = {c.agent: c.factors.similarity * c.factors.resources * c.factors.spec for c in routing.candidates}
        there.append(max(alphas.values()))
        gone.append(max((alpha for other, alpha in alphas.items() if other != agent), default=0.0))
    return round(auroc(np.array(there), np.array(gone)), 4)


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Give the probability that a positive is above a negative, ties half."""
    both = np.concatenate([positive, negative])
    values, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    del values
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    n = len(positive)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negative)))


async def _stuffer(embedder: Embedder, index: str, tools: Sequence[tuple[str, str]], texts: Sequence[str]) -> float:
    """An agent that advertises every tool's words: 2,000 characters of description and 128 skills."""
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    every = " ".join(description for _, description in tools)
    words = list(dict.fromkeys(re.findall(r"[a-z]{4,}", every.lower())))
    await fleet.add([("does everything", " ".join(words)[:2_000])], skills=[name[:64] for name, _ in tools[:128]])
    stuffer = fleet.ids["does everything"]
    won = np.mean([routing.candidates[0].agent == stuffer for routing in await fleet.route_all(texts)])
    await fleet.registry.aclose()
    return round(float(won), 4)


async def _sealtools(quick: bool, index: str, embedder: Embedder) -> tuple[dict[str, Any], dict[str, Any], int]:
    source = folder("routing_sealtools")
    tools = [(row["api_name"], _describe(row)) for row in rows(source / "tools.jsonl")]
    known = dict(tools)
    asked = [row for row in rows(source / "test_in_domain.jsonl") if any(n["tool"] in known for n in row["nodes"])]
    asked = asked[:: max(1, len(asked) // 200)] if quick else asked
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    texts = [row["query"] for row in asked]
    routings = await fleet.route_all(texts)
    await fleet.registry.aclose()
    needed = [{fleet.ids[n["tool"]] for n in row["nodes"] if n["tool"] in known} for row in asked]
    found = [{c.agent for c in routing.candidates[:5]} for routing in routings]
    single = [i for i, agents in enumerate(needed) if len(agents) == 1]
    figures = {
        "sealtools_r5": round(float(np.mean([len(n & f) / len(n) for n, f in zip(needed, found, strict=True)])), 4),
        "no_fit_auroc": _no_fit([routings[i] for i in single], [next(iter(needed[i])) for i in single]),
    }
    names = [[n["tool"] for n in row["nodes"] if n["tool"] in known] for row in asked]
    return figures, await _plain_recall("sealtools", embedder, tools, texts, names), len(asked)


def _describe(row: dict[str, Any]) -> str:
    """What a tool's author says of it: description, field, and its parameters with theirs."""
    parameters = (f"{_HUMPS.sub(' ', name)} {facts.get('description', '')}" for name, facts in row["parameters"].items())
    return "\n".join([row["api_description"], row["field"].split("/")[-1], *parameters])


async def _scores(embedder: Embedder, tools: Sequence[tuple[str, str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Brute force: every query against every tool, by words alone and by cosine alone."""
    words = Words()
    for i, (name, description) in enumerate(tools):
        words.put(AgentId(str(i)), f"{_HUMPS.sub(' ', name)}\n{description}")
    lexical = np.zeros((len(texts), len(tools)), np.float32)
    for i, text in enumerate(texts):
        for agent, score in words.search(text).items():
            lexical[i, int(agent)] = score
    profiles = await embedder.embed([f"{_HUMPS.sub(' ', name)}\n{description}" for name, description in tools])
    return {"bm25": lexical, "dense": (await embedder.embed(texts)) @ profiles.T}


async def _plain(
    what: str, embedder: Embedder, tools: Sequence[tuple[str, str]], texts: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any]:
    place = {name: i for i, (name, _) in enumerate(tools)}
    target = np.array([place[name] for name in wanted])
    scores = await _scores(embedder, tools, texts)
    return {
        f"{what}_top{k}_{how}": round(float((np.argsort(-score, axis=1)[:, :k] == target[:, None]).any(axis=1).mean()), 4)
        for how, score in scores.items()
        for k in (1, 5)
    }


async def _plain_recall(
    what: str, embedder: Embedder, tools: Sequence[tuple[str, str]], texts: Sequence[str], wanted: Sequence[Sequence[str]]
) -> dict[str, Any]:
    place = {name: i for i, (name, _) in enumerate(tools)}
    found: dict[str, Any] = {}
    for how, score in (await _scores(embedder, tools, texts)).items():
        best = np.argsort(-score, axis=1)[:, :5]
        shares = [
            len({place[n] for n in set(names)} & set(row)) / len(set(names)) for names, row in zip(wanted, best, strict=True)
        ]
        found[f"{what}_r5_{how}"] = round(float(np.mean(shares)), 4)
    return found


def _embedder(name: str) -> Embedder:
    made = {"wordllama": WordLlamaEmbedder, "minilm": MiniLmEmbedder}.get(name)
    if made is None:
        raise SystemExit(f"there is no embedder {name!r} here: use wordllama or minilm")
    return made()
