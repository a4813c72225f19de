"""Agents with their scores by vector and by words, and the best of them by both."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from foa.ports import Hit, IndexQuery
from foa.values.evidence import fuse
from foa.values.vcv import Vector

Scores = dict[int, float]
"""Points or agents, by their numbers, each with its score; best first."""


class Scored(NamedTuple):
    """An agent, by the number of its slot."""

    slot: int
    similarity: float  #: cosine
    lexical: float  #: BM25 score


def fused(scored: Sequence[Scored] | Sequence[Hit], query: IndexQuery) -> Vector:
    """Give what both scores of each tell together, shape (n,)."""
    similarity = np.array([one.similarity for one in scored], np.float32)
    return fuse(similarity, np.array([one.lexical for one in scored], np.float32), query.kappa)


def best(scored: Sequence[Scored], query: IndexQuery) -> list[Scored]:
    """Give the best k by both scores together, best first."""
    return [scored[i] for i in np.argsort(-fused(scored, query), kind="stable")[: query.k].tolist()]


def best_hits(hits: Iterable[Hit], query: IndexQuery) -> list[Hit]:
    """Give the best k by both scores together, best first; of equal ones the first by name."""
    named = sorted(hits, key=lambda hit: hit.agent)
    return [named[i] for i in np.argsort(-fused(named, query), kind="stable")[: query.k].tolist()]
