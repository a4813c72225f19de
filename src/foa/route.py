"""Route a piece of work: neighbours from the index, the policy gate, the score (eq. 2); candidates, and why not the others.

    text ─► embed ─► search, filtered by policy, skills and kind ─► score ─► α ≥ τ ─► candidates, best first
                  └► search, unfiltered ─► who was near and may not: refusals with reasons

Policy is a gate and never relaxed. When no α reaches τ, the nearest that passed the gate are taken, and it is said.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foa.errors import Unroutable
from foa.ports import Clock, Embedder, Hit, IndexQuery
from foa.registry.bloom import has_skills, positions
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.registry.score import ScoreRules, fuse, gaps, need_row, resource_factor, spec_factor
from foa.values.ids import AgentId
from foa.values.resources import Needs
from foa.values.result import Candidate, Factors
from foa.values.vcv import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRules:
    """How candidates are chosen."""

    threshold: float = 0.3  #: τ, on α of eq. 2 without reputation (FOE_DECOMP_THRESHOLD)
    fallback: int = 4  #: how many of the nearest are taken where no α reaches τ
    explained: int = 16  #: most refusals told
    words: bool = True  #: fuse BM25 with the cosine
    reputation: bool = True  #: multiply by reputation
    score: ScoreRules = ScoreRules()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routing:
    """Who may take the work, and who was near and may not."""

    candidates: tuple[Candidate, ...]  #: best first
    refusals: Mapping[AgentId, str]  #: why not, of those that were near
    fallback: str  #: why the threshold was left, or empty
    vector: Vector  #: the embedded text
    slots: Mapping[str, int]  #: requests each candidate takes at once (cap_j of eq. 3)
    fit: float  #: how well the best one fits, 0 to 1 (its α); small: say that no agent fits


class Router:
    """Finds agents. It holds nothing of its own but its rules."""

    def __init__(
        self,
        registry: Registry,
        embedder: Embedder,
        reputation: Reputation,
        *,
        clock: Clock,
        rules: RouteRules | None = None,
    ) -> None:
        self.registry = registry
        self.embedder = embedder
        self.reputation = reputation
        self.rules = rules or RouteRules()
        self._clock = clock

    async def route(
        self,
        *,
        text: str,
        vector: Vector | None = None,
        skills: Sequence[str] = (),
        policies: Sequence[str] = (),
        needs: Needs | None = None,
        spec: str = "",
        kind: str = "general",
        request_kind: str = "draft",
        k: int = 32,
    ) -> Routing:
        """Find who may and can do this.

        Args:
            text: the work, in words.
            vector: its embedding, where it is known already.
            skills: every one is required.
            policies: every one must be cleared.
            spec: how the work must be done; empty: no demand.
            kind: kind of work, for reputation.
            request_kind: the request that an agent must answer ("propose", "draft").
            k: most candidates.

        Raises:
            Unroutable: nobody passes the gate.
            ModelUnreachable: the embedder does not answer.
        """
        vector, demand = await self._embed(text, vector, spec)
        words = text[:2_000] if self.rules.words else ""
        asked = IndexQuery(
            vector=vector, text=words, k=k, bloom=positions(skills), policies=frozenset(policies), kind=request_kind
        )
        hits = await self.registry.search(asked)
        refusals = await self._refused(asked, hits, skills)
        if not hits:
            raise Unroutable(f"{text[:60]!r}", refusals)
        need = need_row(needs or Needs())
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        scored = self._score(hits, vector, need, demand, kind, np.random.default_rng(seed))
        return self._choose(scored, refusals, need, vector, k)

    async def _embed(self, text: str, vector: Vector | None, spec: str) -> tuple[Vector, Vector | None]:
        wanted = [*([] if vector is not None else [text]), *([spec] if spec else [])]
        rows = list(await self.embedder.embed(wanted)) if wanted else []
        demand = rows.pop() if spec else None
        return (vector if vector is not None else rows[0]), demand

    def _score(
        self,
        hits: Sequence[Hit],
        vector: Vector,
        need: Vector,
        demand: Vector | None,
        kind: str,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        rules, agents = self.rules.score, [hit.agent for hit in hits]
        facts = self.registry.facts(agents)
        similarity = np.array([hit.similarity for hit in hits], np.float32)
        lexical = np.array([hit.lexical for hit in hits], np.float32)
        sim = fuse(similarity, lexical, rules)
        sim = self.registry.learned.convince(agents, sim, vector, now=self._clock.now())
        f = resource_factor(need, facts.offers, facts.load, rules)
        g = spec_factor(demand, facts.specs)
        trust = self._trust(agents, kind, rng)
        scores = sim * f * g * trust
        order = np.lexsort((np.arange(len(agents)), -sim, -scores))
        return [
            Candidate(
                agent=agents[i],
                score=float(scores[i]),
                factors=Factors(
                    similarity=float(sim[i]),
                    policy=1.0,
                    resources=float(f[i]),
                    spec=float(g[i]),
                    reputation=float(trust[i]),
                ),
            )
            for i in order
        ]

    def _trust(self, agents: Sequence[AgentId], kind: str, rng: np.random.Generator) -> Vector:
        if not self.rules.reputation:
            return np.ones(len(agents), np.float32)
        return np.array(self.reputation.factors(agents, kind, rng=rng, now=self._clock.now()), np.float32)

    def _choose(
        self, scored: Sequence[Candidate], refusals: dict[AgentId, str], need: Vector, vector: Vector, k: int
    ) -> Routing:
        threshold = self.rules.threshold
        able = [candidate for candidate in scored if _alpha(candidate) >= threshold][:k]
        best = max(_alpha(candidate) for candidate in scored)
        fallback = ""
        if not able:
            able = sorted(scored, key=lambda candidate: -candidate.factors.similarity)[: min(k, self.rules.fallback)]
            fallback = (
                f"no agent reaches the threshold {threshold:g} (best {best:.2f}); the nearest that pass policy were taken"
            )
        taken = {candidate.agent for candidate in able}
        for candidate in scored:
            if candidate.agent not in taken and len(refusals) < self.rules.explained:
                refusals[AgentId(candidate.agent)] = self._below(candidate, need, threshold)
        slots = {agent: self.registry.vitals(AgentId(agent)).slots for agent in taken}
        return Routing(candidates=tuple(able), refusals=refusals, fallback=fallback, vector=vector, slots=slots, fit=best)

    def _below(self, candidate: Candidate, need: Vector, threshold: float) -> str:
        factors, alpha = candidate.factors, _alpha(candidate)
        if alpha >= threshold:
            return f"scores {candidate.score:.2f}, behind the candidates that were taken"
        facts = self.registry.facts([AgentId(candidate.agent)])
        gap = gaps(need, facts.offers, unstated=self.rules.score.unstated)[0]
        weakest = min(("similarity", "resources", "spec"), key=lambda name: float(getattr(factors, name)))
        because = f"{weakest} {getattr(factors, weakest):.2f}"
        if weakest == "resources" and gap.any():
            because += f", most for {_OFFER_WORDS[int(gap.argmax())]}"
        return f"α {alpha:.2f} is below {threshold:g} ({because})"

    async def _refused(self, asked: IndexQuery, hits: Sequence[Hit], skills: Sequence[str]) -> dict[AgentId, str]:
        """Tell why those that are near, and would have been found without the gate, may not."""
        if not (asked.policies or asked.bloom or asked.kind):
            return {}
        near = await self.registry.search(IndexQuery(vector=asked.vector, k=self.rules.explained))
        found = {hit.agent for hit in hits}
        reasons = ((hit.agent, self._gate(hit.agent, asked, skills)) for hit in near if hit.agent not in found)
        return {agent: reason for agent, reason in reasons if reason}

    def _gate(self, agent: AgentId, asked: IndexQuery, skills: Sequence[str]) -> str:
        entry = self.registry.roster.entry(agent)
        if entry is None:
            return ""
        if missing := sorted(asked.policies - entry.policies):
            return f"policy: not cleared for {', '.join(missing)}"
        bits = self.registry.roster.bloom(agent)
        if lacking := [skill for skill in skills if not has_skills(bits, [skill])]:
            return f"skills: does not have {', '.join(lacking)}"
        if asked.kind and asked.kind not in entry.kinds:
            return f"requests: does not answer {asked.kind!r}"
        return ""


_OFFER_WORDS = (
    "its price",
    "its latency",
    "its energy",
    "its speed",
    "its context window",
    "its memory",
    "its VRAM",
    "its bandwidth",
)


def _alpha(candidate: Candidate) -> float:
    """Eq. 2 without reputation: what τ is compared with."""
    factors = candidate.factors
    return factors.similarity * factors.policy * factors.resources * factors.spec
