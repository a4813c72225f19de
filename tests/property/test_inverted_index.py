"""The impact-ordered index of an indexed layer, beside adding everything up."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.index.forward import ForwardIndex
from foa.index.inverted import InvertedIndex

WORDS = st.integers(0, 9).map(lambda word: word * 0x1_0000_1 % 2**32)  # some share their low bits
# sixteen-bit numbers, so that nothing is rounded
WEIGHTS = st.integers(1, 64).map(lambda n: n / 8)
AGENTS = st.dictionaries(st.integers(0, 40), st.dictionaries(WORDS, WEIGHTS, max_size=6), max_size=20)
ASKED = st.dictionaries(WORDS, st.integers(1, 8).map(float), max_size=8)


def inverted(agents: dict[int, dict[int, float]]) -> InvertedIndex:
    forward = ForwardIndex()
    for slot, weights in agents.items():
        forward.put(slot, weights)
    made = InvertedIndex.of(*forward.postings())
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder))
        read = InvertedIndex.read(Path(folder), reach=41)
    assert read is not None
    return read


def summed(agents: dict[int, dict[int, float]], asked: dict[int, float]) -> dict[int, float]:
    sums = {slot: sum(weights.get(word, 0.0) * weighs for word, weighs in asked.items()) for slot, weights in agents.items()}
    return {slot: total for slot, total in sums.items() if total}


@given(AGENTS, st.lists(ASKED, min_size=1, max_size=4), st.integers(1, 25))
def test_who_reads_everything_finds_the_best(agents, queries, most):
    index = inverted(agents)
    for asked in queries:
        true = summed(agents, asked)
        told = index.best(asked, most=most, postings=10_000)
        assert told == pytest.approx({slot: true[slot] for slot in told})
        assert list(told.values()) == sorted(told.values(), reverse=True)
        assert list(told.values()) == pytest.approx(sorted(true.values(), reverse=True)[:most])


@given(AGENTS, st.lists(ASKED, min_size=1, max_size=4), st.integers(1, 12), st.frozensets(st.integers(0, 40)))
def test_who_reads_less_tells_no_more_than_there_is_and_only_of_who_is_allowed(agents, queries, postings, allowed):
    index, asked_about = inverted(agents), 0

    def may(slots):
        nonlocal asked_about
        asked_about += len(slots)
        return np.isin(slots, list(allowed))

    for asked in queries:
        true, asked_about = summed(agents, asked), 0
        told = index.best(asked, most=25, postings=postings, allowed=may, share=0.5)
        assert told.keys() <= true.keys() & allowed
        assert all(told[slot] <= true[slot] for slot in told)
        # half may be found, so twice as many are read; one of each word at least
        assert asked_about <= max(2 * postings, len(asked))


def test_the_words_of_few_are_read_to_their_ends_and_of_others_those_of_whom_they_tell_most():
    # 1 is rare: two agents; 2 has ten, of whom the larger slot weighs more. Five in all: both of 1, and three of 2.
    agents = {slot: {2: float(slot)} for slot in range(1, 11)} | {20: {1: 0.5}, 21: {1: 0.25}}
    told = inverted(agents).best({1: 1.0, 2: 1.0}, most=25, postings=5)
    assert told == {10: 10, 9: 9, 8: 8, 20: 0.5, 21: 0.25}


def test_counts_are_those_of_the_lists():
    words, counts = inverted({3: {7: 1.0, 9: 1.0}, 5: {9: 2.0}, 6: {}}).counts
    assert (words.tolist(), counts.tolist()) == ([7, 9], [1, 2])


def test_nobody_is_found_where_nobody_is():
    assert inverted({}).best({1: 1.0}, most=5, postings=5) == {}
    assert inverted({1: {1: 1.0}}).best({}, most=5, postings=5) == {}
