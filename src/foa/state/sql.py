"""The stores in SQL: SQLite by default, PostgreSQL where many orchestrators share one journal.

async with Database("jobs.db") as database:
    journal, outcomes, replies = SqlJournal(database, clock), SqlOutcomes(database), SqlReplies(database, clock)
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Insert, RowMapping, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from foa.errors import StoreFailed
from foa.ports import Clock, JobRow
from foa.state import bounds, schema
from foa.state.database import Database
from foa.values.ids import JobId


def _insert_first(table: Table, dialect: str, *unique: str) -> Insert:
    """An insert that leaves a row with the same `unique` columns as it is."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing(index_elements=list(unique))


_LOAD = select(schema.steps.c.step, schema.steps.c.result).where(schema.steps.c.job == bindparam("of")).order_by("serial")
_EVENTS = (
    select(schema.events.c.number, schema.events.c.event)
    .where(schema.events.c.job == bindparam("of"), schema.events.c.number > bindparam("after"))
    .order_by(schema.events.c.number)
)
# the row of the job is locked while its counter goes up: two writers never give one number twice
_COUNT = (
    update(schema.jobs)
    .where(schema.jobs.c.job == bindparam("of"))
    .values(noted=schema.jobs.c.noted + bindparam("more"))
    .returning(schema.jobs.c.noted)
)
_END = (
    update(schema.jobs)
    .where(schema.jobs.c.job == bindparam("of"), schema.jobs.c.ended_at.is_(None))
    .values(status=bindparam("to"), result=bindparam("with"), ended_at=bindparam("at"))
)
_KNOWN = select(schema.jobs.c.serial).where(schema.jobs.c.job == bindparam("of"))


class SqlJournal:
    """`Journal` in a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._open = _insert_first(schema.jobs, database.dialect, "job").returning(schema.jobs.c.serial)
        self._save = _insert_first(schema.steps, database.dialect, "job", "step")

    async def open(self, job: JobId, submission: bytes, *, text: str) -> bool:
        """Admit a job. False: it was there already."""
        row = {
            "job": bounds.check_name(job, bounds.MAX_NAME_CHARACTERS, what="job"),
            "status": "running",
            "text": bounds.shorten(text),
            "created_at": self._clock.now(),
            "noted": 0,
            "submission": bounds.check_bytes(submission, bounds.MAX_STEP_BYTES, what=f"the submission of job {job}"),
        }
        return await self._database.write(lambda c: c.execute(self._open, row).scalar() is not None)

    async def load(self, job: JobId) -> Mapping[str, bytes]:
        """Every saved step of a job, in the order of saving; empty for an unknown job."""
        return await self._database.read(lambda c: {row.step: row.result for row in c.execute(_LOAD, {"of": job})})

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        """Keep the result of a step; the first one holds.

        Raises:
            StoreFailed: also when the job was never opened, or the result is over `bounds.MAX_STEP_BYTES`.
        """
        row = {
            "job": job,
            "step": bounds.check_name(step, bounds.MAX_NAME_CHARACTERS, what="step"),
            "result": bounds.check_bytes(result, bounds.MAX_STEP_BYTES, what=f"the result of step {step}"),
        }
        try:
            await self._database.write(lambda c: _ignore(c.execute(self._save, row)))
        except StoreFailed as error:
            if isinstance(error.__cause__, IntegrityError):
                raise _unknown(job) from error
            raise

    async def note(self, job: JobId, *events: bytes) -> int:
        """Append progress events; gives the number of the last, counted from 1 in each job.

        Raises:
            StoreFailed: also when the job was never opened, or an event is over `bounds.MAX_EVENT_BYTES`.
        """
        for event in events:
            bounds.check_bytes(event, bounds.MAX_EVENT_BYTES, what=f"an event of job {job}")

        def append(connection: Connection) -> int:
            last = connection.execute(_COUNT, {"of": job, "more": len(events)}).scalar()
            if last is None:
                raise _unknown(job)
            numbered = enumerate(events, start=last - len(events) + 1)
            rows = [{"job": job, "number": number, "event": event} for number, event in numbered]
            if rows:
                connection.execute(schema.events.insert(), rows)
            return last

        return await self._database.write(append)

    async def events(self, job: JobId, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """The events after this number, in order."""
        asked = {"of": job, "after": max(after, 0)}
        return await self._database.read(lambda c: [(row.number, row.event) for row in c.execute(_EVENTS, asked)])

    async def close_job(self, job: JobId, *, status: str, result: bytes) -> None:
        """The job ended. The first end holds.

        Raises:
            StoreFailed: also when the job was never opened, or the result is over `bounds.MAX_STEP_BYTES`.
        """
        end = {
            "of": job,
            "to": bounds.check_ending(status),
            "with": bounds.check_bytes(result, bounds.MAX_STEP_BYTES, what=f"the result of job {job}"),
            "at": self._clock.now(),
        }

        def close(connection: Connection) -> None:
            if connection.execute(_KNOWN, {"of": job}).first() is None:
                raise _unknown(job)
            connection.execute(_END, end)

        await self._database.write(close)

    async def jobs(self, *, status: str | None = None, job: JobId | None = None, limit: int = 100) -> Sequence[JobRow]:
        """Jobs, newest first."""
        asked = select(schema.jobs).order_by(schema.jobs.c.serial.desc())
        if status is not None:
            asked = asked.where(schema.jobs.c.status == status)
        if job is not None:
            asked = asked.where(schema.jobs.c.job == job)
        asked = asked.limit(max(0, min(limit, bounds.MAX_JOBS_LISTED)))
        return await self._database.read(lambda c: [_row(found) for found in c.execute(asked).mappings()])


def _ignore(_: object) -> None:
    """Keep a result set from leaving the thread it belongs to."""


def _unknown(job: JobId) -> StoreFailed:
    return StoreFailed(f"job {job} is not in the journal: open it before anything else is kept of it")


def _row(found: RowMapping) -> JobRow:
    return JobRow(
        job=JobId(found["job"]),
        status=found["status"],
        text=found["text"],
        created_at=found["created_at"],
        ended_at=found["ended_at"],
        submission=found["submission"],
        result=found["result"],
    )


class SqlOutcomes:
    """`Outcomes` in a database: the newest `kept` of them."""

    def __init__(self, database: Database, *, kept: int = bounds.OUTCOMES_KEPT) -> None:
        self._database = database
        self._kept = kept
        self._append = schema.outcomes.insert().returning(schema.outcomes.c.serial)
        self._forget = delete(schema.outcomes).where(schema.outcomes.c.serial <= bindparam("until"))

    async def append(self, *outcomes: bytes) -> None:
        """Keep graded outcomes, all or none.

        Raises:
            StoreFailed: also when one is over `bounds.MAX_OUTCOME_BYTES`.
        """
        for outcome in outcomes:
            bounds.check_bytes(outcome, bounds.MAX_OUTCOME_BYTES, what="an outcome")

        def append(connection: Connection) -> None:
            serials = [connection.execute(self._append, {"outcome": outcome}).scalar_one() for outcome in outcomes]
            if serials:
                connection.execute(self._forget, {"until": serials[-1] - self._kept})

        await self._database.write(append)

    async def replay(self) -> Sequence[bytes]:
        """All that are kept, oldest first."""
        asked = select(schema.outcomes.c.outcome).order_by(schema.outcomes.c.serial)
        return await self._database.read(lambda c: list(c.execute(asked).scalars()))


class SqlReplies:
    """`Replies` in a database: the newest `kept`, none older than `seconds`."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        kept: int = bounds.REPLIES_KEPT,
        seconds: float = bounds.REPLY_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._kept = kept
        self._seconds = seconds
        replies = schema.replies
        self._kept_since = 0
        self._keys: set[str] = set()
        self._all_known = False
        self._every = select(replies.c.key)
        self._find = select(replies.c.reply).where(
            replies.c.key == bindparam("of"), replies.c.kept_at >= bindparam("oldest")
        )
        self._keep = _insert_first(replies, database.dialect, "key")
        newest = select(func.max(replies.c.serial)).scalar_subquery()
        self._stale = delete(replies).where(replies.c.key == bindparam("of"), replies.c.kept_at < bindparam("oldest"))
        self._old = delete(replies).where(replies.c.kept_at < bindparam("oldest"))
        self._many = delete(replies).where(replies.c.serial <= newest - kept)

    async def find(self, key: str) -> bytes | None:
        """The stored reply, if there is one that is not too old.

        Nearly every key is new, so the keys are held in memory: read once, then followed. A key that another process keeps
        after that is not seen: an agent lives in one process at a time.
        """
        if not self._all_known:
            found = await self._database.read(lambda c: list(c.execute(self._every).scalars()))
            self._keys.update(found)
            self._all_known = True
        if key not in self._keys and len(self._keys) <= 2 * self._kept:  # past that, keys are no longer followed
            return None
        asked = {"of": key, "oldest": self._clock.now() - self._seconds}
        return await self._database.read(lambda c: c.execute(self._find, asked).scalar())

    async def keep(self, key: str, reply: bytes) -> None:
        """Store it; the first one holds.

        Raises:
            StoreFailed: also when it is over `bounds.MAX_REPLY_BYTES`.
        """
        now = self._clock.now()
        row = {
            "key": bounds.check_name(key, bounds.MAX_KEY_CHARACTERS, what="deduplication key"),
            "reply": bounds.check_bytes(reply, bounds.MAX_REPLY_BYTES, what="a reply"),
            "kept_at": now,
        }

        if len(self._keys) <= 2 * self._kept:
            self._keys.add(key)
        self._kept_since += 1
        prune = self._kept_since % max(1, self._kept // 100) == 0  # the bound may be passed by 1 %

        def keep(connection: Connection) -> None:
            connection.execute(self._stale, {"of": key, "oldest": now - self._seconds})
            connection.execute(self._keep, row)
            if prune:
                connection.execute(self._old, {"oldest": now - self._seconds})
                connection.execute(self._many)

        await self._database.write(keep)
