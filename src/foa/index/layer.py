"""One layer of an index, searched by vector and by words.

    vector ─► the nearest ──────────────────────┐
    words ──► the best by the most telling ones ┴► of each the score it lacks ─► joined ─► the best k

Whoever is best by both together may be so by neither alone, so both searches look further than k.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foa.index.found import Found, Scores, found, together
from foa.index.inverted import InvertedIndex
from foa.index.shard import Shard, labels_of
from foa.index.table import SLOTS, Table
from foa.ports import IndexQuery
from foa.values.vcv import Vector

_COMPARED = 3  # times as many as are asked for: most that words alone found and whose vectors are compared
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

    def search(self, query: IndexQuery, words: Mapping[int, float]) -> Found:
        """Give the best k of those that pass the filter, by vector and, where there are words, by them; best first.

        Args:
            query: vector, filter, k and κ.
            words: of its text, by their hashes, each with what it weighs.
        """
        size = len(self.shard)
        share = max(1, self.shard.matches(query)) / size
        if not words:
            near = self._nearest(query, query.k, share)
            return found(list(near), near.values())
        most = max(query.k, self.shard.options.near(round(share * size)))
        near = self._nearest(query, most, share)
        slots = list(near | self._by_words(words, query, most, share))
        lexical = self.shard.forward.scores(words, slots)
        by_vector = found(slots[: len(near)], near.values(), lexical[: len(near)])
        further = self._compared(slots[len(near) :], lexical[len(near) :], by_vector, query)
        return together([by_vector, further]).best(query)

    def having(self, words: Sequence[int]) -> list[float]:
        """Tell how many agents have each of these words; of an indexed layer of which some had left at this start, about.

        Its words are written down once, when it is indexed. What left before this start is taken out by its share of agents:
        right where leavers had the words that all have, and off by no more than they are. That is enough for a rarity, and
        all of them would have to be read to know better. A word that somebody has is never told to be nobody's.
        """
        left = self.table.at(self.number) / max(1, len(self.shard.forward))
        return [count * left for count in self.shard.counts.of(words)]

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
        if many and len(near := self._nearest_of_all(query, share)) >= query.k:
            return dict(itertools.islice(near.items(), most))
        limit = most
        while True:
            points = self.shard.nearest(query, limit=limit, exact=many)
            near = self._agents(points)
            if len(near) >= most or len(points) < limit:
                return dict(itertools.islice(near.items(), most))
            limit *= 4

    def _nearest_of_all(self, query: IndexQuery, share: float) -> Scores:
        """Search so wide that there are some 3 k after the filter: fewer than k where labels and nearness go together."""
        if query.bloom or share < _WEAK:
            return {}
        free = IndexQuery(vector=query.vector, k=query.k)
        limit = math.ceil(3 * query.k / share)
        near = self._agents(self.shard.nearest(free, limit=limit, wider=1 / math.sqrt(share)))
        slots = np.fromiter(near, np.uint32, len(near))
        allowed = self.table.having(slots, labels_of(query), home=self.number)
        return dict(itertools.compress(near.items(), allowed.tolist()))

    # ── by words ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _by_words(self, words: Mapping[int, float], query: IndexQuery, most: int, share: float) -> Scores:
        """At least so many of the best by what is read of the words; asked again as in `_nearest`."""
        if self.shard.inverted is not None and not query.bloom:
            return self._by_impacts(self.shard.inverted, words, labels_of(query), most, share)
        limit = most
        while True:
            points = self.shard.by_words(words, query, limit=limit)
            alive = self._alive(points)
            if len(alive) >= most or len(points) < limit:
                return alive
            limit *= 4

    def _by_impacts(
        self, inverted: InvertedIndex, words: Mapping[int, float], labels: Collection[str], most: int, share: float
    ) -> Scores:
        here, written = self.table.at(self.number), max(1, self.shard.forward.written)
        postings = self.shard.options.postings
        if not labels and here == written:
            return inverted.best(words, most=most, postings=postings)

        def allowed(slots: NDArray[np.uint32]) -> NDArray[np.bool_]:
            return self.table.having(slots, labels, home=self.number)

        return inverted.best(words, most=most, postings=postings, allowed=allowed, share=share * max(1, here) / written)

    def _compared(self, slots: Sequence[int], lexical: Vector, near: Found, query: IndexQuery) -> Found:
        """Those best by words that can still be among the best, although they are no nearer than the last of the near."""
        hoped = found(slots, itertools.repeat(float(near.similarity[-1]) if len(near.slots) else 1.0, len(slots)), lexical)
        if len(slots) and len(near.slots) >= query.k:
            least = np.partition(near.fused(query), -query.k)[-query.k]
            hoped = hoped.best(query, _COMPARED * query.k)
            hoped = hoped.take(hoped.fused(query) >= least)
        if not len(hoped.slots):
            return hoped
        cosines = self._agents(self.shard.similarities(query.vector, self.table.points_of(hoped.slots.tolist())))
        there = hoped.take(np.array([slot in cosines for slot in hoped.slots.tolist()]))
        return there._replace(similarity=np.array([cosines[slot] for slot in there.slots.tolist()], np.float32))

    # ── whose points ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _alive(self, points: Scores) -> Scores:
        return {one: score for one, score in points.items() if one not in self.dead} if self.dead else points

    def _agents(self, points: Scores) -> Scores:
        """Each agent with its best vector, best first."""
        agents: Scores = {}
        for one, score in self._alive(points).items():
            agents.setdefault(one % SLOTS, score)
        return agents
