"""What outcomes make of trust."""

import numpy as np
import pytest

from foa.errors import BadMessage
from foa.registry.reputation import Outcome, Reputation, ReputationRules, decode_outcome, encode_outcome
from foa.values.ids import AgentId

A, B = AgentId("a"), AgentId("b")
DAY = 86_400.0
RULES = ReputationRules(prior_good=4, prior_bad=1, backoff=4, half_life_seconds=30 * DAY)


def outcome(i: int, grade: float, **fields: object) -> Outcome:
    defaults: dict[str, object] = {"agent": "a", "kind": "code", "job": f"job-{i}", "subtask": "s1", "at": 1e9}
    return Outcome(grade=grade, **(defaults | fields))  # type: ignore[arg-type]


def test_an_unknown_agent_has_the_prior_mean():
    assert Reputation(RULES).mean(A, "code") == pytest.approx(4 / 5)


def test_the_mean_is_the_posterior_of_kind_backed_off_to_all_kinds():
    reputation = Reputation(RULES)
    for i in range(10):
        reputation.record(outcome(i, 0.0))
    # all kinds: (4 + 0)/(5 + 10) = 4/15; this kind: (0 + 4 · 4/15)/(10 + 4) = 0.0762
    assert reputation.mean(A, "code") == pytest.approx(4 * (4 / 15) / 14)
    # another kind knows only that: 4/15
    assert reputation.mean(A, "law") == pytest.approx(4 / 15)
    assert reputation.mean(B, "code") == pytest.approx(4 / 5)


def test_one_outcome_counts_once():
    reputation = Reputation(RULES)
    assert reputation.record(outcome(1, 1.0)) == ""
    assert "counted before" in reputation.record(outcome(1, 1.0))
    assert reputation.evidence(A, "code") == 1.0


@pytest.mark.parametrize("fields", [{"by": "a"}, {"by": "x", "by_key": "k", "owner_key": "k"}])
def test_nobody_grades_itself(fields: dict[str, object]):
    reputation = Reputation(RULES, trusted=["a", "x"])
    assert reputation.record(outcome(1, 1.0, **fields)) != ""
    assert reputation.mean(A, "code") == pytest.approx(0.8)


def test_a_stranger_moves_little_however_often_it_speaks():
    reputation = Reputation(RULES)
    for i in range(10_000):
        reputation.record(outcome(i, 0.0, by="stranger", by_key="k"))
    # ten times 0.2, then nothing
    assert reputation.evidence(A, "code") == pytest.approx(2.0)
    assert reputation.mean(A, "code") > 0.35


def test_evidence_is_bounded_so_that_a_good_past_does_not_last():
    reputation = Reputation(RULES)
    for i in range(5_000):
        reputation.record(outcome(i, 1.0))
    assert reputation.evidence(A, "code") == pytest.approx(100.0)
    for i in range(5_000, 5_100):
        reputation.record(outcome(i, 0.0))
    assert reputation.mean(A, "code") < 0.45


def test_evidence_halves_with_time():
    reputation = Reputation(RULES)
    for i in range(8):
        reputation.record(outcome(i, 0.0))
    assert reputation.evidence(A, "code", now=1e9 + 30 * DAY) == pytest.approx(4.0)
    assert reputation.mean(A, "code", now=1e9 + 3_000 * DAY) == pytest.approx(0.8, abs=1e-6)


def test_the_same_outcomes_give_the_same_numbers_after_a_restart():
    first, second = Reputation(RULES), Reputation(RULES)
    rng = np.random.default_rng(1)
    records = [encode_outcome(outcome(i, float(rng.random()), at=1e9 + i * DAY)) for i in range(50)]
    for record in records:
        first.record(decode_outcome(record))
    assert second.replay([*records[:20], b"damaged", *records[20:]]) == 50
    assert second.mean(A, "code") == first.mean(A, "code")


def test_a_damaged_record_is_said():
    with pytest.raises(BadMessage):
        decode_outcome(b'{"v":1,"agent":"a"}')


def test_nobody_is_drawn_while_nothing_is_known():
    reputation = Reputation(RULES)
    assert reputation.factors([A, B], "code", rng=np.random.default_rng(1)) == [0.8, 0.8]


def test_newcomers_are_drawn_beside_the_known_and_the_draw_is_the_seeds():
    reputation = Reputation(RULES)
    for i in range(20):
        reputation.record(outcome(i, 0.7))
    known, newcomer = reputation.factors([A, B], "code", rng=np.random.default_rng(3))
    assert known == reputation.mean(A, "code")
    assert newcomer != pytest.approx(0.8)
    assert reputation.factors([A, B], "code", rng=np.random.default_rng(3))[1] == newcomer
    draws = [reputation.factors([A, B], "code", rng=np.random.default_rng(seed)) for seed in range(200)]
    ahead = sum(new > old for old, new in draws)
    assert 20 < ahead < 199  # a newcomer is tried, and not always
