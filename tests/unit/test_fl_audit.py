"""What an audit finds, what it costs, and what reputation hears of it."""

from dataclasses import replace

import pytest

from foa.fl.audit import Evidence, Finding, findings, penalty_usd, settled
from foa.fl.market import Offer
from foa.fl.rounds import NodeEvent
from foa.fl.story import brought
from foa.fl.terms import Told

TOLD = Told(
    countered=False,
    reasons="",
    seconds=2.0,
    noise_multiplier=1.0,
    steps=40,
    epochs=2,
    width=1.0,
    epsilon_budget=-1.0,
    epsilon_left=-1.0,
)
AGREED = Offer(width=1.0, epochs=2, steps=40, noise_multiplier=1.0, usd=1.0, deadline_seconds=60.0)
HONEST = Evidence(told=TOLD, agreed=AGREED, samples=110, samples_most=100, loss=0.7, seconds=2.5, width=1.0, moved=1.0)
OTHERS = [HONEST] * 3


def texts(evidence: Evidence) -> list[str]:
    return [finding.text for finding in findings(evidence, OTHERS)]


def test_an_honest_client_is_found_nothing_on() -> None:
    assert findings(HONEST, OTHERS) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"samples": 126}, "it claimed 126 records and its card allows 100"),
        # a round of 0.5 s allows a claim of 0.5 · 1.25 + 1 s
        ({"seconds": 0.5}, "it claimed 2.0 s of training in a round of 0.5 s"),
        ({"moved": 0.0}, "it sent the model back as it was and said that it had trained"),
        ({"width": 0.5}, "it claimed width 1 and sent 0.5"),
        ({"loss": 3.0, "moved": 0.2}, "it claimed a loss of 3, others 0.7, and its update hardly moved"),
    ],
)
def test_a_lie_is_named(change: dict[str, float], text: str) -> None:
    found = findings(replace(HONEST, **change), OTHERS)
    assert [(finding.text, finding.lie) for finding in found] == [(text, True)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 1}, "it agreed to epochs 2 and trained with 1"),
        ({"steps": 20}, "it agreed to steps 40 and trained with 20"),
        ({"noise_multiplier": 1.3}, "it agreed to noise 1 and trained with 1.3"),
    ],
)
def test_a_broken_agreement_is_named_and_is_no_lie(change: dict[str, float], text: str) -> None:
    found = findings(replace(HONEST, told=replace(TOLD, **change)), OTHERS)
    assert [(finding.text, finding.lie) for finding in found] == [(text, False)]


def test_more_than_was_agreed_is_no_breach() -> None:
    assert texts(replace(HONEST, told=replace(TOLD, steps=80, noise_multiplier=0.5))) == []


def test_a_high_loss_whose_update_moves_is_believed_and_so_is_one_without_witnesses() -> None:
    assert texts(replace(HONEST, loss=9.0, moved=0.9)) == []
    assert findings(replace(HONEST, loss=9.0, moved=0.1), OTHERS[:2]) == ()


def test_a_hidden_or_noised_update_is_not_held_against_anybody() -> None:
    assert texts(replace(HONEST, moved=None, loss=None, width=None)) == []


def test_penalties_take_the_pay_of_a_breach_and_more_for_a_lie() -> None:
    lie, breach = Finding(text="", lie=True), Finding(text="", lie=False)
    assert penalty_usd(2.0, ()) == 0.0
    assert penalty_usd(2.0, [breach]) == 2.0
    assert penalty_usd(2.0, [breach, lie]) == 3.0
    # caught one time in four: 1.5 · 2 / 0.25 = 12, so the expected penalty 3 is over the gain of 2
    assert penalty_usd(2.0, [lie], audit_chance=0.25) == 12.0


def test_what_a_pay_does_not_cover_is_kept_back_from_the_next() -> None:
    assert settled(2.0, 3.0, 0.0) == (0.0, 1.0)
    assert settled(2.0, 0.0, 1.0) == (1.0, 0.0)


def test_a_lie_is_the_most_harm_of_its_round_to_reputation_whether_credit_was_measured_or_not() -> None:
    def told(**sites: dict[str, object]) -> NodeEvent:
        return NodeEvent(round=1, node="credit", state="ended", value=sites)

    honest, liar = {"credit": 0.4, "lied": False}, {"credit": -0.1, "lied": True}
    assert brought(told(a=honest, b=liar)) == {"a": 0.4, "b": -0.4}
    assert brought(told(a={"credit": None, "lied": False}, b={"credit": None, "lied": True})) == {"b": -1.0}
