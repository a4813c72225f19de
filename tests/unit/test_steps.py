"""`once`: a saved step is never run or paid again."""

import asyncio

import pytest
from tests.fakes import HandClock

from foa.errors import BadMessage
from foa.job import Done, Steps
from foa.state.memory import MemoryJournal
from foa.values.budget import Spend
from foa.values.ids import AgentId, JobId

JOB = JobId("job-1")


async def journal_with_job() -> MemoryJournal:
    journal = MemoryJournal(HandClock())
    assert await journal.open(JOB, b"{}", text="a task")
    return journal


async def test_a_saved_step_is_not_run_again_after_a_restart():
    journal = await journal_with_job()
    runs: list[str] = []

    async def run() -> Done[str]:
        runs.append("ran")
        return Done(value="found", spends={"a": Spend(calls=1, tokens_out=7)})

    first = Steps(journal, JOB, {})
    assert await first.once("route", str, run) == "found"
    again = Steps(journal, JOB, await journal.load(JOB))
    assert await again.once("route", str, run) == "found"
    assert runs == ["ran"]
    assert again.spends == {"a": Spend(calls=1, tokens_out=7)}


async def test_a_step_that_fails_is_not_saved():
    journal = await journal_with_job()
    steps = Steps(journal, JOB, {})

    async def fail() -> Done[str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await steps.once("route", str, fail)
    assert await journal.load(JOB) == {}


async def test_spends_of_one_agent_add_up_over_steps():
    steps = Steps(await journal_with_job(), JOB, {})
    for number in (1, 2):
        await steps.keep(f"draft/{number}", Done(value=number, spends={AgentId("a"): Spend(usd=0.5, calls=1)}))
    assert steps.spends == {"a": Spend(usd=1.0, calls=2)}


async def test_a_step_saved_by_another_release_is_refused_with_its_name():
    journal = await journal_with_job()
    await Steps(journal, JOB, {}).keep("plan", Done(value="text where a number should be"))
    later = Steps(journal, JOB, await journal.load(JOB))
    with pytest.raises(BadMessage, match="plan"):
        later.find("plan", int)


class SlowJournal(MemoryJournal):
    """Saving waits until the test lets it."""

    def __init__(self) -> None:
        super().__init__(HandClock())
        self.saving = asyncio.Event()
        self.go = asyncio.Event()

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        self.saving.set()
        await self.go.wait()
        await super().save(job, step, result)


async def test_a_job_cancelled_while_a_paid_result_is_being_saved_keeps_it():
    journal = SlowJournal()
    await journal.open(JOB, b"{}", text="a task")
    steps = Steps(journal, JOB, {})
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(steps.keep("draft/s1/1/a", Done(value="paid")), name="keep")
        await journal.saving.wait()
        keeping.cancel()
        journal.go.set()
    assert keeping.cancelled()
    assert "draft/s1/1/a" in await journal.load(JOB)
