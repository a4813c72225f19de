"""How many agents have each word: what makes a word rare, and who has it found."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class WordCounts:
    """Counts by a word's 32-bit hash: some that stay as they are, in columns, and what came and went since."""

    def __init__(self, words: NDArray[np.uint32] | None = None, counts: NDArray[np.uint32] | None = None) -> None:
        """Begin with these.

        Args:
            words: ascending, shape (n,).
            counts: shape (n,).
        """
        self._words = np.zeros(0, np.uint32) if words is None else words
        self._counts = np.zeros(0, np.uint32) if counts is None else counts
        self._since = Counter[int]()

    def add(self, words: Sequence[int]) -> None:
        """An agent with these words came."""
        self._since.update(words)

    def drop(self, words: Sequence[int]) -> None:
        """An agent with these words went."""
        for word in words:
            self._since[word] -= 1
            if not self._since[word]:
                del self._since[word]

    def of(self, words: Sequence[int]) -> list[int]:
        """Give how many agents have each of these."""
        since = [self._since[word] for word in words]
        if not len(self._words):
            return since
        at = np.minimum(np.searchsorted(self._words, np.array(words, np.uint32)), len(self._words) - 1)
        found = np.where(self._words[at] == words, self._counts[at], 0)
        return (found + since).tolist()

    def write(self, file: Path) -> None:
        """Write down what came and went, for `read`."""
        words = np.array(sorted(self._since), np.uint32)
        with file.open("wb") as out:
            np.save(out, np.stack([words, np.array([self._since[int(word)] for word in words], np.uint32)]))

    @classmethod
    def read(cls, file: Path) -> "WordCounts | None":
        """Give what was written; None where that is not there or damaged."""
        try:
            columns = np.load(file)
        except (OSError, EOFError, ValueError):
            return None
        right = columns.dtype == np.uint32 and columns.ndim == 2 and len(columns) == 2
        return cls(*columns) if right else None


def idf(agents: int, having: int) -> float:
    """Give how much a word that so many of so many agents have tells of them (Robertson and Zaragoza, 2009, eq. 3.1)."""
    return math.log1p(max(0.0, agents - having + 0.5) / (having + 0.5))
