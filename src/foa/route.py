"""Route a piece of work: neighbours from the index, the policy gate, the score (eq. 2); candidates, and why not the others.

    text ─► embed ─► search, filtered by policy, skills and kind ─► score ─► α ≥ τ ─► candidates, best first
                  └► search, unfiltered ─► who was near and may not: refusals with reasons

Policy is a gate and never relaxed. When no α reaches τ, the nearest that passed the gate are taken, and it is said; when
even the best can hardly do the work (`RouteRules.fit`), nobody is: that no agent fits is an answer.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from foa.errors import Unroutable
from foa.ports import Clock, Embedder, Hit, IndexQuery
from foa.registry.bloom import has_skills, positions
from foa.registry.calibration import FEWEST, calibration_of
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.registry.score import ScoreRules, gaps, need_row, resource_factor, spec_factor
from foa.values.evidence import fuse
from foa.values.ids import AgentId
from foa.values.resources import Needs
from foa.values.result import Candidate, Factors
from foa.values.vcv import Matrix, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRules:
    """How candidates are chosen."""

    threshold: float = 0.3  #: τ, on α of eq. 2 without reputation (FOE_DECOMP_THRESHOLD)
    fallback: int = 4  #: how many of the nearest are taken where no α reaches τ
    fit: float = 0.1  #: least probability that the best one can do the work; below it no agent fits (FOA_FIT_THRESHOLD)
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
    #: probability that the best one can do the work, where it is as likely as not that one can; None: too few to tell
    fit: float | None


_AWAY_NAMED = 5  # most agents that an error names as away
_AWAY_LOOKED_AT = 10_000  # most agents that are looked at for it
_AWAY_COMPARED = 64  # most agents that are compared with the work, for which their cards are read

_QUANTITIES = (
    "its price",
    "its latency",
    "its energy",
    "its speed",
    "its context window",
    "its memory",
    "its VRAM",
    "its bandwidth",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rated:
    """The terms of eq. 2 of every hit, in columns of n."""

    agents: Sequence[AgentId]
    sim: Vector
    f: Vector
    g: Vector
    trust: Vector
    alpha: Vector  #: sim · f · g; policy is 1, or the index would not have found it
    score: Vector  #: α times trust
    gaps: Matrix  #: shape (n, 8)

    def candidate(self, i: int) -> Candidate:
        factors = Factors(
            similarity=float(self.sim[i]),
            policy=1.0,
            resources=float(self.f[i]),
            spec=float(self.g[i]),
            reputation=float(self.trust[i]),
        )
        return Candidate(agent=self.agents[i], score=float(self.score[i]), factors=factors)

    def shortfall(self, i: int, threshold: float) -> str:
        """Why this one was not taken."""
        if self.alpha[i] >= threshold:
            return f"scores {self.score[i]:.2f}, behind the candidates that were taken"
        terms = {"similarity": self.sim[i], "resources": self.f[i], "spec": self.g[i]}
        weakest = min(terms, key=lambda name: float(terms[name]))
        because = f"{weakest} {terms[weakest]:.2f}"
        if weakest == "resources" and self.gaps[i].any():
            because += f", most for {_QUANTITIES[int(self.gaps[i].argmax())]}"
        return f"α {self.alpha[i]:.2f} is below {threshold:g} ({because})"


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
        self._calibration = calibration_of(embedder.id)
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
            vector: its embedding, where it is known already: of what `Calibration.request` makes of the text.
            skills: every one is required.
            policies: every one must be cleared.
            spec: how the work must be done; empty: no demand.
            kind: kind of work, for reputation.
            request_kind: the request that an agent must answer ("propose", "draft").
            k: most candidates.

        Raises:
            Unroutable: nobody passes the gate, or none of those who do can do the work.
            ModelUnreachable: the embedder does not answer.
        """
        vector, demand = await self._embed(text, vector, spec)
        words = text[:2_000] if self.rules.words else ""
        most = max(k, FEWEST)  # how few are wanted changes nothing about how well the best fits
        asked = IndexQuery(
            vector=vector,
            text=words,
            kappa=self._calibration.lexical,
            k=most,
            bloom=positions(skills),
            policies=frozenset(policies),
            kind=request_kind,
        )
        hits = await self.registry.search(asked)
        refusals = await self._refused(asked, hits, skills)
        if not hits:
            away = self._away(asked, skills)
            able = [agent for agent, reason in away.items() if not reason][:_AWAY_NAMED]
            others = {agent: reason for agent, reason in away.items() if reason}
            raise Unroutable(f"{text[:60]!r}", refusals | dict(islice(others.items(), self.rules.explained)), away=able)
        seed = int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "little")
        rated = self._rate(hits, vector, need_row(needs or Needs()), demand, kind, np.random.default_rng(seed))
        fit = self._calibration.fit(rated.sim) if len(hits) >= FEWEST else None
        if fit is not None and fit < self.rules.fit:
            nearer = self._nearer(asked, skills, float(rated.sim.max()))
            raise self._misfit(text, rated, refusals, fit, nearer)
        return self._choose(rated, refusals, vector, k, fit)

    def _nearer(self, asked: IndexQuery, skills: Sequence[str], similarity: float) -> list[AgentId]:
        """Those that are away, may take the work, and say that they are nearer to it than this."""
        able = (agent for agent, reason in self._away(asked, skills).items() if not reason)
        known = ((agent, self.registry.get(agent)) for agent in islice(able, _AWAY_COMPARED))
        near = (agent for agent, vcv in known if vcv is not None and float(vcv.c @ asked.vector) > similarity)
        return list(islice(near, _AWAY_NAMED))

    def _misfit(
        self, text: str, rated: _Rated, refusals: dict[AgentId, str], fit: float, away: Sequence[AgentId]
    ) -> Unroutable:
        nearest = np.argsort(-rated.sim, kind="stable")[: self.rules.explained]
        far = {rated.agents[i]: f"similarity {rated.sim[i]:.2f}" for i in nearest}
        why = (
            f"even the nearest, {rated.agents[nearest[0]]}, can hardly do it (fit {fit:.0%}; less than {self.rules.fit:.0%} "
            "is none: FOA_FIT_THRESHOLD). Ask for what an agent says it does, or add one that does this"
        )
        return Unroutable(f"{text[:60]!r}", far | refusals, away=away, why=why)

    async def _embed(self, text: str, vector: Vector | None, spec: str) -> tuple[Vector, Vector | None]:
        wanted = [*([] if vector is not None else [self._calibration.request(text)]), *([spec] if spec else [])]
        rows = list(await self.embedder.embed(wanted)) if wanted else []
        demand = rows.pop() if spec else None
        return (vector if vector is not None else rows[0]), demand

    def _rate(
        self,
        hits: Sequence[Hit],
        vector: Vector,
        need: Vector,
        demand: Vector | None,
        kind: str,
        rng: np.random.Generator,
    ) -> _Rated:
        rules, agents = self.rules.score, [hit.agent for hit in hits]
        facts = self.registry.facts(agents)
        similarity = np.array([hit.similarity for hit in hits], np.float32)
        lexical = np.array([hit.lexical for hit in hits], np.float32)
        sim = fuse(similarity, lexical, self._calibration.lexical)
        sim = self.registry.learned.convince(agents, sim, vector, now=self._clock.now())
        missed = gaps(need, facts.offers, unstated=rules.unstated)
        f = resource_factor(missed, facts.load, rules)
        g = np.ones_like(f) if demand is None else spec_factor(demand, self.registry.roster.specs(agents))
        alpha = sim * f * g
        trust = self._trust(agents, kind, rng)
        return _Rated(agents=agents, sim=sim, f=f, g=g, trust=trust, alpha=alpha, score=alpha * trust, gaps=missed)

    def _trust(self, agents: Sequence[AgentId], kind: str, rng: np.random.Generator) -> Vector:
        if not self.rules.reputation:
            return np.ones(len(agents), np.float32)
        return np.array(self.reputation.factors(agents, kind, rng=rng, now=self._clock.now()), np.float32)

    def _choose(self, rated: _Rated, refusals: dict[AgentId, str], vector: Vector, k: int, fit: float | None) -> Routing:
        threshold, best, fallback = self.rules.threshold, float(rated.alpha.max()), ""
        order = np.lexsort((-rated.sim, -rated.score))
        able = [int(i) for i in order if rated.alpha[i] >= threshold][:k]
        if not able:
            nearest = np.argsort(-rated.sim, kind="stable")[: min(k, self.rules.fallback)]
            able = [int(i) for i in nearest]
            found = f"best {best:.2f}" if fit is None else f"best {best:.2f}, fit {fit:.0%}"
            fallback = f"no agent reaches the threshold {threshold:g} ({found}); the nearest that pass policy were taken"
        taken = set(able)
        for i in order[: len(taken) + self.rules.explained]:
            if int(i) not in taken and len(refusals) < self.rules.explained:
                refusals[rated.agents[i]] = rated.shortfall(int(i), threshold)
        return Routing(
            candidates=tuple(rated.candidate(i) for i in able),
            refusals=refusals,
            fallback=fallback,
            vector=vector,
            slots={rated.agents[i]: self.registry.vitals(rated.agents[i]).slots for i in able},
            fit=fit,
        )

    async def _refused(self, asked: IndexQuery, hits: Sequence[Hit], skills: Sequence[str]) -> dict[AgentId, str]:
        """Tell why those that are near, and would have been found without the gate, may not."""
        if not asked.bloom and self.registry.roster.all_may(asked.policies, asked.kind):
            return {}
        near = await self.registry.search(IndexQuery(vector=asked.vector, k=self.rules.explained))
        found = {hit.agent for hit in hits}
        reasons = ((hit.agent, self._gate(hit.agent, asked, skills)) for hit in near if hit.agent not in found)
        return {agent: reason for agent, reason in reasons if reason}

    def _away(self, asked: IndexQuery, skills: Sequence[str]) -> dict[AgentId, str]:
        """Those that no search finds because their connection was lost; with what the gate says of each, empty: may."""
        away = sorted(islice(self.registry.away, _AWAY_LOOKED_AT))
        return {agent: self._gate(agent, asked, skills) for agent in away}

    def _gate(self, agent: AgentId, asked: IndexQuery, skills: Sequence[str]) -> str:
        entry = self.registry.roster.entry(agent)
        if entry is None:
            return ""
        if missing := sorted(asked.policies - entry.policies):
            return f"policy: not cleared for {', '.join(missing)}"
        bits = self.registry.roster.bloom(agent)
        if lacking := [skill for skill in skills if not has_skills(bits, [skill])]:
            return f"skills: does not have {', '.join(lacking)}"
        if asked.kind and (via := self.registry.origin(agent)):
            return f"elsewhere: it is at another broker, {via} told of it; give the work to an orchestrator there"
        if asked.kind and asked.kind not in entry.kinds:
            return f"requests: does not answer {asked.kind!r}"
        return ""
