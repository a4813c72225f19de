"""How many agents have each word: what makes a word rare, and who has it found."""

import math
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.index.columns import places

_MOST_LOOSE = 65_536  # words that came and went, kept as objects: a column takes 8 bytes a word, a Counter a hundred


class WordCounts:
    """Counts by a word's 32-bit hash: in columns, and beside them what came and went since."""

    def __init__(self, words: NDArray[np.uint32] | None = None, counts: NDArray[np.int32] | None = None) -> None:
        """Begin with these words, ascending, and how many agents have each; or with none."""
        self._words = np.zeros(0, np.uint32) if words is None else words
        self._counts = np.zeros(0, np.int32) if counts is None else counts
        self._since = dict[int, int]()

    def add(self, words: Sequence[int]) -> None:
        """An agent with these different words came."""
        self._change(words, 1)

    def drop(self, words: Sequence[int]) -> None:
        """Agents with these words went, each word as often as they have it."""
        self._change(words, -1)

    def add_all(self, words: NDArray[np.uint32]) -> None:
        """Many agents came; these are the words of all of them, shape (n,)."""
        self._merge(*np.unique(words, return_counts=True))

    def of(self, words: Sequence[int]) -> list[int]:
        """Give how many agents have each of these."""
        since = [self._since.get(word, 0) for word in words]
        if not len(self._words):
            return since
        at, known = places(self._words, np.array(words, np.uint32))
        found = np.where(known, self._counts[at], 0).tolist()
        return list(map(operator.add, found, since)) if self._since else found

    def _change(self, words: Sequence[int], by: int) -> None:
        since = self._since
        for word in words:
            if now := since.get(word, 0) + by:
                since[word] = now
            else:
                del since[word]
        if len(since) > _MOST_LOOSE:
            self._gather()

    def _gather(self) -> None:
        """Take what is loose into the columns."""
        loose = len(self._since)
        self._merge(np.fromiter(self._since, np.uint32, loose), np.fromiter(self._since.values(), np.int64, loose))
        self._since = {}

    def _merge(self, words: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
        """Add to the columns; words may come in any order, each once."""
        if not len(words):
            return
        every = np.concatenate([self._words, words])
        order = np.argsort(every, kind="stable")
        every = every[order]
        first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
        sums = np.add.reduceat(np.concatenate([self._counts, counts])[order], first)
        self._words, self._counts = every[first][sums > 0], sums[sums > 0].astype(np.int32)


def idf(agents: int, having: float) -> float:
    """Give how much a word that so many of so many agents have tells of them (Robertson and Zaragoza, 2009, eq. 3.1)."""
    return math.log1p(max(0.0, agents - having + 0.5) / (having + 0.5))
