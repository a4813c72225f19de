"""What `quality` measures with: a registry of tools behind the router, and what it counts."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from foa.app.clock import SystemClock
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.ports import Embedder
from foa.registry.admission import RegistryLimits
from foa.registry.calibration import calibration_of
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation
from foa.route import Router, RouteRules, Routing
from foa.values.ids import AgentId
from foa.values.vcv import Matrix

HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_")
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")
_AT_ONCE = 512  #: cards admitted together


class Fleet:
    """Tools as agents, in a registry, with a router in front."""

    def __init__(self, embedder: Embedder, index: str) -> None:
        clock = SystemClock()
        limits = RegistryLimits(allow_unsigned=False, embed_seconds=600.0)  # how busy the machine is changes no figure
        store = EdgeIndex(embedder.dimension) if index == "edge" else ExactIndex(embedder.dimension)
        self.embedder = embedder
        self.registry = Registry(store, embedder, clock=clock, limits=limits)
        rules = RouteRules(threshold=0.0, fit=0.0, reputation=False)
        self.router = Router(self.registry, embedder, Reputation(), clock=clock, rules=rules)
        self.ids: dict[str, str] = {}
        self._key = new_key()

    async def add(self, tools: Sequence[tuple[str, str]], *, skills: Sequence[str] = ()) -> None:
        """Admit tools: name and description."""
        for start in range(0, len(tools), _AT_ONCE):
            await self._add(tools[start : start + _AT_ONCE], skills)

    async def _add(self, tools: Sequence[tuple[str, str]], skills: Sequence[str]) -> None:
        cards: list[tuple[AgentId | None, bytes]] = []
        for name, description in tools:
            agent = f"t{len(self.ids)}-{_NOT_ID.sub('-', name)[:40]}"
            self.ids[name] = agent
            vcv = await build_vcv(
                agent_id=agent,
                version=1,
                name=HUMPS.sub(" ", name)[:128],
                description=description[:2_000],
                skills=skills,
                embedder=self.embedder,
            )
            cards.append((None, encode_card(vcv, self._key)))
        for result in await self.registry.admit_many(cards):
            if isinstance(result, Exception):
                raise result

    async def route_all(self, texts: Sequence[str], vectors: Matrix) -> list[Routing]:
        """Route texts that were embedded before."""
        return [await self.router.route(text=t, vector=v) for t, v in zip(texts, vectors, strict=True)]

    async def learn(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Let each query's right tool have done it well."""
        await self.registry.learn([self._outcome(i, row["query"], self.ids[row["tool"]]) for i, row in enumerate(rows)])

    def _outcome(self, i: int, text: str, agent: str) -> Outcome:
        at = SystemClock().now()
        return Outcome(agent=agent, kind="general", job=f"job-{i}", subtask="s", grade=1.0, at=at, text=text)


async def embed_requests(embedder: Embedder, texts: Sequence[str]) -> Matrix:
    """Embed requests as the router does, all at once; shape (len(texts), d)."""
    return await embedder.embed([calibration_of(embedder.id).request(text) for text in texts])


def ranks(routings: Sequence[Routing], wanted: Sequence[str]) -> list[int]:
    """The place of the wanted agent in each routing, from 0; 10⁶ where it is not."""
    orders = [[candidate.agent for candidate in routing.candidates] for routing in routings]
    return [order.index(agent) if agent in order else 10**6 for order, agent in zip(orders, wanted, strict=True)]


def share(found: Sequence[int], k: int) -> float:
    """The share of places among the first k."""
    return round(float(np.mean([rank < k for rank in found])), 4)


def no_fit(embedder: Embedder, routings: Sequence[Routing], wanted: Sequence[str], threshold: float) -> tuple[float, ...]:
    """How well `fit` tells whether the right agent is there.

    Returns:
        The AUROC of `fit` with it there and with it taken out; the share below the threshold of the former (refused
        wrongly), and of the latter (rightly).
    """
    fit = calibration_of(embedder.id).fit
    there, gone = np.zeros(len(routings)), np.zeros(len(routings))
    for i, (routing, agent) in enumerate(zip(routings, wanted, strict=True)):
        similarity = {candidate.agent: candidate.factors.similarity for candidate in routing.candidates}
        there[i] = fit(np.array(list(similarity.values())))
        gone[i] = fit(np.array([one for other, one in similarity.items() if other != agent] or [0.0]))
    shares = (float((fits < threshold).mean()) for fits in (there, gone))
    return tuple(round(figure, 4) for figure in (auroc(there, gone), *shares))


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Give the probability that a positive is above a negative, ties half."""
    both = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    places = (ends - (counts - 1) / 2)[inverse]
    n = len(positive)
    return float((places[:n].sum() - n * (n + 1) / 2) / (n * len(negative)))
