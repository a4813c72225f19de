"""When a cluster stops and whose draft stands for it."""

import pytest

from foa.plan.consensus import agreement, gain_spent, moved, quorum_reached, representative, shared, similarity, words
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId

A, B, C = AgentId("a"), AgentId("b"), AgentId("c")


def draft(answer: str, confidence: float = 0.5) -> Draft:
    return Draft(answer=answer, confidence=confidence)


def test_the_draft_that_others_come_nearest_to_represents() -> None:
    drafts = {A: draft("red apples grow"), B: draft("red apples"), C: draft("blue whales swim")}
    assert representative(drafts, {A: 0.5, B: 0.5, C: 0.5}) in (A, B)


def test_a_trusted_member_outweighs_two_that_are_not() -> None:
    drafts = {A: draft("red apples"), B: draft("red apples"), C: draft("blue whales")}
    # a, b: (0.1 + 0.1) / 1.1 = 0.18; c: 0.9 / 1.1 = 0.82
    assert representative(drafts, {A: 0.1, B: 0.1, C: 0.9}) == C


def test_confidence_decides_between_equal_answers() -> None:
    assert representative({A: draft("same", 0.4), B: draft("same", 0.9)}, {}) == B


def test_a_tie_goes_to_the_smaller_id() -> None:
    assert representative({C: draft("x1"), B: draft("x1"), A: draft("x1")}, {}) == A


def test_nobody_has_no_representative() -> None:
    with pytest.raises(ValueError, match="without drafts"):
        representative({}, {})


def test_weights_of_nothing_count_as_equal() -> None:
    drafts = {A: draft("one thing"), B: draft("other matter")}
    assert agreement(drafts, {A: 0.0, B: 0.0}) == {A: 0.5, B: 0.5}


def test_a_quorum_is_a_share_of_the_weight_heard() -> None:
    votes = {A: True, B: True, C: False}
    assert quorum_reached(votes, {}, quorum=2 / 3)
    assert not quorum_reached(votes, {C: 1.0}, quorum=2 / 3)  # (0.5 + 0.5) / 2 = 0.5
    assert not quorum_reached({}, {}, quorum=0.0)
    assert not quorum_reached({A: False}, {}, quorum=0.0)


def test_the_gain_is_spent_when_answers_move_little_on_average() -> None:
    assert gain_spent([0.0, 0.01], gain=0.05)
    assert not gain_spent([0.0, 0.2], gain=0.05)
    assert not gain_spent([], gain=0.5)


def test_moving_is_the_distance_of_the_words() -> None:
    assert moved(draft("red apples"), draft("red apples", 0.9)) == 0.0
    assert moved(draft("red apples"), draft("blue whales")) == 1.0
    assert 0.0 < moved(draft("red apples"), draft("red pears")) < 1.0


def test_words_leave_out_what_says_nothing() -> None:
    assert words("The team_size is what it is, of course") == {"team_size", "course"}
    assert similarity([], []) == 1.0
    assert similarity(["x"], []) == 0.0


def test_claims_of_one_place_need_fewer_words_in_common() -> None:
    here = Source(kind="file", locator="a.py:1-9")
    one = Claim(text="the retry delay doubles every time", source=here)
    other = Claim(text="delay doubles up to sixty seconds", source=here)
    assert shared(one, other)
    assert not shared(one, Claim(text=other.text))
