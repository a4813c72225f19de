"""One SQL database, one thread that talks to it, one transaction for all that waits.

    coroutine ─┐                                     ┌─ BEGIN
    coroutine ─┼─► waiting ──► the thread, a batch ──┤  every work of the batch
    coroutine ─┘   (while a batch is under way)      └─ COMMIT ──► all of them return

Saves that come while the thread is busy share the next transaction, so a hundred at once cost one commit and a lone one
waits for nobody. A work returns when its transaction is committed, not before.

SQLite runs with a write-ahead log and `synchronous=NORMAL`: a killed process loses nothing that was committed, a power
cut may lose the last commits and never damages the file. `synchronous="FULL"` guards against the power cut too, at the
price of one fsync a transaction.

Source: sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from foa.errors import BadInput, StoreFailed
from foa.state.schema import MIGRATIONS, Migration, migrate

T = TypeVar("T")
Work = Callable[[Connection], T]

BATCH = 256  #: most works of one transaction, so that the first of many does not wait for all
#: Any number, the same in every process: PostgreSQL's lock for whoever migrates.
_MIGRATION_LOCK = 0x466F41


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    work: Work[object]
    writes: bool
    done: asyncio.Future[object]


#: What became of one work: its value, or the error it raised.
_Outcome = tuple[object, Exception | None]


class Database:
    """A SQLite file or a PostgreSQL database, shared by the stores of this process.

    Use it as `async with Database("jobs.db") as database:`; entering creates or migrates. Belongs to one event loop.

    Args:
        where: a file, made with its folder if it is missing, or an SQLAlchemy URL with a synchronous driver
            (`sqlite:///jobs.db`, `postgresql+psycopg://…`).
        synchronous: SQLite's; see the module's text.
        busy_seconds: how long to wait for another process that writes.
        migrations: one a format; only tests give others.

    Raises:
        BadInput: `where` is no usable URL or its driver is not installed.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        busy_seconds: float = 10.0,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self._url = _url_of(where)
        self._engine = _engine_of(self._url, synchronous=synchronous, busy_seconds=busy_seconds)
        self._migrations = migrations
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: deque[_Waiting] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ready = False  # touched by the thread only
        self._closed = False

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    async def __aenter__(self) -> Self:
        try:
            await self.read(lambda _: None)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def read(self, work: Work[T]) -> T:
        """Run `work` in the thread; it only reads.

        Raises:
            StoreFailed: the database cannot be read.
        """
        return await self._put(work, writes=False)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in the thread; what it wrote is committed when this returns.

        `work` may run twice, the first time undone, and runs to its end even if the caller is cancelled. It raises
        `StoreFailed` only before it writes anything.

        Raises:
            StoreFailed: nothing of it was saved, or (PostgreSQL only, the link lost while committing) nobody knows.
        """
        return await self._put(work, writes=True)

    async def aclose(self) -> None:
        """Finish what waits, then let go of the file. Calling twice does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=False)

    # ── on the event loop ──────────────────────────────────────────────────────────────────────────────────────────────
    async def _put(self, work: Work[T], *, writes: bool) -> T:
        if self._closed:
            raise StoreFailed(f"the journal {self._shown()} is closed already")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(work=work, writes=writes, done=done))  # type: ignore[arg-type]
        if self._idle.is_set():
            # after this turn of the loop, so that all who save in it share the transaction
            self._idle.clear()
            loop.call_soon(self._hand_over)
        return await done

    def _hand_over(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        ending = asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
        ending.add_done_callback(lambda ended: self._settle(batch, ended))

    def _settle(self, batch: list[_Waiting], ended: "asyncio.Future[list[_Outcome]]") -> None:
        if self._waiting:
            self._hand_over()
        else:
            self._idle.set()
        escaped = ended.exception()
        for position, one in enumerate(batch):
            if one.done.done():  # its caller was cancelled
                continue
            if escaped is not None:
                one.done.set_exception(escaped)
                continue
            value, error = ended.result()[position]
            if error is None:
                one.done.set_result(value)
            else:
                one.done.set_exception(error)

    # ── in the thread ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _run(self, batch: list[_Waiting]) -> list[_Outcome]:
        try:
            self._open()
        except StoreFailed as error:
            return [(None, error)] * len(batch)
        outcomes, alone = self._transact(batch)
        if alone:
            # one broken work must not take the others with it; nothing of the batch was saved
            return [self._transact([one])[0][0] for one in batch]
        return outcomes

    def _transact(self, batch: list[_Waiting]) -> tuple[list[_Outcome], bool]:
        """Run a batch in one transaction; the flag says that a work of several failed and all were undone."""
        working = False
        try:
            with self._begin(writes=any(one.writes for one in batch)) as connection:
                working = True
                outcomes = [self._attempt(one, connection) for one in batch]
                working = False
                connection.commit()
                return outcomes, False
        except SQLAlchemyError as error:
            failure: _Outcome = (None, self._failure(error))
            return [failure] * len(batch), working and len(batch) > 1

    def _attempt(self, one: _Waiting, connection: Connection) -> _Outcome:
        try:
            return one.work(connection), None
        except (StoreFailed, ValueError, OverflowError) as error:  # misuse shows when parameters are bound, before any write
            return None, error

    @contextmanager
    def _begin(self, *, writes: bool) -> Generator[Connection, None, None]:
        with self._engine.connect() as connection:
            if self.dialect == "sqlite":
                # a transaction that reads and only then writes may find the file changed and fail at once: lock first
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection

    def _open(self) -> None:
        if self._ready:
            return
        try:
            if self.dialect == "sqlite" and self._url.database not in (None, "", ":memory:"):
                Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
            with self._begin(writes=True) as connection:
                if self.dialect == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                migrate(connection, self._migrations)
                connection.commit()
        except SQLAlchemyError as error:
            raise self._failure(error) from error
        except OSError as error:
            raise StoreFailed(f"the folder of the journal {self._shown()} cannot be made: {error.strerror}") from error
        self._ready = True

    def _failure(self, error: SQLAlchemyError) -> StoreFailed:
        failure = StoreFailed(f"the journal {self._shown()} {_sentence(error)}")
        failure.__cause__ = error
        return failure

    def _shown(self) -> str:
        return self._url.render_as_string(hide_password=True).removeprefix("sqlite:///")


def _url_of(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        return make_url(where)
    except ArgumentError as error:
        raise BadInput("the journal's URL is not usable: write sqlite:///FILE or postgresql+psycopg://HOST/NAME") from error


def _engine_of(url: URL, *, synchronous: str, busy_seconds: float) -> Engine:
    try:
        dialect = url.get_dialect()
        if dialect.is_async or dialect.name not in ("sqlite", "postgresql"):
            raise BadInput(f"the journal's URL names {url.drivername!r}: use sqlite or postgresql with a synchronous driver")
        engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=url.get_backend_name() != "sqlite")
    except (NoSuchModuleError, ModuleNotFoundError, ArgumentError, TypeError) as error:
        raise BadInput(
            f"the journal cannot be kept in {url.drivername!r}: use sqlite:///FILE, or install its driver "
            "(psycopg[binary] for postgresql+psycopg)"
        ) from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, synchronous=synchronous, busy_seconds=busy_seconds)
    return engine


def _prepare_sqlite(engine: Engine, *, synchronous: str, busy_seconds: float) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: object, _: object) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # type: ignore[attr-defined]  # we write BEGIN ourselves
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()


#: What a database says, and what it means for whoever reads it.
_SENTENCES = (
    ("disk is full", "could not save: the disk is full; make room and try again"),
    ("No space left", "could not save: the disk is full; make room and try again"),
    ("is locked", "is locked by another process that does not let go; stop that one or try again"),
    ("not a database", "is not a journal: the file is something else, or encrypted; name another file"),
    ("malformed", "is damaged; restore it from a copy or name another file"),
    ("readonly", "may not be written; mend the file's permissions"),
    ("unable to open", "cannot be opened; check that the path is a file in a folder you may write to"),
    ("disk I/O error", "could not be read or written: the disk reports an error"),
    ("connection", "does not answer; check that the database server runs and its address is right"),
)


def _sentence(error: SQLAlchemyError) -> str:
    said = str(error.orig) if isinstance(error, DBAPIError) and error.orig is not None else str(error)
    for words, sentence in _SENTENCES:
        if words in said:
            return sentence
    return f"failed: {said.splitlines()[0][:300] if said else type(error).__name__}"
