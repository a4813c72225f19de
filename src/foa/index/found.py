"""What searches give, in columns: thousands of candidates are looked at for each that is told."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foa.ports import Hit, IndexQuery
from foa.values.evidence import fuse
from foa.values.vcv import Vector

Ids = NDArray[np.int64]


class Found(NamedTuple):
    """Points or agents, each with one score."""

    ids: Ids
    scores: Vector

    @classmethod
    def none(cls) -> "Found":
        """Give nothing."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    def where(self, those: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Found":
        """Give some of them."""
        return Found(self.ids[those], self.scores[those])

    def of(self, ids: Ids) -> Vector:
        """Give the scores of these, in their order; 0 where one is not among them."""
        if not len(self.ids):
            return np.zeros(len(ids), np.float32)
        order = np.argsort(self.ids)
        at = order[np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)]
        return np.where(self.ids[at] == ids, self.scores[at], np.float32(0))


class Scored(NamedTuple):
    """Agents, each with the score by vector and the one by words."""

    ids: Ids
    similarity: Vector  #: cosines
    lexical: Vector  #: BM25 scores

    @classmethod
    def joined(cls, parts: Iterable["Scored"]) -> "Scored":
        """Give all of them as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def best(self, query: IndexQuery) -> "Scored":
        """Give the best k by both scores together, best first."""
        order = np.argsort(-fuse(self.similarity, self.lexical, query.kappa), kind="stable")[: query.k]
        return Scored(self.ids[order], self.similarity[order], self.lexical[order])


def best_hits(hits: Iterable[Hit], query: IndexQuery) -> list[Hit]:
    """Give the best k by both scores together, best first; of equal ones the first by name."""
    named = sorted(hits, key=lambda hit: hit.agent)
    similarity = np.array([hit.similarity for hit in named], np.float32)
    lexical = np.array([hit.lexical for hit in named], np.float32)
    order = np.argsort(-fuse(similarity, lexical, query.kappa), kind="stable")[: query.k]
    return [named[i] for i in order]
