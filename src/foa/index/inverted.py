"""Who has a word, those first of whom it tells most: an impact-ordered inverted index of an indexed layer.

A search adds up what the best of each word's agents are told by it, and of each word reads so many that all together are no
more than it may read: the words of few are read to their ends, of the others the beginnings. What that leaves out tells
little of anybody. The work is the same among a million agents as among ten thousand.

Source: Anh and Moffat, Pruned query evaluation using pre-computed impacts (SIGIR 2006).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foa.index.columns import Column, ascends, places, read_columns, write_columns
from foa.index.found import Scores

_KINDS = {"postings-words": "u4", "postings-ends": "u8", "postings-slots": "u4", "postings-weights": "u2"}

_UNIT = 2.0**-12  # of weights; a word's is 2 · 2.2 at most
_FURTHER = 4  # times as many postings, at most, where not all agents may be found

Allowed = Callable[[NDArray[np.uint32]], NDArray[np.bool_]]
"""Tells of agents, by their slots, which of them may be found."""


class InvertedIndex:
    """Agents by word. What is found is told by slot. For one thread at a time."""

    def __init__(self, words: Column, ends: Column, slots: Column, weights: Column, *, reach: int) -> None:
        """Take columns.

        Args:
            words: hashes, ascending, shape (n,).
            ends: who has the i-th word is from the i-th of these up to the next, shape (n + 1,).
            slots: of agents.
            weights: of the word in what each of them says, in 2⁻¹², largest first within a word.
            reach: all slots are below it.
        """
        self._words = words
        self._ends = ends
        self._slots = slots
        self._weights = weights
        self._sums = np.zeros(reach, np.float32)  # of a search, by slot; zeros between searches

    @classmethod
    def of(cls, words: Column, slots: Column, weights: Column) -> "InvertedIndex":
        """Make it of every word of every agent, in any order; columns of shape (n,)."""
        told = np.clip(np.round(weights.astype(np.float32) / _UNIT), 0, 0xFFFF).astype(np.uint16)
        order = np.argsort(words.astype(np.uint64) << 16 | (0xFFFF - told).astype(np.uint64))
        different, counts = np.unique(words, return_counts=True)
        ends = np.cumsum([0, *counts], dtype=np.uint64)
        return cls(different, ends, slots[order], told[order], reach=int(slots.max(initial=0)) + 1)

    @property
    def counts(self) -> tuple[Column, Column]:
        """The words, ascending, and how many agents have each; shapes (n,)."""
        return self._words, np.diff(self._ends).astype(np.int32)

    def best(
        self, words: Mapping[int, float], *, most: int, postings: int, allowed: Allowed | None = None, share: float = 1.0
    ) -> Scores:
        """Give the best agents by what was read, with what that adds up to: no more than their BM25 scores; best first.

        Args:
            words: hashes, each with what the word weighs.
            most: agents to give.
            postings: most that are read; where not all may be found, up to `_FURTHER` times as many.
            allowed: who may be found; None: everybody.
            share: of everybody, about how many these are.
        """
        slots, told = self._read(words, round(postings * min(_FURTHER, 1 / share)))
        if allowed is not None:
            right = allowed(slots)
            slots, told = slots[right], told[right]
        np.add.at(self._sums, slots, told)
        sums = self._sums[slots]
        self._sums[slots] = 0
        return _largest(slots, sums, most)

    def _read(self, words: Mapping[int, float], most: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Who has the words, once for each word, and what it tells of them."""
        lists = self._lists(words)
        deep = _depth([end - begin for begin, end, _ in lists], most)
        parts = [slice(begin, min(end, begin + deep)) for begin, end, _ in lists]
        if not parts:
            return np.zeros(0, np.uint32), np.zeros(0, np.float32)
        weighs = np.array([weight * _UNIT for _, _, weight in lists], np.float32)
        told = np.concatenate([self._weights[part] for part in parts]) * np.repeat(weighs, [p.stop - p.start for p in parts])
        return np.concatenate([self._slots[part] for part in parts]), told

    def _lists(self, words: Mapping[int, float]) -> list[tuple[int, int, float]]:
        """Where the lists of those of these words are that somebody has, and what each word weighs."""
        if not len(self._words):
            return []
        at, known = places(self._words, np.array(list(words), np.uint32))
        begins, ends = self._ends[at], self._ends[at + 1]
        every = zip(begins.tolist(), ends.tolist(), words.values(), known.tolist(), strict=True)
        return [(begin, end, weight) for begin, end, weight, here in every if here]

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def write(self, folder: Path) -> None:
        """Write the columns down, for `read`."""
        columns = (self._words, self._ends, self._slots, self._weights)
        write_columns(folder, dict(zip(_KINDS, columns, strict=True)))

    @classmethod
    def read(cls, folder: Path, *, reach: int, sparing: bool = False) -> "InvertedIndex | None":
        """Map what was written, `sparing` memory or not; None where that is not there, or damaged.

        All slots are below `reach`.
        """
        columns = read_columns(folder, _KINDS, sparing=sparing)
        if columns is None:
            return None
        words, ends, slots, weights = columns
        right = len(ends) == len(words) + 1 and len(slots) == len(weights) and ascends(ends, len(slots))
        if not right or not (words[1:] > words[:-1]).all():
            return None
        return cls(np.array(words), np.array(ends), slots, weights, reach=reach)


def _depth(lengths: list[int], most: int) -> int:
    """Give how much of each list is read, so that it is no more than this of all, and one of each at least."""
    left = most
    for i, length in enumerate(sorted(lengths)):
        each = left // (len(lengths) - i)
        if length > each:
            return max(1, each)
        left -= length
    return most


def _largest(slots: NDArray[np.uint32], sums: NDArray[np.float32], most: int) -> Scores:
    """The largest, each slot once; they come as often as they have words."""
    look = 4 * most
    while True:
        some = np.argpartition(-sums, look)[:look] if look < len(sums) else slice(None)
        found, at = np.unique(slots[some], return_index=True)
        if len(found) >= most or look >= len(sums):
            break
        look *= 4
    told = sums[some][at]
    order = np.argsort(-told, kind="stable")[:most]
    return dict(zip(found[order].tolist(), told[order].tolist(), strict=True))
