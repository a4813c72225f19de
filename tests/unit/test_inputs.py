"""What a drafter sees of the reports before it always fits into a message."""

from typing import cast

import pytest

from foa.job import Job
from foa.messages import encode
from foa.phases.draft import MAX_INPUT_BYTES, inputs_of
from foa.values.draft import Claim
from foa.values.ids import SubtaskId
from foa.values.plan import Subtask
from foa.values.result import Report

NODE = Subtask(id=SubtaskId("s99"), text="put it together")


class Said:
    """As much of a job as is needed: it hears fallbacks."""

    def __init__(self) -> None:
        self.fallbacks: list[str] = []

    def fell_back(self, what: str) -> None:
        self.fallbacks.append(what)


def reports(count: int, *, answer: str, claim: str = "") -> list[Report]:
    claims = (Claim(text=claim),) * 64 if claim else ()
    return [Report(subtask=f"s{n}", text="\x01" * 2_000, answer=answer, claims=claims) for n in range(count)]


def test_reports_that_fit_are_passed_on_as_they_are():
    job = Said()
    (given,) = inputs_of(cast("Job", job), NODE, reports(1, answer="short", claim="a claim"))
    assert (given.answer, len(given.claims)) == ("short", 64)
    assert job.fallbacks == []


def test_a_report_without_an_answer_is_not_passed_on():
    assert inputs_of(cast("Job", Said()), NODE, reports(1, answer="")) == ()


@pytest.mark.parametrize("count", [1, 4, 63, 80])
def test_reports_of_any_length_fit_and_what_was_cut_is_said(count: int):
    job = Said()
    given = inputs_of(cast("Job", job), NODE, reports(count, answer="\x01" * 20_000, claim="\x01" * 2_000))
    assert len(encode(given)) <= MAX_INPUT_BYTES
    assert len(given) == min(count, 64)
    assert all(one.answer for one in given)
    assert len(job.fallbacks) == 1
    assert "s99" in job.fallbacks[0]
