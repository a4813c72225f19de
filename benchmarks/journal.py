"""What saving costs: a job of 30 steps one after another, and 300 steps at once, on a SQLite file and in memory.

The baseline is the plainest thing that keeps the same promise: one transaction a save, by the driver itself in a thread.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from foa.app.clock import SystemClock
from foa.ports import Journal
from foa.state.database import Database
from foa.state.memory import MemoryJournal
from foa.state.sql import SqlJournal
from foa.values.ids import JobId

STEP = b"x" * 4_000  #: a draft of ordinary length
ONE_BY_ONE, AT_ONCE = 30, 300

Save = Callable[[str, str], Coroutine[Any, Any, None]]


def run(quick: bool) -> dict[str, object]:
    """Measure.

    Args:
        quick: 10 jobs instead of 100.
    """
    jobs = 10 if quick else 100
    with TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), jobs))


async def _measure(folder: Path, jobs: int) -> dict[str, object]:
    clock = SystemClock()
    async with Database(folder / "ours.db") as database:
        ours = await _jobs(SqlJournal(database, clock), jobs)
    memory = await _jobs(MemoryJournal(clock), jobs)
    return {
        "figures": {"sqlite": ours, "memory": memory},
        "baseline": {"sqlite3": await _plain(folder / "plain.db", jobs)},
        "repetitions": jobs,
    }


async def _jobs(journal: Journal, jobs: int) -> dict[str, float]:
    async def save(job: str, step: str) -> None:
        await journal.save(JobId(job), step, STEP)

    for number in range(jobs):
        await journal.open(JobId(f"job-{number}"), STEP, text="a task")
    return await _timed(save, jobs)


async def _plain(path: Path, jobs: int) -> dict[str, float]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE steps (job TEXT, step TEXT, result BLOB, PRIMARY KEY (job, step))")
    one_at_a_time = asyncio.Lock()

    async def save(job: str, step: str) -> None:
        async with one_at_a_time:
            await asyncio.to_thread(connection.execute, "INSERT OR IGNORE INTO steps VALUES (?, ?, ?)", (job, step, STEP))

    measured = await _timed(save, jobs)
    connection.close()
    return measured


async def _timed(save: Save, jobs: int) -> dict[str, float]:
    one_by_one: list[float] = []
    at_once: list[float] = []
    for number in range(jobs):
        began = time.perf_counter()
        for step in range(ONE_BY_ONE):
            await save(f"job-{number}", f"step {step}")
        one_by_one.append(time.perf_counter() - began)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for step in range(AT_ONCE):
                group.create_task(save(f"job-{number}", f"more {step}"), name=f"save[{step}]")
        at_once.append(time.perf_counter() - began)
    return {
        f"{ONE_BY_ONE}_one_by_one_ms_p50": round(median(one_by_one) * 1e3, 2),
        f"{AT_ONCE}_at_once_ms_p50": round(median(at_once) * 1e3, 2),
    }
