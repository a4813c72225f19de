"""The words of each agent, kept by agent."""

from pathlib import Path

import pytest

from foa.index.forward import ForwardIndex


def _two() -> ForwardIndex:
    index = ForwardIndex()
    index.put(7, {10: 1.0, 20: 2.0})
    index.put(3, {20: 4.0, 30: 0.5})
    return index


def test_a_score_is_the_sum_over_the_words_that_an_agent_has() -> None:
    # slot 7 has 20 with 2 · 3, and not 30; slot 3 has 20 with 4 · 3 and 30 with .5 · 2
    assert _two().scores({20: 3.0, 30: 2.0}, [7, 3]).tolist() == [6, 13]


def test_words_that_share_low_bits_are_told_apart() -> None:
    index = ForwardIndex()
    index.put(0, {0x1_0005: 1.0, 0x2_0005: 10.0})
    assert index.scores({0x1_0005: 1.0, 0x3_0005: 100.0}, [0]).tolist() == [1]


def test_an_agent_without_words_or_unknown_has_the_score_zero() -> None:
    index = _two()
    index.put(4, {})
    assert index.scores({20: 1.0}, [4, 5, 900, 7]).tolist() == [0, 0, 0, 2]


def test_nobody_there_has_no_score() -> None:
    assert ForwardIndex().scores({20: 1.0}, []).shape == (0,)


def test_who_was_dropped_is_not_there_and_its_words_are_told() -> None:
    index = _two()
    assert sorted(index.drop([7, 900]).tolist()) == [10, 20]
    assert index.drop([7]).tolist() == []
    assert [slot in index for slot in (7, 3, 900)] == [False, True, False]
    words, slots, weights = (column.tolist() for column in index.postings())
    assert (words, slots, weights) == ([20, 30], [3, 3], [4, 0.5])
    assert (len(index), index.written) == (1, 2)


def test_a_slot_that_is_taken_again_has_the_new_words_only() -> None:
    index = _two()
    index.drop([7])
    index.put(7, {30: 1.0})
    assert index.scores({10: 1.0, 20: 1.0, 30: 1.0}, [7]).tolist() == [1]


def test_agents_that_come_and_go_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foa.index.forward._LOOSE", 100)
    index = _two()
    for round_ in range(1_000):
        index.put(9, {word: float(round_) for word in range(10)})
        index.drop([9])
    # the four that stay, and at most 100 of those that left, or half of all, and the ten before the next look
    assert len(index._words) <= 4 + 100 + 10
    assert index.scores({20: 3.0, 30: 2.0}, [7, 3, 9]).tolist() == [6, 13, 0]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    index = _two()
    index.drop([7])
    index.write(tmp_path)
    read = ForwardIndex.read(tmp_path)
    assert read is not None
    assert read.scores({20: 3.0, 30: 2.0}, [7, 3]).tolist() == [0, 13]
    assert read.drop([3]).tolist() == [20, 30]
    assert 3 not in read
