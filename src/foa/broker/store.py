"""What outlives the process, in SQLite: durable sessions, their subscriptions and queues, retained messages.

Changes are collected in memory and written in one transaction a turn of the event loop, before anything of that turn is
sent: a PUBACK never leaves before its message is committed, and a thousand messages of one turn cost one commit. The journal
mode is WAL with `synchronous=NORMAL`: a commit is in the operating system's hands, so nothing is lost when the process is
killed; a power cut may lose the last moments, as SQLite syncs at checkpoints only.

The writing is done in the event loop's own thread, on purpose: measured, a row costs 2 µs there, and 2 to 10 µs in a second
thread, which must win the interpreter lock back from a busy loop, while the acknowledgements wait for it.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from foa.broker.message import Message
from foa.broker.packets import Will
from foa.broker.session import Outgoing, Session
from foa.broker.topics import Subscription, options_of
from foa.errors import BadInput, StoreFailed

log = logging.getLogger(__name__)

VERSION = 1
FILE = "broker.sqlite3"

SCHEMA = """
CREATE TABLE session (number INTEGER PRIMARY KEY, client TEXT, user TEXT, expiry INTEGER, gone_at REAL,
    will_topic BLOB, will_payload BLOB, will_properties BLOB, will_flags INTEGER, will_expiry INTEGER, will_delay INTEGER);
CREATE TABLE subscription (session INTEGER, filter TEXT, options INTEGER, identifier INTEGER,
    PRIMARY KEY (session, filter)) WITHOUT ROWID;
CREATE TABLE message (id INTEGER PRIMARY KEY, topic BLOB, payload BLOB, properties BLOB, flags INTEGER, expires_at REAL);
CREATE TABLE outgoing (id INTEGER PRIMARY KEY, session INTEGER, message INTEGER, flags INTEGER, identifiers BLOB,
    packet_id INTEGER, share TEXT);
CREATE TABLE received (session INTEGER, packet_id INTEGER, PRIMARY KEY (session, packet_id)) WITHOUT ROWID;
CREATE TABLE retained (topic BLOB PRIMARY KEY, payload BLOB, properties BLOB, flags INTEGER, expires_at REAL) WITHOUT ROWID;
"""

#: table → columns of its key, all columns
TABLES: Mapping[str, tuple[tuple[str, ...], int]] = MappingProxyType(
    {
        "session": (("number",), 11),
        "subscription": (("session", "filter"), 4),
        "message": (("id",), 6),
        "outgoing": (("id",), 7),
        "received": (("session", "packet_id"), 2),
        "retained": (("topic",), 5),
    }
)
UPSERT = {table: f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * width)})" for table, (_, width) in TABLES.items()}
DELETE = {
    table: f"DELETE FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in key)}"
    for table, (key, _) in TABLES.items()
}

Field = int | float | str | bytes | None
Row = tuple[Field, ...]
Changes = dict[Row, Row | None]  #: key → whole row; None: delete it


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSession:
    """A session as it was saved."""

    number: int
    client_id: str
    user: str | None
    expiry_seconds: int
    gone_seconds: float | None  #: how long it has been without a connection; None: it had one when the broker ended
    will: Will | None
    subscriptions: Sequence[tuple[str, int, int]]  #: filter, options, identifier
    received: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedOutgoing:
    """An entry of a session's queue as it was saved, in order."""

    session: int
    outgoing: Outgoing
    share: str  #: filter of the shared subscription it came by; empty: none


class Store:
    """The broker's file. `commit` once a turn; everything else only notes what changed.

    Args:
        directory: where the file is; made if it is not there.
        clock: monotonic seconds, which messages expire by.
        wall: seconds since the epoch, which the file is written in.

    Raises:
        BadInput: the directory or the file cannot be used.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._path = directory / FILE
        self._sessions: Changes = {}
        self._subscriptions: Changes = {}
        self._messages: Changes = {}
        self._outgoing: Changes = {}
        self._received: Changes = {}
        self._retained: Changes = {}
        self._ended: list[tuple[int]] = []
        self.dirty = False
        self._file = self._open(directory)
        self._last_row = self._highest("outgoing", "id")
        self._last_message = self._highest("message", "id")
        self._last_session = self._highest("session", "number")

    def _open(self, directory: Path) -> sqlite3.Connection:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            file.execute("PRAGMA busy_timeout = 2000")
            file.execute("PRAGMA locking_mode = EXCLUSIVE")
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = NORMAL")
            file.execute("PRAGMA wal_autocheckpoint = 4000")
            version = file.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                file.executescript(f"BEGIN EXCLUSIVE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise BadInput(
                f"the broker cannot use {self._path}: {error}. Name another data directory, or stop what holds it."
            ) from error
        if version not in (0, VERSION):
            file.close()
            raise BadInput(f"{self._path} has format {version}, this broker writes {VERSION}: name another data directory")
        return file

    def _highest(self, table: str, column: str) -> int:
        return int(self._file.execute(f"SELECT COALESCE(MAX({column}), 0) FROM {table}").fetchone()[0])

    # ── noting changes ─────────────────────────────────────────────────────────────────────────────────────────────
    def _until(self, expires_at: float | None) -> float | None:
        return None if expires_at is None else expires_at - self._clock() + self._wall()

    def next_session(self) -> int:
        """A number no session of this file had."""
        self._last_session += 1
        return self._last_session

    def save_session(self, session: Session, *, gone: bool) -> None:
        """Its owner, expiry and will; `gone`: it has no connection from now on."""
        will = session.will
        gone_at = self._wall() if gone else None
        row: Row = (session.number, session.client_id, session.user, session.expiry_seconds, gone_at)
        if will is None:
            row += (None,) * 6
        else:
            flags = will.qos << 1 | will.retain
            row += (will.topic, will.payload, will.properties, flags, will.expiry_seconds, will.delay_seconds)
        self._sessions[(session.number,)] = row
        self.dirty = True

    def end_session(self, session: Session) -> None:
        """Forget it, its subscriptions and its queue."""
        for outgoing in [*session.inflight.values(), *session.queue]:
            self.dequeue(outgoing)
        self._sessions[(session.number,)] = None
        self._ended.append((session.number,))
        self.dirty = True

    def subscribe(self, session: Session, subscription: Subscription) -> None:
        """Keep a subscription."""
        key = (session.number, subscription.filter)
        self._subscriptions[key] = (*key, options_of(subscription), subscription.identifier)
        self.dirty = True

    def unsubscribe(self, session: Session, filter_: str) -> None:
        """Forget a subscription."""
        self._subscriptions[(session.number, filter_)] = None
        self.dirty = True

    def enqueue(self, session: Session, outgoing: Outgoing) -> None:
        """Keep an entry of a session's queue, and its message with the first that needs it."""
        message = outgoing.message
        if not message.row:
            self._last_message += 1
            message.row = self._last_message
            until = self._until(message.expires_at)
            flags = message.qos << 1 | message.retain
            row = (message.row, message.topic, message.payload, message.properties, flags, until)
            self._messages[(message.row,)] = row
        message.references += 1
        self._last_row += 1
        outgoing.row = self._last_row
        self.update(session, outgoing)

    def update(self, session: Session, outgoing: Outgoing) -> None:
        """Keep how far an entry has come."""
        flags = outgoing.qos << 1 | outgoing.retain | outgoing.released << 3
        share = outgoing.group.filter if outgoing.group is not None else None
        row = outgoing.row
        message = outgoing.message.row
        self._outgoing[(row,)] = (row, session.number, message, flags, outgoing.identifiers, outgoing.packet_id, share)
        self.dirty = True

    def dequeue(self, outgoing: Outgoing) -> None:
        """Forget an entry, and its message with the last that needed it."""
        if not outgoing.row:
            return
        self._outgoing[(outgoing.row,)] = None
        outgoing.row = 0
        message = outgoing.message
        message.references -= 1
        if not message.references:
            self._messages[(message.row,)] = None
            message.row = 0
        self.dirty = True

    def receive(self, session: Session, packet_id: int, *, open_: bool) -> None:
        """Keep or forget a QoS 2 packet identifier that came in and is not released."""
        key = (session.number, packet_id)
        self._received[key] = key if open_ else None
        self.dirty = True

    def retain(self, topic: bytes, message: Message | None) -> None:
        """Keep or forget a topic's retained message."""
        if message is None:
            self._retained[(topic,)] = None
        else:
            until = self._until(message.expires_at)
            self._retained[(topic,)] = (topic, message.payload, message.properties, message.qos << 1, until)
        self.dirty = True

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────
    def commit(self) -> None:
        """Write what changed, in one transaction.

        Raises:
            StoreFailed: it could not be written (a full disk). What changed stays noted for the next commit.
        """
        try:
            self._file.execute("BEGIN IMMEDIATE")
            for table, changes in self._changes():
                write(self._file, table, changes)
            for table in ("subscription", "received"):
                self._file.executemany(f"DELETE FROM {table} WHERE session = ?", self._ended)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise StoreFailed(f"the broker could not write {self._path}: {error}") from error
        for _, changes in self._changes():
            changes.clear()
        self._ended.clear()
        self.dirty = False

    def _changes(self) -> Iterator[tuple[str, Changes]]:
        yield "session", self._sessions
        yield "subscription", self._subscriptions
        yield "message", self._messages
        yield "outgoing", self._outgoing
        yield "received", self._received
        yield "retained", self._retained

    def close(self) -> None:
        """Write what changed, and close the file."""
        try:
            if self.dirty:
                self.commit()
        finally:
            self._file.close()

    # ── reading, once, at the start ────────────────────────────────────────────────────────────────────────────────
    def sessions(self) -> Iterator[SavedSession]:
        """Every session that was saved."""
        subscriptions: dict[int, list[tuple[str, int, int]]] = {}
        for number, filter_, options, identifier in self._file.execute("SELECT * FROM subscription"):
            subscriptions.setdefault(number, []).append((filter_, options, identifier))
        received: dict[int, set[int]] = {}
        for number, packet_id in self._file.execute("SELECT * FROM received"):
            received.setdefault(number, set()).add(packet_id)
        now = self._wall()
        for number, client, user, expiry, gone_at, *will in self._file.execute("SELECT * FROM session ORDER BY number"):
            yield SavedSession(
                number=number,
                client_id=client,
                user=user,
                expiry_seconds=expiry,
                gone_seconds=None if gone_at is None else max(0.0, now - gone_at),
                will=read_will(will),
                subscriptions=subscriptions.get(number, ()),
                received=frozenset(received.get(number, ())),
            )

    def outgoing(self) -> Iterator[SavedOutgoing]:
        """Every entry of every queue, oldest first; entries of one message share it."""
        shift = self._clock() - self._wall()
        messages: dict[int, Message] = {}
        for row, topic, payload, properties, flags, until in self._file.execute("SELECT * FROM message"):
            messages[row] = read_saved(topic, payload, properties, flags, until, shift)
            messages[row].row = row
        for row, number, key, flags, identifiers, packet_id, share in self._file.execute(
            "SELECT * FROM outgoing ORDER BY id"
        ):
            message = messages[key]
            message.references += 1
            outgoing = Outgoing(message, flags >> 1 & 3, bool(flags & 1), identifiers, None, message.size)
            outgoing.row, outgoing.packet_id, outgoing.released = row, packet_id, bool(flags & 8)
            yield SavedOutgoing(session=number, outgoing=outgoing, share=share or "")

    def retained(self) -> Iterator[Message]:
        """Every retained message."""
        shift = self._clock() - self._wall()
        for topic, payload, properties, flags, until in self._file.execute("SELECT * FROM retained"):
            yield read_saved(topic, payload, properties, flags | 1, until, shift)


def write(file: sqlite3.Connection, table: str, changes: Changes) -> None:
    """Write one table's changes."""
    if not changes:
        return
    gone = [key for key, row in changes.items() if row is None]
    if gone:
        file.executemany(DELETE[table], gone)
    if len(gone) < len(changes):
        file.executemany(UPSERT[table], (row for row in changes.values() if row is not None))


def read_saved(topic: bytes, payload: bytes, properties: bytes, flags: int, until: float | None, shift: float) -> Message:
    """A message from its columns; `shift` turns the wall clock into the monotonic one."""
    return Message(topic, payload, properties, flags >> 1 & 3, bool(flags & 1), None if until is None else until + shift)


def read_will(columns: Sequence[Field]) -> Will | None:
    """A will from its six columns."""
    match columns:
        case [bytes(topic), bytes(payload), bytes(properties), int(flags), int() | None as expiry, int(delay)]:
            return Will(
                topic=topic,
                payload=payload,
                qos=flags >> 1,
                retain=bool(flags & 1),
                properties=properties,
                expiry_seconds=expiry,
                delay_seconds=delay,
            )
        case _:
            return None
