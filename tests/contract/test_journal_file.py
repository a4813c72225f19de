"""What a journal in a file promises: reopening, other processes, kill -9, older and newer formats, and clear failures."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from foa.errors import BadInput, StoreFailed
from foa.state.database import Database
from foa.state.schema import MIGRATIONS
from foa.state.sql import SqlJournal, SqlOutcomes, SqlReplies
from foa.values.ids import JobId

JOB = JobId("job-1")

# opens the journal, then saves and says so, until it has saved enough or is killed
WRITER = """
import asyncio, sys
from foa.state.database import Database
from foa.state.sql import SqlJournal

class Clock:
    now = monotonic = staticmethod(lambda: 1.0)

async def main(path, name, many):
    async with Database(path) as database:
        journal = SqlJournal(database, Clock())
        await journal.open("job-1", b"", text="")
        for number in range(many):
            await journal.save("job-1", f"{name}{number}", b"x" * 5_000)
            print(number, await journal.note("job-1", name.encode()), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


class StillClock:
    def now(self) -> float:
        return 1.0

    def monotonic(self) -> float:
        return 1.0

    async def sleep(self, seconds: float) -> None: ...


def journal_of(database: Database) -> SqlJournal:
    return SqlJournal(database, StillClock())


def start_writer(path: Path, name: str, many: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(many)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "journal.db"


async def test_everything_is_there_after_reopening(path: Path) -> None:
    async with Database(path) as database:
        journal = journal_of(database)
        await journal.open(JOB, b"sub", text="text")
        await journal.save(JOB, "route", b"r")
        await journal.note(JOB, b"e")
        await journal.close_job(JOB, status="done", result=b"end")
        await SqlOutcomes(database).append(b"o")
        await SqlReplies(database, StillClock()).keep("k", b"v")
    async with Database(f"sqlite:///{path}") as database:
        journal = journal_of(database)
        (row,) = await journal.jobs()
        assert (row.submission, row.text, row.status, row.result) == (b"sub", "text", "done", b"end")
        assert await journal.load(JOB) == {"route": b"r"}
        assert await journal.note(JOB, b"f") == 2
        assert list(await journal.events(JOB)) == [(1, b"e"), (2, b"f")]
        assert list(await SqlOutcomes(database).replay()) == [b"o"]
        assert await SqlReplies(database, StillClock()).find("k") == b"v"


async def test_saves_of_one_loop_turn_share_a_transaction(path: Path) -> None:
    async with Database(path) as database:
        journal = journal_of(database)
        await journal.open(JOB, b"", text="")
        commits: list[Connection] = []

        def count(connection: Connection) -> None:
            commits.append(connection)

        event.listen(Engine, "commit", count)
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(journal.save(JOB, f"s{number}", b"x"), name=f"save[{number}]")
        event.remove(Engine, "commit", count)
        assert len(commits) == 1
        assert len(await journal.load(JOB)) == 100


async def test_two_processes_write_one_file(path: Path) -> None:
    writers = [start_writer(path, name, 60) for name in ("a", "b")]
    for writer in writers:
        await asyncio.to_thread(writer.communicate)
        assert writer.returncode == 0
    async with Database(path) as database:
        journal = journal_of(database)
        steps = await journal.load(JOB)
        assert sorted(steps) == sorted(f"{name}{number}" for name in "ab" for number in range(60))
        events = await journal.events(JOB)
        assert [number for number, _ in events] == list(range(1, 121))
        assert sorted(event for _, event in events) == [b"a"] * 60 + [b"b"] * 60


async def test_a_killed_writer_loses_nothing_that_it_was_told_is_saved(path: Path) -> None:
    writer = start_writer(path, "s", 1_000_000)
    assert writer.stdout is not None

    def read_then_kill() -> list[tuple[int, int]]:
        told = [tuple(map(int, next(writer.stdout).split())) for _ in range(50)]  # type: ignore[arg-type]
        writer.send_signal(signal.SIGKILL)
        # lines are written whole: what was in the pipe when it died was promised too
        told += [tuple(map(int, line.split())) for line in writer.stdout if line.endswith("\n")]  # type: ignore[union-attr]
        writer.wait()
        writer.stdout.close()  # type: ignore[union-attr]
        return told  # type: ignore[return-value]

    told = await asyncio.to_thread(read_then_kill)
    assert writer.returncode == -signal.SIGKILL
    async with Database(path) as database:
        journal = journal_of(database)
        steps = await journal.load(JOB)
        events = await journal.events(JOB)
        assert {f"s{number}" for number, _ in told} <= set(steps)
        assert {event for _, event in told} <= {number for number, _ in events}
        assert all(result == b"x" * 5_000 for result in steps.values())
        await journal.save(JOB, "after", b"y")


# ── formats ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def add_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE jobs ADD COLUMN owner VARCHAR(64)"))


async def test_an_older_file_is_migrated_and_keeps_its_jobs(path: Path) -> None:
    async with Database(path) as database:
        await journal_of(database).open(JOB, b"sub", text="t")
    async with Database(path, migrations=[*MIGRATIONS, add_column]) as database:
        assert (await journal_of(database).jobs())[0].submission == b"sub"
        assert await database.read(lambda c: c.execute(text("SELECT owner FROM jobs")).scalar()) is None
        assert await database.read(lambda c: c.execute(text("SELECT version FROM format")).scalar()) == 2
    async with Database(path, migrations=[*MIGRATIONS, add_column]) as database:  # once is enough
        assert len(await journal_of(database).jobs()) == 1


async def test_a_failed_migration_leaves_the_file_as_it_was(path: Path) -> None:
    async with Database(path) as database:
        await journal_of(database).open(JOB, b"sub", text="t")

    def broken(connection: Connection) -> None:
        add_column(connection)
        connection.execute(text("SELECT nonsense FROM nowhere"))

    with pytest.raises(StoreFailed, match="no such table: nowhere"):
        async with Database(path, migrations=[*MIGRATIONS, broken]):
            pass
    async with Database(path) as database:
        assert len(await journal_of(database).jobs()) == 1


async def test_a_newer_file_is_refused_with_the_way_out(path: Path) -> None:
    async with Database(path, migrations=[*MIGRATIONS, add_column]):
        pass
    with pytest.raises(StoreFailed, match="has format 2, and this program knows formats up to 1: use the newer program"):
        async with Database(path):
            pass


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreFailed, match="tables of another program: give the journal a file of its own"):
        async with Database(path):
            pass


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no database, " * 100)
    with pytest.raises(StoreFailed, match=r"notes\.txt is not a journal: the file is something else"):
        async with Database(path):
            pass
    assert path.read_text().startswith("this is no database")


async def test_a_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot be opened; check that the path is a file"):
        async with Database(tmp_path):
            pass


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"the folder of the journal .* cannot be made"):
        async with Database(tmp_path / "file" / "journal.db"):
            pass


@pytest.fixture
def lock(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


async def test_a_locked_file_is_said_to_be_locked_and_works_when_let_go(path: Path, lock: sqlite3.Connection) -> None:
    async with Database(path, busy_seconds=0.05) as database:
        journal = journal_of(database)
        await journal.open(JOB, b"", text="")
        lock.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="is locked by another process that does not let go"):
            await journal.save(JOB, "route", b"r")
        assert await journal.load(JOB) == {}  # reading goes on
        lock.execute("ROLLBACK")
        await journal.save(JOB, "route", b"r")
        assert await journal.load(JOB) == {"route": b"r"}


async def test_a_full_disk_is_said_to_be_full_and_spares_what_fits(path: Path) -> None:
    async with Database(path) as database:
        journal = journal_of(database)
        await journal.open(JOB, b"", text="")
        pages = await database.read(lambda c: c.execute(text("PRAGMA page_count")).scalar())
        await database.read(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}").close())
        with pytest.raises(StoreFailed, match="the disk is full; make room and try again"):
            await journal.save(JOB, "big", b"x" * 100_000)
        await journal.save(JOB, "small", b"x")
        await database.read(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").close())
        await journal.save(JOB, "big", b"x" * 100_000)
        assert list(await journal.load(JOB)) == ["small", "big"]


async def test_a_url_of_an_unknown_database_is_bad_input() -> None:
    with pytest.raises(BadInput, match="use sqlite"):
        Database("oracle://host/name")
    with pytest.raises(BadInput, match="synchronous driver"):
        Database("sqlite+aiosqlite:///x.db")
    with pytest.raises(BadInput, match="use sqlite"):
        Database("nonsense://host/name")


async def test_a_closed_journal_says_so_and_lets_its_thread_go(path: Path) -> None:
    database = Database(path)
    async with database:
        pass
    await database.aclose()
    with pytest.raises(StoreFailed, match="is closed already"):
        await journal_of(database).load(JOB)


async def test_closing_waits_for_what_is_being_saved(path: Path) -> None:
    database = Database(path)
    journal = journal_of(database)
    await journal.open(JOB, b"", text="")
    async with asyncio.TaskGroup() as group:
        for number in range(600):  # more than two batches
            group.create_task(journal.save(JOB, f"s{number}", b"x"), name=f"save[{number}]")
        await asyncio.sleep(0)
        group.create_task(database.aclose(), name="close")
    async with Database(path) as again:
        assert len(await journal_of(again).load(JOB)) == 600


async def test_the_event_loop_goes_on_while_the_database_waits(path: Path, lock: sqlite3.Connection) -> None:
    async with Database(path, busy_seconds=30) as database:
        journal = journal_of(database)
        await journal.open(JOB, b"", text="")
        lock.execute("BEGIN IMMEDIATE")
        async with asyncio.TaskGroup() as group:
            saving = group.create_task(journal.save(JOB, "route", b"r"), name="save")
            for _ in range(100):
                await asyncio.sleep(0)
            assert not saving.done()
            lock.execute("ROLLBACK")
        assert await journal.load(JOB) == {"route": b"r"}
