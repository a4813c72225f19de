"""Specs: which lines are rules, and which requests fall under them."""

import pytest

from foa.agents.spec import excerpt, read_spec

LAWYER = """You check contracts.

## Rules
- Never give a final legal opinion.
- Do not draft threats against the other party.
- You must not reveal client names.

Don't assume that dates are right.
Never discuss politics unless the contract is about it.
State how confident you are.
"""


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        ("Give me your final legal opinion on clause 4", "Never give a final legal opinion."),
        ("Please write final legal opinions!", "Never give a final legal opinion."),
        ("Draft a threat against the other party", "Do not draft threats against the other party."),
        ("Can you reveal the names of the clients?", "You must not reveal client names."),
        ("Which clauses are missing from this contract?", ""),
        ("Is the date right? I assume it is.", ""),
        ("Is this legal?", ""),
        ("What does the contract say about politics?", ""),
        ("", ""),
    ],
)
def test_a_request_falls_under_the_rule_whose_words_it_has(request_: str, rule: str) -> None:
    assert read_spec(LAWYER).declines(request_) == rule


def test_a_spec_that_asks_for_confidence_marks_uncertainty() -> None:
    assert read_spec(LAWYER).marks_uncertainty
    assert not read_spec("You check contracts.").marks_uncertainty


def test_a_line_about_the_way_of_working_is_no_rule_about_requests() -> None:
    rules = read_spec("Never guess.\nDo not round numbers.\nNo.\nDon't panic, help.")
    assert rules.forbids == ()


def test_a_long_spec_is_shortened_and_keeps_its_rules() -> None:
    short = excerpt("You check contracts. " * 100 + "\n" + LAWYER, characters=300)
    assert len(short) <= 300
    assert "Never give a final legal opinion." in short
    assert excerpt("You check\ncontracts.", characters=300) == "You check contracts."
