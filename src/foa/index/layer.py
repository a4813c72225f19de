"""One layer of an index, searched by vector and by words.

    vector ─► the nearest ─────────────────────┐
    words ──► the best by those that are rarest ┴► of each the score it lacks ─► joined ─► the best k

Whoever is best by both together may be so by neither alone, so both searches look further than k.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from foa.index.found import Scored, Scores, best, fused
from foa.index.shard import Shard, labels_of
from foa.index.table import SLOTS, Table
from foa.ports import IndexQuery
from foa.values.evidence import fuse

_LIKELY = 192  # least that are scored by all words, also where the best one alone is asked for
_UNTOLD = 0.7  # of the least score that words found: what is taken for who is near and was not found by them
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

    def search(self, query: IndexQuery, words: Mapping[int, float], second: Executor) -> list[Scored]:
        """Give the best k of those that pass the filter, by vector and, where there are words, by them; best first.

        Args:
            query: vector, filter, k and κ.
            words: of its text, by their hashes, each with what it weighs.
            second: a thread that searches by words meanwhile; the engine lets the interpreter go.
        """
        size = len(self.shard)
        share = max(1, self.shard.matches(query)) / size
        if not words:
            near = self._nearest(query, query.k, share)
            return [Scored(slot, cosine, 0.0) for slot, cosine in near.items()]
        most = max(query.k, self.shard.options.near(round(share * size)))
        by_words = second.submit(self._by_words, self.shard.rarest(words), query, 2 * most)
        near = self._nearest(query, most, share)
        slots = list(near | by_words.result())
        lexical = self.shard.forward.scores(words, slots)
        found = list(map(Scored, slots, near.values(), lexical.tolist()))
        further = slice(len(near), None)
        worded = dict(zip(slots[further], lexical[further].tolist(), strict=True))
        if worded and len(near) >= most:
            worded = _reaching(worded, found, query)
        return best(found + self._compared(worded, query), query)

    def having(self, words: Sequence[int]) -> list[float]:
        """Tell how many agents have each of these words; of an indexed layer of which some had left at this start, about.

        Its counts are written down once, when it is indexed. What left before this start is taken out by its share of the
        points: right where leavers had the words that all have, and off by no more than they are. That is enough for a
        rarity, and all of them would have to be read to know better. A word that somebody has is never told to be nobody's.
        """
        counts = self.shard.counts
        left = max(0, len(self.shard) - len(self.dead)) / max(1, counts.points) if self.sealed else 1.0
        return [count * left for count in counts.of(words)]

    # ── what leaves ────────────────────────────────────────────────────────────────────────────────────────────────────
    def bury(self, points: Sequence[int]) -> None:
        """Delete points or, while another layer is made of this one, mask them; unknown ones do nothing."""
        if not points:
            return
        self.shard.uncount(points)
        if self.building:
            self.dead.update(points)
        else:
            self.shard.delete(points)

    def thaw(self) -> None:
        """Nothing was made of it: delete what was masked."""
        self.building = False
        self.shard.delete(sorted(self.dead))
        self.dead.clear()

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
    def _by_words(self, words: Mapping[int, float], query: IndexQuery, most: int) -> Scores:
        """At least so many of the best; asked again as in `_nearest`."""
        limit = most
        while words:
            points = self.shard.by_words(words, query, limit=limit)
            found = self._alive(points)
            if len(found) >= most or len(points) < limit:
                return found
            limit *= 4
        return {}

    def _compared(self, worded: Scores, query: IndexQuery) -> list[Scored]:
        """Those that words found, with their cosines."""
        if not worded:
            return []
        near = self._agents(self.shard.similarities(query.vector, self.table.points_of(worded)))
        return [Scored(slot, cosine, worded[slot]) for slot, cosine in near.items()]

    # ── whose points ───────────────────────────────────────────────────────────────────────────────────────────────────
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
    least = np.partition(fused(found, query), -query.k)[-query.k]
    scores = np.fromiter(further.values(), np.float32, len(further))
    reached = fuse(np.full_like(scores, found[-1].similarity), scores, query.kappa) >= least
    return dict(itertools.compress(further.items(), reached.tolist()))
