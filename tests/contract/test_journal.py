"""What every Journal, Outcomes and Replies promises, held against every adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from foa.errors import StoreFailed
from foa.ports import Clock, Journal, Outcomes, Replies
from foa.state import bounds
from foa.state.database import Database
from foa.state.memory import MemoryJournal, MemoryOutcomes, MemoryReplies
from foa.state.sql import SqlJournal, SqlOutcomes, SqlReplies
from foa.values.ids import JobId

JOB = JobId("job-1")
OTHER = JobId("job-2")


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Stores:
    journal: Journal
    outcomes: Outcomes
    replies: Replies
    clock: HandClock


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Stores]:
    clock = HandClock()
    yield Stores(MemoryJournal(clock), MemoryOutcomes(kept=5), MemoryReplies(clock, kept=5, seconds=60), clock)


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Stores]:
    clock = HandClock()
    async with Database(folder / "journal.db") as database:
        yield Stores(
            SqlJournal(database, clock),
            SqlOutcomes(database, kept=5),
            SqlReplies(database, clock, kept=5, seconds=60),
            clock,
        )


ADAPTERS: dict[str, Callable[[Path], object]] = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=ADAPTERS)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    async with ADAPTERS[request.param](tmp_path) as opened:  # type: ignore[attr-defined]
        yield opened


def test_the_hand_clock_is_a_clock() -> None:
    clock: Clock = HandClock()
    assert clock.now() == 1_000_000.0


# ── jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_job_is_admitted_once(stores: Stores) -> None:
    assert await stores.journal.open(JOB, b"one", text="t")
    assert not await stores.journal.open(JOB, b"two", text="u")
    (row,) = await stores.journal.jobs()
    assert (row.job, row.submission, row.text, row.status) == (JOB, b"one", "t", "running")
    assert row.created_at == 1_000_000.0
    assert row.ended_at is None
    assert row.result is None


async def test_of_many_who_admit_a_job_one_wins(stores: Stores) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stores.journal.open(JOB, b"%d" % i, text=""), name=f"open[{i}]") for i in range(20)]
    assert sum(task.result() for task in tasks) == 1


async def test_the_first_end_of_a_job_holds(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    stores.clock.time += 7
    await stores.journal.close_job(JOB, status="partial", result=b"first")
    stores.clock.time += 7
    await stores.journal.close_job(JOB, status="failed", result=b"second")
    (row,) = await stores.journal.jobs(job=JOB)
    assert (row.status, row.result, row.ended_at) == ("partial", b"first", 1_000_007.0)


async def test_jobs_come_newest_first_and_filtered(stores: Stores) -> None:
    for number in range(5):
        await stores.journal.open(JobId(f"job-{number}"), b"", text=str(number))
    await stores.journal.close_job(JobId("job-3"), status="done", result=b"r")
    assert [row.text for row in await stores.journal.jobs()] == ["4", "3", "2", "1", "0"]
    assert [row.text for row in await stores.journal.jobs(limit=2)] == ["4", "3"]
    assert [row.text for row in await stores.journal.jobs(status="running", limit=2)] == ["4", "2"]
    assert [row.text for row in await stores.journal.jobs(status="done")] == ["3"]
    assert [row.text for row in await stores.journal.jobs(job=JOB)] == ["1"]
    assert list(await stores.journal.jobs(job=JobId("nobody"))) == []
    assert list(await stores.journal.jobs(limit=0)) == []


async def test_a_listing_shows_one_short_line_of_the_text(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="a\n\n b\0\udc80 " + "x" * 1000)
    (row,) = await stores.journal.jobs()
    assert row.text.startswith("a b ? xxx")
    assert len(row.text) == 200


async def test_a_job_ends_in_one_of_four_ways(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    with pytest.raises(ValueError, match="cancelled, done, failed, partial"):
        await stores.journal.close_job(JOB, status="running", result=b"")


# ── steps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_steps_come_back_in_the_order_of_saving(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    await stores.journal.open(OTHER, b"", text="")
    for step in ("route", "decompose", "draft:s2", "draft:s1"):
        await stores.journal.save(JOB, step, step.encode())
        await stores.journal.save(OTHER, step, b"other")
    loaded = await stores.journal.load(JOB)
    assert list(loaded.items()) == [(s, s.encode()) for s in ("route", "decompose", "draft:s2", "draft:s1")]


async def test_the_first_result_of_a_step_holds(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    await stores.journal.save(JOB, "route", b"first")
    await stores.journal.save(JOB, "route", b"second")
    assert await stores.journal.load(JOB) == {"route": b"first"}


async def test_an_unknown_job_has_no_steps_and_no_events(stores: Stores) -> None:
    assert await stores.journal.load(JOB) == {}
    assert list(await stores.journal.events(JOB)) == []


async def test_nothing_is_kept_of_a_job_that_was_not_opened(stores: Stores) -> None:
    with pytest.raises(StoreFailed, match="job job-1 is not in the journal: open it"):
        await stores.journal.save(JOB, "route", b"")
    with pytest.raises(StoreFailed, match="open it"):
        await stores.journal.note(JOB, b"")
    with pytest.raises(StoreFailed, match="open it"):
        await stores.journal.close_job(JOB, status="done", result=b"")


async def test_a_refused_save_does_not_take_its_neighbours_with_it(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    wrong: list[str] = []

    async def save_unknown() -> None:
        try:
            await stores.journal.save(OTHER, "route", b"")
        except StoreFailed as error:
            wrong.append(str(error))

    async with asyncio.TaskGroup() as group:  # one turn of the loop, so one transaction in SQL
        for number in range(10):
            group.create_task(stores.journal.save(JOB, f"s{number}", b"x"), name=f"save[{number}]")
        group.create_task(save_unknown(), name="save[unknown]")
        event = group.create_task(stores.journal.note(JOB, b"e"), name="note")
    assert len(wrong) == 1
    assert event.result() == 1
    assert list(await stores.journal.load(JOB)) == [f"s{number}" for number in range(10)]
    assert list(await stores.journal.events(JOB)) == [(1, b"e")]


async def test_any_bytes_come_back_as_they_were(stores: Stores) -> None:
    await stores.journal.open(JOB, bytes(range(256)), text="")
    await stores.journal.save(JOB, "empty", b"")
    await stores.journal.save(JOB, "all", bytes(range(256)))
    assert await stores.journal.load(JOB) == {"empty": b"", "all": bytes(range(256))}
    assert (await stores.journal.jobs())[0].submission == bytes(range(256))


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_events_are_numbered_from_1_in_each_job(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    await stores.journal.open(OTHER, b"", text="")
    assert [await stores.journal.note(JOB, b"a"), await stores.journal.note(OTHER, b"b")] == [1, 1]
    assert [await stores.journal.note(JOB, b"c"), await stores.journal.note(JOB, b"d")] == [2, 3]
    assert list(await stores.journal.events(JOB)) == [(1, b"a"), (2, b"c"), (3, b"d")]
    assert list(await stores.journal.events(JOB, after=2)) == [(3, b"d")]
    assert list(await stores.journal.events(JOB, after=-5)) == [(1, b"a"), (2, b"c"), (3, b"d")]
    assert list(await stores.journal.events(JOB, after=99)) == []


async def test_many_writers_at_once_lose_nothing(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    async with asyncio.TaskGroup() as group:
        notes = [group.create_task(stores.journal.note(JOB, b"%d" % i), name=f"note[{i}]") for i in range(600)]
        for i in range(600):
            group.create_task(stores.journal.save(JOB, f"s{i}", b"x"), name=f"save[{i}]")
    numbers = [task.result() for task in notes]
    assert sorted(numbers) == list(range(1, 601))
    assert dict(await stores.journal.events(JOB)) == {n: b"%d" % i for i, n in enumerate(numbers)}
    assert len(await stores.journal.load(JOB)) == 600


# ── bounds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_huge_value_is_refused_with_a_sentence(stores: Stores) -> None:
    huge = bytes(bounds.MAX_STEP_BYTES + 1)
    await stores.journal.open(JOB, b"", text="")
    for attempt in (
        lambda: stores.journal.open(OTHER, huge, text=""),
        lambda: stores.journal.save(JOB, "route", huge),
        lambda: stores.journal.note(JOB, huge),
        lambda: stores.journal.close_job(JOB, status="done", result=huge),
        lambda: stores.outcomes.append(huge),
        lambda: stores.replies.keep("key", huge),
    ):
        with pytest.raises(StoreFailed, match=r"16,777,217 bytes, over the limit of [\d,]+"):
            await attempt()
    assert await stores.journal.load(JOB) == {}


async def test_a_value_at_the_limit_is_kept(stores: Stores) -> None:
    value = bytes(bounds.MAX_STEP_BYTES)
    await stores.journal.open(JOB, b"", text="")
    await stores.journal.save(JOB, "route", value)
    assert await stores.journal.load(JOB) == {"route": value}


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
async def test_a_name_that_no_database_keeps_is_misuse(stores: Stores, name: str) -> None:
    await stores.journal.open(JOB, b"", text="")
    with pytest.raises(ValueError, match="use 1 to"):
        await stores.journal.save(JOB, name, b"")
    with pytest.raises(ValueError, match="use 1 to"):
        await stores.journal.open(JobId(name), b"", text="")


# ── outcomes and replies ───────────────────────────────────────────────────────────────────────────────────────────────
async def test_outcomes_replay_oldest_first(stores: Stores) -> None:
    assert list(await stores.outcomes.replay()) == []
    for outcome in (b"a", b"b", b"a"):
        await stores.outcomes.append(outcome)
    assert list(await stores.outcomes.replay()) == [b"a", b"b", b"a"]


async def test_the_oldest_outcomes_are_forgotten(stores: Stores) -> None:
    for number in range(9):
        await stores.outcomes.append(b"%d" % number)
    assert list(await stores.outcomes.replay()) == [b"4", b"5", b"6", b"7", b"8"]


async def test_the_first_reply_of_a_key_holds(stores: Stores) -> None:
    assert await stores.replies.find("k") is None
    await stores.replies.keep("k", b"first")
    await stores.replies.keep("k", b"second")
    assert await stores.replies.find("k") == b"first"
    assert await stores.replies.find("other") is None


async def test_the_oldest_replies_are_forgotten(stores: Stores) -> None:
    for number in range(9):
        await stores.replies.keep(f"k{number}", b"%d" % number)
    kept = [await stores.replies.find(f"k{number}") for number in range(9)]
    assert kept == [None] * 4 + [b"4", b"5", b"6", b"7", b"8"]


async def test_a_reply_is_forgotten_after_its_time(stores: Stores) -> None:
    await stores.replies.keep("k", b"old")
    stores.clock.time += 60
    assert await stores.replies.find("k") == b"old"
    stores.clock.time += 1
    assert await stores.replies.find("k") is None
    await stores.replies.keep("k", b"new")
    assert await stores.replies.find("k") == b"new"


async def test_a_cancelled_save_leaves_the_store_usable(stores: Stores) -> None:
    await stores.journal.open(JOB, b"", text="")
    async with asyncio.TaskGroup() as group:
        saves = [group.create_task(stores.journal.save(JOB, f"s{n}", b"x"), name=f"save[{n}]") for n in range(50)]
        await asyncio.sleep(0)
        for task in saves[::2]:
            task.cancel()
    await stores.journal.save(JOB, "after", b"y")
    kept = await stores.journal.load(JOB)
    assert kept["after"] == b"y"
    assert {f"s{n}" for n in range(1, 50, 2)} <= set(kept)
