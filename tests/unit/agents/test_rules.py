"""A task is split by rule only along its author's own marks."""

import pytest

from foa.agents.rules import propose_by_rule


def split(text: str, *, most: int = 4) -> tuple[list[str], tuple[tuple[int, int], ...]]:
    proposal = propose_by_rule(text, most=most)
    return [part.text for part in proposal.subtasks], proposal.edges


@pytest.mark.parametrize(
    "text",
    [
        "Train a model on the data, then explain its errors",
        "Train a model on the data. Then explain its errors",
        "Train a model on the data; then explain its errors",
        "Train a model on the data and then explain its errors",
        "Train a model on the data, and then explain its errors",
    ],
)
def test_steps_are_a_chain(text: str) -> None:
    assert split(text) == (["Train a model on the data", "explain its errors"], ((0, 1),))


def test_three_steps_are_a_longer_chain() -> None:
    assert split("Gather the facts, then weigh them up, then write the report")[1] == ((0, 1), (1, 2))


@pytest.mark.parametrize(
    "text",
    [
        "If a patient has a fever, then what should be done?",
        "What came first, and then what?",
        "Explain what then happens to the message",
    ],
)
def test_a_then_that_is_no_step_splits_nothing(text: str) -> None:
    assert split(text) == ([text], ())


def test_more_steps_than_may_be_proposed_stay_one_task() -> None:
    text = "Gather the facts, then weigh them up, then write the report"
    assert split(text, most=2) == ([text], ())


def test_questions_are_beside_each_other() -> None:
    assert split("How does it route a task? What does that cost?") == (
        ["How does it route a task?", "What does that cost?"],
        (),
    )
