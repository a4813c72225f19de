"""Which words each agent has, by agent, so that a few hundred agents are scored at once.

The engine's inverted index has agents by word: it finds who has a word, and would seek every word's list for each agent that
it is to score. Here what is stored goes into columns in memory; of an indexed layer they are files, mapped, of which only
what is asked for is read.
"""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foa.index.columns import Column, ascends, places, read_columns, write_columns
from foa.values.vcv import Vector

_KINDS = {"words-rows": "u4", "words-ends": "u8", "words": "u4", "words-weights": "f2"}
_LOW = 0xFFFF  # by these bits of their hashes most words are known not to be asked for
_LOOSE = 65_536  # words of agents that left, and half of all: then the columns are made anew


class ForwardIndex:
    """Words, as 32-bit hashes, with their BM25 weights, by agents' slots. For one thread at a time."""

    def __init__(self) -> None:
        """Begin with none."""
        self._rows: Any = array("I")  # by slot; 0: none
        self._ends: Any = array("Q", [0, 0])  # row i has the words from the i-th of these up to the next; row 0 has none
        self._words: Any = array("I")
        self._weights: Any = array("f")
        self._left = 0  # words of agents that left
        self._agents = 0

    def __len__(self) -> int:
        """How many agents are here; where columns were read, of those that were written."""
        return self._agents

    @property
    def written(self) -> int:
        """How many agents' words there are, of those that left as well."""
        return len(self._ends) - 2

    @property
    def reach(self) -> int:
        """All slots are below this."""
        return len(self._rows)

    def __contains__(self, slot: int) -> bool:
        return slot < len(self._rows) and bool(self._rows[slot])

    def put(self, slot: int, weights: Mapping[int, float]) -> None:
        """Keep the words of an agent; none are kept at this slot."""
        if (more := slot + 1 - len(self._rows)) > 0:
            self._rows.extend([0] * more)
        self._rows[slot] = len(self._ends) - 1
        self._words.extend(weights)
        self._weights.extend(weights.values())
        self._ends.append(len(self._words))
        self._agents += 1

    def drop(self, slots: Sequence[int]) -> NDArray[np.uint32]:
        """Forget agents; gives the words that each of them had. Unknown slots do nothing."""
        at, _ = self._places(slots)
        words = np.asarray(self._words)[at]
        for slot in slots:
            if slot in self:
                self._rows[slot] = 0
                self._agents -= 1
        self._left += len(words)
        if self._left > max(_LOOSE, len(self._words) // 2) and isinstance(self._words, array):
            self._gather()
        return words

    def scores(self, words: Mapping[int, float], slots: Sequence[int]) -> Vector:
        """Give the BM25 score of each of these agents, shape (len(slots),); 0 for who has none of the words.

        Args:
            words: hashes, each with what the word weighs; one at least.
            slots: of the agents, each once.
        """
        at, whose = self._places(slots)
        found = np.asarray(self._words)[at]
        asked = np.array(sorted(words), np.uint32)
        low = np.zeros(_LOW + 1, np.bool_)
        low[asked & _LOW] = True
        likely = np.flatnonzero(low[found & _LOW])
        place, right = places(asked, found[likely])
        likely, place = likely[right], place[right]
        weighs = np.array([words[word] for word in asked.tolist()])
        told = np.asarray(self._weights)[at[likely]] * weighs[place]
        return np.bincount(whose[likely], told, minlength=len(slots)).astype(np.float32)

    def postings(self) -> tuple[Column, Column, Column]:
        """Give every word of every agent, whose it is, by slot, and its weight; shapes (n,)."""
        slots = np.flatnonzero(self._rows)
        at, whose = self._places(slots)
        return np.asarray(self._words)[at], slots[whose].astype(np.uint32), np.asarray(self._weights)[at]

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def write(self, folder: Path) -> None:
        """Write the columns down, for `read`."""
        columns = (self._rows, self._ends, self._words, np.asarray(self._weights).astype(np.float16))
        write_columns(folder, {name: np.asarray(column) for name, column in zip(_KINDS, columns, strict=True)})

    @classmethod
    def read(cls, folder: Path, *, sparing: bool = False) -> "ForwardIndex | None":
        """Map what was written, `sparing` memory or not; None where that is not there, or damaged."""
        columns = read_columns(folder, _KINDS, sparing=sparing)
        if columns is None:
            return None
        rows, ends, words, weights = columns
        right = len(ends) > 1 and len(words) == len(weights) and ascends(ends, len(words))
        if not right or rows.max(initial=0) > len(ends) - 2:
            return None
        index = cls()
        index._rows, index._ends, index._words, index._weights = np.array(rows), ends, words, weights
        index._agents = int(np.count_nonzero(rows))
        return index

    # ── columns ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _places(self, slots: Sequence[int] | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the words of these agents are, one agent's after the other's, and of the how manieth of them each is."""
        rows, ends, asked = np.asarray(self._rows), np.asarray(self._ends), np.asarray(slots, np.int64)
        row = np.zeros(len(asked), np.int64)
        here = asked < len(rows)
        row[here] = rows[asked[here]]
        begin = ends[row].astype(np.int64)
        lengths = ends[row + 1].astype(np.int64) - begin
        whose = np.repeat(np.arange(len(asked)), lengths)
        return np.arange(len(whose)) + (begin - np.cumsum(lengths) + lengths)[whose], whose

    def _gather(self) -> None:
        """Make the columns anew, without those who left."""
        slots = np.flatnonzero(self._rows)
        at, whose = self._places(slots)
        rows = np.zeros(len(self._rows), np.uint32)
        rows[slots] = np.arange(1, len(slots) + 1)
        ends = np.cumsum([0, 0, *np.bincount(whose, minlength=len(slots)).tolist()])
        self._words = _array("I", np.asarray(self._words)[at])
        self._weights = _array("f", np.asarray(self._weights)[at])
        self._rows, self._ends = _array("I", rows), _array("Q", ends)
        self._left = 0


def _array(kind: str, values: Column) -> "array[Any]":
    return array(kind, values.astype(kind).tobytes())
