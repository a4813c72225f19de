"""Agent-0's own model spends the job's money: reserved, settled, and never more than is left."""

import pytest
from tests.agents import CannedModel
from tests.fakes import HandClock

from foa.errors import ModelUnreachable
from foa.job import EventLog, Job, Steps
from foa.phases.synthesise import ORCHESTRATOR, synthesise
from foa.policy.account import Account
from foa.state.memory import MemoryJournal
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget, Spend
from foa.values.ids import JobId, SubtaskId
from foa.values.parameters import Parameters
from foa.values.plan import Edge, Plan, Subtask
from foa.values.result import Report
from foa.values.task import Submission, Task
from foa.values.topics import Topics

S1, S2 = SubtaskId("s1"), SubtaskId("s2")
PLAN = Plan(subtasks=(Subtask(id=S1, text="one"), Subtask(id=S2, text="two")), edges=(Edge(before=S1, after=S2),))
REPORTS = {s: Report(subtask=s, text="t", answer=f"answer of {s}") for s in (S1, S2)}


def job_with(budget: Budget) -> Job:
    clock, name = HandClock(), JobId("job-1")
    journal = MemoryJournal(clock)
    return Job(
        id=name,
        submission=Submission(task=Task(text="a task"), budget=budget, synth="merge"),
        parameters=Parameters(),
        topics=Topics(),
        steps=Steps(journal, name, {}),
        events=EventLog(journal, MemoryTransport(MemoryHub(), client_id="x"), "foa/meta/job-1", name),
        account=Account(budget),
        clock=clock,
        began=clock.now(),
    )


async def test_what_the_model_used_is_charged_to_the_job():
    job, model = job_with(Budget(usd=0.0, tokens=10_000, calls=10, seconds=60.0)), CannedModel("both in one")
    done = await synthesise(job, PLAN, REPORTS, model)
    assert done.value == "both in one"
    # one edge joins two answers: one call of 100 tokens in and 20 out
    assert done.spends == {ORCHESTRATOR: job.account.spent}
    assert (job.account.spent.calls, job.account.spent.tokens) == (1, 120)


@pytest.mark.parametrize(
    "budget",
    [
        pytest.param(Budget(usd=0.0, tokens=10_000, calls=0, seconds=60.0), id="no call"),
        pytest.param(Budget(usd=0.0, tokens=10, calls=10, seconds=60.0), id="fewer tokens than the question has"),
        pytest.param(Budget(usd=0.0, tokens=10_000, calls=10, seconds=0.0), id="no time"),
    ],
)
async def test_a_budget_that_is_spent_pays_for_no_synthesis_and_it_is_said(budget: Budget):
    job, model = job_with(budget), CannedModel("both in one")
    done = await synthesise(job, PLAN, REPORTS, model)
    assert model.asked == []
    assert done.value == "answer of s1\n\nanswer of s2"
    assert any("joined instead" in said for said in job.fallbacks)


async def test_the_model_is_asked_for_no_more_than_is_left():
    job, model = job_with(Budget(usd=0.0, tokens=150, calls=2, seconds=5.0)), CannedModel("both in one")
    await synthesise(job, PLAN, REPORTS, model)
    (asked,) = model.asked
    assert asked.calls == 2
    assert 0 < asked.max_tokens < 150
    assert asked.seconds <= 5.0


async def test_what_a_model_that_failed_used_is_charged_too_and_the_parts_are_joined():
    job = job_with(Budget(usd=0.0, tokens=10_000, calls=10, seconds=60.0))
    done = await synthesise(job, PLAN, REPORTS, CannedModel(ModelUnreachable("nobody there")))
    assert done.value == "answer of s1\n\nanswer of s2"
    assert done.spends == {ORCHESTRATOR: Spend()}
    assert job.account.free == job.account.limit
