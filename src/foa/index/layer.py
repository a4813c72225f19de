"""One layer of an index, searched by vector and by words.

    vector ─► the nearest ──────┐
    words ──► the best by words ┴► of each the score it lacks ─► joined ─► the best k

Whoever is best by both together may be so by neither alone, so both searches look further than k.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from foa.index.found import Scored, Scores, best, fused
from foa.index.shard import Shard, labels_of
from foa.index.table import SLOTS, Table
from foa.ports import IndexQuery
from foa.values.evidence import fuse

_WEAK = 0.08  # share of points from which a filter that many pass is applied after the search


@dataclass(slots=True, eq=False)
class Layer:
    """A shard, and what of it is not to be seen. Agents are named by their slots."""

    shard: Shard
    number: int
    table: Table
    sealed: bool = False  #: it is indexed
    dead: set[int] = field(default_factory=set[int])  #: point ids that are masked
    building: bool = False

    def search(self, query: IndexQuery, words: Mapping[int, float]) -> list[Scored]:
        """Give the best k of those that pass the filter, by vector and, where there are words, by them; best first.

        Args:
            query: vector, filter, k and κ.
            words: of its text, by their hashes, each with what it weighs.
        """
        size = len(self.shard)
        share = max(1, self.shard.matches(query)) / size
        most = max(query.k, self.shard.options.near(size)) if words else query.k
        near = self._nearest(query, most, share)
        if not words:
            return [Scored(slot, cosine, 0.0) for slot, cosine in near.items()]
        worded = self._by_words(words, query, near, 2 * most)
        found = [Scored(slot, cosine, worded.get(slot, 0.0)) for slot, cosine in near.items()]
        further = {slot: score for slot, score in worded.items() if slot not in near}
        if len(near) >= most:
            further = _reaching(further, found, query)
        return best(found + self._compared(further, query), query)

    # ── by vector ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _nearest(self, query: IndexQuery, most: int, share: float) -> Scores:
        """The nearest agents; asked again, wider, while masked points or sister vectors crowd them out."""
        filtered = bool(labels_of(query) or query.bloom)
        many = filtered and share * len(self.shard) > self.shard.options.scan_below
        if many and len(found := self._nearest_of_all(query, most, share)) >= most:
            return dict(itertools.islice(found.items(), most))
        limit = most
        while True:
            points = self.shard.nearest(query, limit=limit, exact=many)
            found = self._agents(points)
            if len(found) >= most or len(points) < limit:
                return dict(itertools.islice(found.items(), most))
            limit *= 4

    def _nearest_of_all(self, query: IndexQuery, most: int, share: float) -> Scores:
        """Search wide enough and filter after it: too few where labels and nearness go together."""
        if query.bloom or share < _WEAK:
            return {}
        free = IndexQuery(vector=query.vector, k=query.k)
        limit = math.ceil(2 * most / share)
        found = self._agents(self.shard.nearest(free, limit=limit, wider=1 / math.sqrt(share)))
        allowed = self.table.having(found, labels_of(query))
        return {slot: score for slot, score in found.items() if slot in allowed}

    # ── by words ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _by_words(self, words: Mapping[int, float], query: IndexQuery, near: Collection[int], most: int) -> Scores:
        """The BM25 scores, of all words, of the best by the rare ones and of those that are near."""
        rare = self.shard.rarest(words)
        found = self._alive(self.shard.by_words(rare, query, limit=most + min(len(self.dead), most)))
        if len(rare) < len(words):
            return self.shard.scores(words, found.keys() | near)
        if len(found) < most:
            return found  # everyone who has one of the words
        return found | self.shard.scores(words, [slot for slot in near if slot not in found])

    # ── whose points ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _compared(self, worded: Scores, query: IndexQuery) -> list[Scored]:
        if not worded:
            return []
        near = self._agents(self.shard.similarities(query.vector, self.table.points_of(worded)))
        return [Scored(slot, cosine, worded[slot]) for slot, cosine in near.items()]

    def _alive(self, points: Scores) -> Scores:
        return {one: score for one, score in points.items() if one not in self.dead} if self.dead else points

    def _agents(self, points: Scores) -> Scores:
        """Each agent with its best vector, best first."""
        found: Scores = {}
        for one, score in self._alive(points).items():
            found.setdefault(one % SLOTS, score)
        return found


def _reaching(further: Scores, found: Sequence[Scored], query: IndexQuery) -> Scores:
    """Those that can still be among the best, although they are no nearer than the last that was found by vector."""
    if not further:
        return further
    least = np.partition(fused(found, query), -query.k)[-query.k]
    scores = np.fromiter(further.values(), np.float32, len(further))
    reached = fuse(np.full_like(scores, found[-1].similarity), scores, query.kappa) >= least
    return dict(itertools.compress(further.items(), reached.tolist()))
