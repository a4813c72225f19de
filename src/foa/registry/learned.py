"""What agents have proved to be good at: their graded requests, remembered as vectors and words.

    outcome ──► memory of the agent (newest 128) ──► prototype and words for the index: found again for the like
                                                └─► closeness at scoring: kernel density of good and of bad requests near

Bounded by agent and in all, decays with time, replayable: the same outcomes in the same order give the same memory.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foa.registry.reputation import Outcome
from foa.values.ids import AgentId
from foa.values.vcv import Matrix, Vector

_STRANGER = 0.2  # most weight of a request that somebody else graded


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRules:
    """How graded requests become capability."""

    requests: int = 128  #: remembered for each agent, the newest
    agents: int = 5_000  #: agents with a memory, the latest to be graded
    texts: int = 64  #: of the well done, newest first, that the index learns words from
    text_characters: int = 300  #: of each
    good: float = 0.6  #: grade from which a request counts as well done for prototype and words
    sharpness: float = 20.0  #: of the kernel exp(−t (1 − cosine))
    floor: float = 1e-4  #: density that says nothing
    trust: float = 0.8  #: γ, how far a request just like it convinces: 1 − e^−γ
    prototype: float = 4.0  #: weight of the well done beside c
    half_life_seconds: float = 90 * 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    vector: NDArray[np.float16]
    grade: float
    weight: float
    at: float
    text: str


class Learned:
    """Memories of graded requests."""

    def __init__(self, rules: LearningRules | None = None) -> None:
        self.rules = rules or LearningRules()
        self._memory: OrderedDict[AgentId, deque[_Request]] = OrderedDict()

    def add(self, agent: AgentId, vector: Vector, *, grade: float, at: float, text: str, weight: float = 1.0) -> None:
        """Remember one graded request.

        Args:
            vector: the request's embedding, unit length.
            grade: 0 to 1; one half says nothing.
            at: seconds since the epoch.
            text: the request, for its words.
            weight: 0 to 1, less for a grader that is little trusted.
        """
        rules = self.rules
        memory = self._memory.setdefault(agent, deque(maxlen=rules.requests))
        memory.append(_Request(vector.astype(np.float16), grade, weight, at, text[: rules.text_characters]))
        self._memory.move_to_end(agent)
        if len(self._memory) > rules.agents:
            self._memory.popitem(last=False)

    def newest(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Give those that would still be remembered when all had been recorded: only they are worth an embedding."""
        of_agent: Counter[str] = Counter()
        newest: list[Outcome] = []
        for outcome in reversed(outcomes):
            of_agent[outcome.agent] += 1
            if of_agent[outcome.agent] <= self.rules.requests:
                newest.append(outcome)
        return newest[::-1]

    def record(self, outcomes: Sequence[Outcome], vectors: Matrix) -> None:
        """Remember graded requests; what somebody else than Agent-0 graded counts less.

        Args:
            outcomes: n of them.
            vectors: embeddings of their texts, shape (n, d).
        """
        for outcome, vector in zip(outcomes, vectors, strict=True):
            weight = outcome.weight if not outcome.by else min(outcome.weight, _STRANGER)
            agent = AgentId(outcome.agent)
            self.add(agent, vector, grade=outcome.grade, at=outcome.at, text=outcome.text, weight=weight)

    def __contains__(self, agent: AgentId) -> bool:
        return agent in self._memory

    def prototype(self, agent: AgentId, c: Vector) -> Vector | None:
        """Give c moved to the mean of what was well done; None where nothing was. Unit length."""
        good = [request for request in self._memory.get(agent, ()) if request.grade >= self.rules.good]
        if not good:
            return None
        weights = np.array([request.weight * (2 * request.grade - 1) for request in good], np.float32)
        mean = (weights[:, None] * np.stack([request.vector for request in good], dtype=np.float32)).sum(axis=0) / max(
            weights.sum(), 1.0
        )
        moved = c + self.rules.prototype * mean
        return (moved / np.linalg.norm(moved)).astype(np.float32)

    def texts(self, agent: AgentId) -> list[str]:
        """Give the newest requests that were well done, in their words."""
        good = [request.text for request in self._memory.get(agent, ()) if request.grade >= self.rules.good and request.text]
        return good[-self.rules.texts :]

    def convince(self, agents: Sequence[AgentId], sim: Vector, vector: Vector, *, now: float) -> Vector:
        """Move each agent's sim by what it did with requests like this one.

        The like that were well done move it towards 1, the like that were not towards 0; an agent nobody graded keeps its.

        Args:
            agents: shape (n,).
            sim: 0 to 1, shape (n,).
            vector: the request, unit length.
            now: seconds since the epoch.

        Returns:
            Shape (n,), float32, 0 to 1.
        """
        moved = sim.astype(np.float32).copy()
        for i, agent in enumerate(agents):
            if memory := self._memory.get(agent):
                good, bad = self._densities(memory, vector, now)
                doubt, proof = np.exp(-self.rules.trust * bad), 1 - np.exp(-self.rules.trust * good)
                moved[i] = (moved[i] + (1 - moved[i]) * proof) * doubt
        return moved

    def _densities(self, memory: Sequence[_Request], vector: Vector, now: float) -> tuple[float, float]:
        """Give the kernel density of good and of bad requests near this one, on a log scale: 0 none, 1 one just like it."""
        rules = self.rules
        ages = np.array([max(0.0, now - request.at) for request in memory])
        weights = np.array([request.weight * (2 * request.grade - 1) for request in memory])
        weights *= 0.5 ** (ages / rules.half_life_seconds)
        near = weights * np.exp(
            rules.sharpness * (np.stack([request.vector for request in memory], dtype=np.float32) @ vector - 1)
        )
        balance = near.sum()
        density = np.log1p(abs(balance) / rules.floor) / np.log1p(1 / rules.floor)
        return (float(density), 0.0) if balance > 0 else (0.0, float(density))
