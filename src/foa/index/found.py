"""Agents with their scores by vector and by words, and the best of them by both."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foa.ports import Hit, IndexQuery
from foa.values.evidence import fuse
from foa.values.vcv import Vector

Scores = dict[int, float]
"""Points or agents, by their numbers, each with its score; best first."""


class Found(NamedTuple):
    """Agents, in columns of shape (n,)."""

    slots: NDArray[np.int64]  #: numbers of their slots
    similarity: Vector  #: cosines
    lexical: Vector  #: BM25 scores

    def fused(self, query: IndexQuery) -> Vector:
        """Give what both scores of each tell together, shape (n,)."""
        return fuse(self.similarity, self.lexical, query.kappa)

    def best(self, query: IndexQuery, most: int = 0) -> "Found":
        """Give the best k, or so many, by both scores together, best first."""
        return self.take(np.argsort(-self.fused(query), kind="stable")[: most or query.k])

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Found":
        """Give some of them."""
        return Found(self.slots[which], self.similarity[which], self.lexical[which])


def found(slots: Sequence[int], similarity: Iterable[float], lexical: Vector | None = None) -> Found:
    """Put agents into columns; without a word in common where no scores by words are told."""
    column = np.array(slots, np.int64)
    near = np.fromiter(similarity, np.float32, len(column))
    return Found(column, near, np.zeros_like(near) if lexical is None else lexical)


def together(parts: Sequence[Found]) -> Found:
    """Put several into one."""
    return parts[0] if len(parts) == 1 else Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def best_hits(hits: Iterable[Hit], query: IndexQuery) -> list[Hit]:
    """Give the best k by both scores together, best first; of equal ones the first by name."""
    named = sorted(hits, key=lambda hit: hit.agent)
    similarity = np.array([hit.similarity for hit in named], np.float32)
    told = fuse(similarity, np.array([hit.lexical for hit in named], np.float32), query.kappa)
    return [named[i] for i in np.argsort(-told, kind="stable")[: query.k].tolist()]
