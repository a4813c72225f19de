"""Exact search: every vector compared, nothing approximated. The yardstick of the others, and enough for some thousands."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.index.found import best_hits
from foa.index.words import Words
from foa.ports import Hit, IndexPoint, IndexQuery
from foa.values.ids import AgentId
from foa.values.vcv import Matrix, Vector

_FIRST_ROWS = 256


class ExactIndex:
    """A VectorIndex in memory. A row is a vector; an agent has one row for c and one for each further vector."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._vectors: Matrix = np.zeros((_FIRST_ROWS, dimension), np.float32)
        self._blooms = np.zeros((_FIRST_ROWS, 128), np.uint8)
        self._labels: dict[str, NDArray[np.bool_]] = {}  # of policies ("p:…") and kinds ("k:…"), a flag a row
        self._live = np.zeros(_FIRST_ROWS, bool)
        self._owners: list[AgentId] = []
        self._rows: dict[AgentId, list[int]] = {}
        self._free: list[int] = []
        self._words = Words()

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; searchable when it returns."""
        for point in points:
            self._forget(point.agent)
            self._rows[point.agent] = [self._add(point, vector) for vector in (point.vector, *point.more_vectors)]
            self._words.put(point.agent, point.text, point.proved)

    async def remove(self, agents: Sequence[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        for agent in agents:
            self._forget(agent)

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        """The best k by vector, and where there is a text by words as well; best first."""
        allowed = self._allowed(query)
        if not allowed.any():
            return []
        similarity = self._vectors[: len(allowed)] @ query.vector
        similarity[~allowed] = -np.inf
        found = self._best_agents(similarity, query.k)
        lexical = self._words.search(query.text, self._agents_of(allowed)) if query.text else {}
        found |= {agent: self._similarity(agent, similarity) for agent in lexical if agent not in found}
        return best_hits((Hit(agent=a, similarity=s, lexical=lexical.get(a, 0.0)) for a, s in found.items()), query)

    async def count(self) -> int:
        """How many agents are stored."""
        return len(self._rows)

    async def aclose(self) -> None:
        """Nothing to save."""

    def _allowed(self, query: IndexQuery) -> NDArray[np.bool_]:
        allowed = self._live[: len(self._owners)].copy()
        for label in [*(f"p:{policy}" for policy in query.policies), *([f"k:{query.kind}"] if query.kind else [])]:
            flags = self._labels.get(label)
            allowed &= False if flags is None else flags[: len(allowed)]
        for position in query.bloom:
            allowed &= (self._blooms[: len(allowed), position // 8] >> (position % 8) & 1).astype(bool)
        return allowed

    def _best_agents(self, similarity: Vector, k: int) -> dict[AgentId, float]:
        """The k agents with the best row, best first."""
        found: dict[AgentId, float] = {}
        width = k
        while True:
            width = min(width * 2, len(similarity))
            top = np.argpartition(-similarity, width - 1)[:width]
            for row in top[np.argsort(-similarity[top], kind="stable")]:
                if np.isfinite(similarity[row]):
                    found.setdefault(self._owners[row], float(similarity[row]))
            if len(found) >= k or width == len(similarity):
                return dict(list(found.items())[:k])
            found.clear()

    def _similarity(self, agent: AgentId, similarity: Vector) -> float:
        return max(float(similarity[row]) for row in self._rows[agent])

    def _agents_of(self, allowed: NDArray[np.bool_]) -> set[AgentId] | None:
        return None if allowed.all() else {self._owners[row] for row in np.flatnonzero(allowed)}

    def _add(self, point: IndexPoint, vector: Vector) -> int:
        row = self._free.pop() if self._free else len(self._owners)
        if row == len(self._owners):
            self._owners.append(point.agent)
            if row >= len(self._live):
                self._grow(2 * row)
        self._owners[row] = point.agent
        self._vectors[row] = vector
        self._live[row] = True
        self._blooms[row] = 0
        for position in point.bloom:
            self._blooms[row, position // 8] |= 1 << position % 8
        for flags in self._labels.values():
            flags[row] = False
        for label in [*(f"p:{policy}" for policy in point.policies), *(f"k:{kind}" for kind in point.kinds)]:
            self._labels.setdefault(label, np.zeros(len(self._live), bool))[row] = True
        return row

    def _grow(self, rows: int) -> None:
        more = rows - len(self._live)
        self._vectors = np.concatenate([self._vectors, np.zeros((more, self._dimension), np.float32)])
        self._blooms = np.concatenate([self._blooms, np.zeros((more, 128), np.uint8)])
        self._live = np.concatenate([self._live, np.zeros(more, bool)])
        for label, flags in self._labels.items():
            self._labels[label] = np.concatenate([flags, np.zeros(more, bool)])

    def _forget(self, agent: AgentId) -> None:
        rows = self._rows.pop(agent, [])
        self._live[rows] = False
        self._free += rows
        self._words.drop(agent)
