"""A journal in memory serves thousands of jobs without keeping them all."""

from tests.fakes import HandClock

from foa.state.memory import MemoryJournal
from foa.values.ids import JobId


async def test_the_oldest_ended_jobs_are_forgotten_and_no_running_one():
    journal = MemoryJournal(HandClock(), kept=2)
    for number in range(5):
        await journal.open(JobId(f"job-{number}"), b"{}", text="a task")
    for number in (3, 1, 2, 1):
        await journal.close_job(JobId(f"job-{number}"), status="done", result=b"{}")
    assert [row.job for row in await journal.jobs()] == ["job-4", "job-2", "job-1", "job-0"]
    assert [row.job for row in await journal.jobs(status="running")] == ["job-4", "job-0"]
