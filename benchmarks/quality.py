"""How well routing chooses: MetaTool's and Seal-Tools' queries through the real registry, index and router.

Figures are of the rows that `teaching` leaves out and of Seal-Tools' `test_in_domain` file; constants were tuned on the rows
it keeps and on Seal-Tools' `dev` file, which `--tuning` measures instead. Learned figures are means over three draws of the
outcomes, with the difference of the largest and the smallest. Baselines in the same run: BM25 alone and cosine alone, brute
force.

    metatool_top1_cold      the right one of 199 tools is first, knowing names and descriptions only
    metatool_top1_learned   the same after 2,000 graded outcomes of teaching rows
    sealtools_r5            share of the needed ones of 4,076 tools among the first five
    no_fit_auroc            the router's `fit` tells queries whose tool is there from those whose tool was removed
    refused_wrongly         share of queries whose tool is there that the default threshold refuses
    refused_rightly         the same of queries whose tool was removed
    stuffer_top1            share of queries that an agent advertising everything wins
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._data import folder, rows, teaching
from benchmarks._quality import HUMPS, Fleet, embed_requests, no_fit, ranks, share
from foa.index.words import Words
from foa.models.minilm import MiniLmEmbedder
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder
from foa.route import RouteRules
from foa.values.ids import AgentId
from foa.values.vcv import Matrix

OUTCOMES = 2_000
DRAWS = 3
_TUNING_TAUGHT = 0.8  #: share of the tuning rows that teach where the others are asked

Rows = Sequence[Mapping[str, str]]


def run(quick: bool, *, index: str = "edge", embedder: str = "wordllama", tuning: bool = False) -> dict[str, Any]:
    """Measure.

    Args:
        quick: 1,000 MetaTool rows and 200 Seal-Tools rows instead of all, and one draw of outcomes.
        index: `edge` or `exact`.
        embedder: `wordllama` or `minilm`.
        tuning: the rows on which constants are chosen instead of those that are reported.
    """
    return asyncio.run(_run(quick, index, _embedder(embedder), tuning))


async def _run(quick: bool, index: str, embedder: Embedder, tuning: bool) -> dict[str, Any]:
    meta, meta_baseline, count = await _metatool(quick, index, embedder, tuning)
    seal, seal_baseline, queries = await _sealtools(quick, index, embedder, tuning)
    split = "tuning" if tuning else "reported"
    counts = {"metatool_rows": count, "sealtools_rows": queries, "embedder": embedder.id, "rows": split}
    return {"figures": meta | seal | counts, "baseline": meta_baseline | seal_baseline, "repetitions": 1 if quick else DRAWS}


async def _metatool(quick: bool, index: str, embedder: Embedder, tuning: bool) -> tuple[dict[str, Any], dict[str, Any], int]:
    source = folder("routing_metatool")
    tools = [(row["tool"], row["description"]) for row in rows(source / "tools.jsonl")]
    queries = [row for row in rows(source / "queries_single.jsonl") if row["tool"] in dict(tools)]
    pool = [row for row in queries if teaching(row["query"])]
    asked = pool if tuning else [row for row in queries if not teaching(row["query"])]
    asked = asked[:: max(1, len(asked) // 1_000)] if quick else asked
    texts = [row["query"] for row in asked]
    vectors = await embed_requests(embedder, texts)
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    wanted = [fleet.ids[row["tool"]] for row in asked]
    started = time.perf_counter()
    cold = await fleet.route_all(texts, vectors)
    each = (time.perf_counter() - started) / len(texts)
    await fleet.registry.aclose()
    auroc, wrongly, rightly = no_fit(embedder, cold, wanted, RouteRules().fit)
    figures = {
        "metatool_top1_cold": share(ranks(cold, wanted), 1),
        "metatool_top5_cold": share(ranks(cold, wanted), 5),
        "metatool_no_fit_auroc_cold": auroc,
        "metatool_refused_wrongly": wrongly,
        "metatool_refused_rightly": rightly,
        "metatool_route_ms": round(each * 1000, 3),
        "stuffer_top1": await _stuffer(embedder, index, tools, texts[:1_000], vectors[:1_000]),
    }
    draws = [
        await _learned(embedder, index, tools, pool, asked, vectors, draw, tuning) for draw in range(1 if quick else DRAWS)
    ]
    return (
        figures | _summary(draws),
        await _plain("metatool", embedder, tools, texts, [row["tool"] for row in asked]),
        len(asked),
    )


async def _learned(
    embedder: Embedder, index: str, tools: Sequence[tuple[str, str]], pool: Rows, asked: Rows, vectors: Matrix,
    draw: int, tuning: bool,
) -> dict[str, float]:  # fmt: skip
    """Teach outcomes drawn from the pool, in the order of the draw, and ask."""
    order = np.random.default_rng(draw).permutation(len(pool))
    taught = order[: int(_TUNING_TAUGHT * len(pool))] if tuning else order[:OUTCOMES]
    left_out = {pool[i]["query"] for i in order[len(taught) :]}
    keep = [i for i, row in enumerate(asked) if not tuning or row["query"] in left_out]
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    await fleet.learn([pool[i] for i in taught])
    routings = await fleet.route_all([asked[i]["query"] for i in keep], vectors[keep])
    await fleet.registry.aclose()
    wanted = [fleet.ids[asked[i]["tool"]] for i in keep]
    auroc, wrongly, rightly = no_fit(embedder, routings, wanted, RouteRules().fit)
    return {
        "metatool_top1_learned": share(ranks(routings, wanted), 1),
        "metatool_top5_learned": share(ranks(routings, wanted), 5),
        "metatool_no_fit_auroc_learned": auroc,
        "metatool_refused_wrongly_learned": wrongly,
        "metatool_refused_rightly_learned": rightly,
        "metatool_outcomes": len(taught),
    }


def _summary(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure, and its spread where it differs."""
    found: dict[str, float] = {}
    for name in draws[0]:
        values = [draw[name] for draw in draws]
        found[name] = round(float(np.mean(values)), 4)
        if max(values) > min(values):
            found[f"{name}_spread"] = round(max(values) - min(values), 4)
    return found


async def _stuffer(
    embedder: Embedder, index: str, tools: Sequence[tuple[str, str]], texts: Sequence[str], vectors: Matrix
) -> float:
    """An agent that advertises every tool's words: 2,000 characters of description and 128 skills."""
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    every = " ".join(description for _, description in tools)
    words = list(dict.fromkeys(re.findall(r"[a-z]{4,}", every.lower())))
    await fleet.add([("does everything", " ".join(words)[:2_000])], skills=[name[:64] for name, _ in tools[:128]])
    stuffer = fleet.ids["does everything"]
    won = np.mean([routing.candidates[0].agent == stuffer for routing in await fleet.route_all(texts, vectors)])
    await fleet.registry.aclose()
    return round(float(won), 4)


async def _sealtools(
    quick: bool, index: str, embedder: Embedder, tuning: bool
) -> tuple[dict[str, Any], dict[str, Any], int]:
    source = folder("routing_sealtools")
    tools = [(row["api_name"], _describe(row)) for row in rows(source / "tools.jsonl")]
    known = dict(tools)
    file = source / ("dev.jsonl" if tuning else "test_in_domain.jsonl")
    asked = [row for row in rows(file) if any(n["tool"] in known for n in row["nodes"])]
    asked = asked[:: max(1, len(asked) // 200)] if quick else asked
    fleet = Fleet(embedder, index)
    await fleet.add(tools)
    texts = [row["query"] for row in asked]
    routings = await fleet.route_all(texts, await embed_requests(embedder, texts))
    await fleet.registry.aclose()
    needed = [{fleet.ids[n["tool"]] for n in row["nodes"] if n["tool"] in known} for row in asked]
    found = [{c.agent for c in routing.candidates[:5]} for routing in routings]
    single = [i for i, agents in enumerate(needed) if len(agents) == 1]
    auroc, wrongly, rightly = no_fit(
        embedder, [routings[i] for i in single], [next(iter(needed[i])) for i in single], RouteRules().fit
    )
    figures = {
        "sealtools_r5": round(float(np.mean([len(n & f) / len(n) for n, f in zip(needed, found, strict=True)])), 4),
        "no_fit_auroc": auroc,
        "sealtools_refused_wrongly": wrongly,
        "sealtools_refused_rightly": rightly,
    }
    names = [[n["tool"] for n in row["nodes"] if n["tool"] in known] for row in asked]
    return figures, await _plain_recall("sealtools", embedder, tools, texts, names), len(asked)


def _describe(row: dict[str, Any]) -> str:
    """What a tool's author says of it: description, field, and its parameters with theirs."""
    parameters = (f"{HUMPS.sub(' ', name)} {facts.get('description', '')}" for name, facts in row["parameters"].items())
    return "\n".join([row["api_description"], row["field"].split("/")[-1], *parameters])


async def _scores(embedder: Embedder, tools: Sequence[tuple[str, str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Brute force: every query against every tool, by words alone and by cosine alone."""
    words = Words()
    for i, (name, description) in enumerate(tools):
        words.put(AgentId(str(i)), f"{HUMPS.sub(' ', name)}\n{description}")
    lexical = np.zeros((len(texts), len(tools)), np.float32)
    for i, text in enumerate(texts):
        for agent, score in words.search(text).items():
            lexical[i, int(agent)] = score
    profiles = await embedder.embed([f"{HUMPS.sub(' ', name)}\n{description}" for name, description in tools])
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
    return CachedEmbedder(made(), capacity=50_000)  # texts come again in every draw
