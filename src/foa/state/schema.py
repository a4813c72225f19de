"""The tables of the journal, and how an older file becomes a newer one.

    format    one row: the version of what follows
    jobs      a job, its submission, its end, and how many events it has
    steps     the saved result of each step of a job; the first one holds
    events    progress events, numbered from 1 in each job
    outcomes  graded contributions, oldest first
    replies   an agent's replies by deduplication key

Each format is a function that brings a database from the format before it. A released one never changes: mend it with the
next. Portable SQL only: SQLite and PostgreSQL run the same.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)

from foa.errors import StoreFailed

#: Changes a database of the format before into the next one.
Migration = Callable[[Connection], None]

tables = MetaData()
# SQLite counts rows by itself only where the key is spelled INTEGER
_Serial = BigInteger().with_variant(Integer, "sqlite")

format_table = Table("format", tables, Column("version", Integer, primary_key=True, autoincrement=False))
jobs = Table(
    "jobs",
    tables,
    Column("serial", _Serial, primary_key=True, autoincrement=True),
    Column("job", String(200), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("text", String(200), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),
    Column("noted", BigInteger, nullable=False),
    Column("submission", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Index("jobs_by_status", "status", "serial"),
)
steps = Table(
    "steps",
    tables,
    Column("serial", _Serial, primary_key=True, autoincrement=True),
    Column("job", String(200), ForeignKey("jobs.job", ondelete="CASCADE"), nullable=False),
    Column("step", String(200), nullable=False),
    Column("result", LargeBinary, nullable=False),
    UniqueConstraint("job", "step"),
)
events = Table(
    "events",
    tables,
    Column("job", String(200), ForeignKey("jobs.job", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("event", LargeBinary, nullable=False),
)
outcomes = Table(
    "outcomes",
    tables,
    Column("serial", _Serial, primary_key=True, autoincrement=True),
    Column("outcome", LargeBinary, nullable=False),
)
replies = Table(
    "replies",
    tables,
    Column("serial", _Serial, primary_key=True, autoincrement=True),
    Column("key", String(512), nullable=False, unique=True),
    Column("kept_at", Float(53), nullable=False),
    Column("reply", LargeBinary, nullable=False),
    Index("replies_by_age", "kept_at"),
)


def _create(connection: Connection) -> None:
    tables.create_all(connection)


#: One a format, the first of them making format 1 out of an empty database.
MIGRATIONS: Sequence[Migration] = (_create,)


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring the database to the newest format; the caller holds the write lock and commits.

    Returns:
        The format it had before; 0 for an empty database.

    Raises:
        StoreFailed: a newer program wrote it, or its tables belong to another program.
    """
    before = _format_of(connection)
    if before > len(migrations):
        raise StoreFailed(
            f"the journal has format {before}, and this program knows formats up to {len(migrations)}: "
            "use the newer program that wrote it, or another journal file"
        )
    for step in migrations[before:]:
        step(connection)
    if before == 0:
        connection.execute(insert(format_table).values(version=len(migrations)))
    elif before < len(migrations):
        connection.execute(update(format_table).values(version=len(migrations)))
    return before


def _format_of(connection: Connection) -> int:
    names = set(inspect(connection).get_table_names())
    if "format" not in names:
        if names & set(tables.tables):
            raise StoreFailed("the database holds tables of another program: give the journal a file of its own")
        return 0
    version = connection.execute(select(format_table.c.version)).scalar()
    if version is None:
        raise StoreFailed("the journal's format is not written in it: it is damaged; restore it or use another file")
    return version
