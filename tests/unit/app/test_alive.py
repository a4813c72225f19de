"""Jobs of a killed one-question Agent-0 are answered, whatever their journal looks like."""

from pathlib import Path

import msgspec
from tests.fakes import HandClock

from foa.app.alive import PASSING, close_abandoned
from foa.job import Done, Steps
from foa.state.memory import MemoryJournal
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.ids import JobId
from foa.values.result import Result

BUDGET = Budget(usd=1.0, tokens=1_000, calls=10, seconds=60.0)


async def test_a_job_with_a_damaged_step_is_closed_all_the_same_and_billed_for_the_others(tmp_path: Path):
    clock, job = HandClock(), JobId("job-1")
    journal = MemoryJournal(clock)
    for one in (job, JobId("job-2")):
        await journal.open(one, b"{}", text="a task")
        admitted = events.Admitted(at=clock.now(), text="a task", orchestrator=f"{PASSING}gone", budget=BUDGET)
        await journal.note(one, msgspec.json.encode(admitted))
    await Steps(journal, job, {}).keep("draft/s1", Done(value="text", spends={"a": Spend(calls=3)}))
    await journal.save(job, "draft/s2", b"\xff damaged")
    await close_abandoned(journal, tmp_path, now=clock.now() + 5)
    rows = {row.job: row for row in await journal.jobs()}
    assert {row.status for row in rows.values()} == {"failed"}
    assert rows[job].result is not None
    result = msgspec.json.decode(rows[job].result, type=Result)
    assert result.bill.calls == 3
    assert "killed" in result.error
