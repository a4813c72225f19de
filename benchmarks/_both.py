"""Of the agents that are the best by meaning and words together, how many are found: against exact scores of everybody.

BM25 is computed for the words that the queries have, in numpy, from the texts of the whole fleet.
"""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from foa.index.counts import idf
from foa.index.words import document_weights, query_weights
from foa.ports import IndexQuery
from foa.registry.registry import Registry
from foa.values.evidence import fuse
from foa.values.vcv import Matrix, Vector

_SAME = 2e-3  # a difference within which two agents are as good as each other: the index keeps 16-bit vectors


async def recall_by_both(
    registry: Registry, texts: Iterable[str], queries: Sequence[str], vectors: Matrix, fleet: Matrix
) -> float:
    """Give the share of the true ten best that a search finds.

    Args:
        registry: to search.
        texts: of every agent.
        queries: n of them.
        vectors: theirs, shape (n, d).
        fleet: the agents' vectors, shape (agents, d).
    """
    lexical = _Lexical(texts, queries)
    shares: list[float] = []
    for text, vector in zip(queries, vectors, strict=True):
        query = IndexQuery(vector=vector, text=text)
        truth = fuse(fleet @ vector, lexical.scores(text), query.kappa)
        least = np.partition(truth, -10)[-10] - _SAME
        numbers = [int(hit.agent.rpartition("-")[2]) for hit in (await registry.search(query))[:10]]
        shares.append(sum(truth[n] >= least for n in numbers) / 10)
    return round(float(np.mean(shares)), 4)


class _Lexical:
    """Every agent's BM25 score for each of some queries."""

    def __init__(self, texts: Iterable[str], queries: Sequence[str]) -> None:
        wanted = {word for query in queries for word in query_weights(query)}
        rows: dict[int, array[int]] = {word: array("I") for word in wanted}
        weights: dict[int, array[float]] = {word: array("f") for word in wanted}
        self._count = 0
        for text in texts:
            for word, weight in document_weights(text).items():
                if word in wanted:
                    rows[word].append(self._count)
                    weights[word].append(weight)
            self._count += 1
        self._rows = {word: np.frombuffer(some, np.uint32) for word, some in rows.items() if some}
        self._weights = {word: np.frombuffer(some, np.float32) for word, some in weights.items() if some}

    def scores(self, query: str) -> Vector:
        """Give the score of every agent, by its number."""
        found = np.zeros(self._count, np.float32)
        for word in query_weights(query):
            if word in self._rows:
                rows = self._rows[word]
                found[rows] += np.float32(idf(self._count, len(rows))) * self._weights[word]
        return found
