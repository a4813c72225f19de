"""One layer of an index, searched by vector and by words.

    vector ─► the nearest ──────┐
    words ──► the best by words ┴► of each the score it lacks ─► joined ─► the best k

Whoever is best by both together may be so by neither alone, so both searches look further than k.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from foa.index.found import Found, Ids, Scored
from foa.index.shard import Shard, labels_of
from foa.index.table import Table, slots_of
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

    def search(self, query: IndexQuery, words: Mapping[int, float]) -> Scored:
        """Give the best k of those that pass the filter, by vector and, where there are words, by them; best first.

        Args:
            query: vector, filter, k and κ.
            words: of its text, by their hashes, each with what it weighs.
        """
        share = max(1, self.shard.matches(query)) / len(self.shard)
        most = max(query.k, self.shard.options.near(len(self.shard))) if words else query.k
        near = self._nearest(query, most, share)
        if not words:
            return Scored(near.ids, near.scores, np.zeros_like(near.scores))
        worded = self._by_words(words, query, near.ids, 2 * most)
        found = Scored(near.ids, near.scores, worded.of(near.ids))
        return self._with_further(found, worded, query, all_near=len(near.ids) < most).best(query)

    # ── by vector ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _nearest(self, query: IndexQuery, most: int, share: float) -> Found:
        """The nearest agents; asked again, wider, while masked points or sister vectors crowd them out."""
        filtered = bool(labels_of(query) or query.bloom)
        many = filtered and share * len(self.shard) > self.shard.options.scan_below
        if many and len((found := self._nearest_of_all(query, most, share)).ids) >= most:
            return found.where(slice(most))
        limit = most
        while True:
            points = self.shard.nearest(query, limit=limit, exact=many)
            found = self._agents(points)
            if len(found.ids) >= most or len(points.ids) < limit:
                return found.where(slice(most))
            limit *= 4

    def _nearest_of_all(self, query: IndexQuery, most: int, share: float) -> Found:
        """Search wide enough and filter after it: too few where labels and nearness go together."""
        if query.bloom or share < _WEAK:
            return Found.none()
        free = IndexQuery(vector=query.vector, k=query.k)
        limit = math.ceil(2 * most / share)
        return self._allowed(self._agents(self.shard.nearest(free, limit=limit, wider=1 / math.sqrt(share))), query)

    # ── by words ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _by_words(self, words: Mapping[int, float], query: IndexQuery, near: Ids, most: int) -> Found:
        """The BM25 scores, of all words, of the best by the rare ones and of those that are near."""
        rare = self.shard.rarest(words)
        found = self._alive(self.shard.by_words(rare, query, limit=most + min(len(self.dead), most)))
        if len(rare) < len(words):
            return self.shard.scores(words, np.union1d(found.ids, near))
        if len(found.ids) < most:
            return found  # everyone who has one of the words
        more = self.shard.scores(words, np.setdiff1d(near, found.ids))
        return Found(np.concatenate([found.ids, more.ids]), np.concatenate([found.scores, more.scores]))

    # ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _with_further(self, found: Scored, worded: Found, query: IndexQuery, *, all_near: bool) -> Scored:
        """Add those that words found and the vector did not, where they can still be among the best k."""
        further = worded.where(~np.isin(worded.ids, found.ids))
        if not all_near:
            # they are no nearer than the last that is near
            most = fuse(np.full_like(further.scores, found.similarity[-1]), further.scores, query.kappa)
            least = np.partition(fuse(found.similarity, found.lexical, query.kappa), -query.k)[-query.k]
            further = further.where(most >= least)
        if not len(further.ids):
            return found
        ids = [one for slot in further.ids for one in self.table.points_at(int(slot))]
        near = self._agents(self.shard.similarities(query.vector, ids))
        return Scored.joined([found, Scored(near.ids, near.scores, further.of(near.ids))])

    # ── whose points ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _alive(self, points: Found) -> Found:
        return points.where(~np.isin(points.ids, list(self.dead))) if self.dead else points

    def _agents(self, points: Found) -> Found:
        """Each agent with its best vector, best first."""
        alive = self._alive(points)
        slots = slots_of(alive.ids)
        first = np.sort(np.unique(slots, return_index=True)[1])
        return Found(slots[first], alive.scores[first])

    def _allowed(self, agents: Found, query: IndexQuery) -> Found:
        return agents.where(self.table.have(agents.ids, labels_of(query)))
