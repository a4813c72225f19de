"""The two kinds of database that `foa.agents.tools.sql` reads. Everything here blocks: it is for a thread."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from foa.agents.tools.sqlite import connect_file, seal, select
from foa.agents.tools.table import Rows
from foa.errors import BadInput

MAX_TABLES = 64
SECONDS = 5.0  #: to list the tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table and its columns."""

    name: str
    columns: tuple[str, ...]


def quoted(name: str) -> str:
    """An identifier in SQL's double quotes."""
    return '"' + name.replace('"', '""') + '"'


class SqliteFile:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = seal(connect_file(self._path))
        return self._connection

    def select(self, statement: str, parameters: Sequence[object] = (), *, rows: int, seconds: float) -> Rows:
        return select(self.open(), statement, parameters, rows=rows, seconds=seconds)

    def tables(self) -> tuple[Table, ...]:
        listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"
        names = [str(row[0]) for row in self.select(listed, rows=MAX_TABLES, seconds=SECONDS).rows]
        return tuple(
            Table(name=name, columns=self.select(f"SELECT * FROM {quoted(name)} LIMIT 0", rows=1, seconds=SECONDS).columns)
            for name in names
        )

    def like(self, table: Table, asked: Sequence[str]) -> tuple[str, list[object]]:
        # rowid is none of a view's columns; then its first column stands for it
        return _like(table, asked, key="rowid", text="CAST({} AS TEXT)".format)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Server:
    """Any other database, in a transaction that the server itself holds read-only."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sqlalchemy.make_url(url)
            self._dialect = parsed.get_backend_name()
            self._engine = sqlalchemy.create_engine(parsed, pool_size=1, max_overflow=0, pool_pre_ping=True)
        except (SQLAlchemyError, ImportError) as error:
            raise BadInput(f"the database URL is not usable ({type(error).__name__}: {str(error)[:200]})") from error
        if self._dialect == "sqlite":
            raise BadInput("give an SQLite database as a file, not as a URL: it is then opened read-only")

    def select(self, statement: str, parameters: Sequence[object] = (), *, rows: int, seconds: float) -> Rows:
        named = {f"p{number}": value for number, value in enumerate(parameters)}
        text = statement
        for key in named:
            text = text.replace("?", f":{key}", 1)
        try:
            with self._engine.connect() as connection:
                self._restrict(connection, seconds)
                result = connection.execute(sqlalchemy.text(text), named)
                found = result.fetchmany(rows + 1)
                columns = tuple(result.keys())
                connection.rollback()
        except SQLAlchemyError as error:
            raise BadInput(f"SQL: {str(getattr(error, 'orig', None) or error)[:500]}") from error
        return Rows(columns=columns, rows=tuple(tuple(row) for row in found[:rows]), more=len(found) > rows)

    def _restrict(self, connection: sqlalchemy.Connection, seconds: float) -> None:
        milliseconds = int(1_000 * seconds)
        if self._dialect == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
        elif self._dialect in ("mysql", "mariadb"):
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET SESSION max_execution_time = {milliseconds}")
        # others have no such transaction: the check of the statement stands before them; give a user who may only read

    def tables(self) -> tuple[Table, ...]:
        try:
            inspector = sqlalchemy.inspect(self._engine)
            names = sorted(inspector.get_table_names())[:MAX_TABLES]
            return tuple(
                Table(name=name, columns=tuple(column["name"] for column in inspector.get_columns(name))) for name in names
            )
        except SQLAlchemyError as error:
            raise BadInput(f"the database cannot be read: {str(error)[:300]}") from error

    def like(self, table: Table, asked: Sequence[str]) -> tuple[str, list[object]]:
        quote = self._engine.dialect.identifier_preparer.quote
        plain = Table(name=quote(table.name), columns=tuple(quote(column) for column in table.columns))
        mysql = self._dialect in ("mysql", "mariadb")
        text = ("LOWER(CAST({} AS " + ("CHAR" if mysql else "VARCHAR") + "))").format
        return _like(plain, asked, key=plain.columns[0], text=text, raw=True, joined=mysql)

    def close(self) -> None:
        self._engine.dispose()


def _like(
    table: Table, asked: Sequence[str], *, key: str, text: Callable[[str], str], raw: bool = False, joined: bool = False
) -> tuple[str, list[object]]:
    """A query for the rows with most of these words, the key first; how many words each has decides the order."""
    columns = table.columns if raw else tuple(quoted(column) for column in table.columns)
    name = table.name if raw else quoted(table.name)
    parts = [f"COALESCE({text(column)}, '')" for column in columns[:32]]
    whole = f"CONCAT_WS(' ', {', '.join(parts)})" if joined else " || ' ' || ".join(parts)
    score = " + ".join(f"(CASE WHEN {whole} LIKE ? THEN 1 ELSE 0 END)" for _ in asked)
    patterns: list[object] = [f"%{word}%" for word in asked]
    listed = ", ".join(columns[:32])
    statement = f"SELECT {key}, {listed} FROM {name} WHERE {score} > 0 ORDER BY {score} DESC LIMIT 100"
    return statement, [*patterns, *patterns]
