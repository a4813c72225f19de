"""Read-only SQL: SQLite files, or any database that SQLAlchemy knows.

A query is one statement that reads; rows and time are bounded. For a small model the tool looks by itself for rows that hold
the question's words; each row it finds is a source: `orders?rowid=7`.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foa.agents.evidence import Evidence, terms
from foa.agents.tools.databases import Server, SqliteFile, Table
from foa.agents.tools.guard import text_argument, text_schema
from foa.agents.tools.table import Rows, cell
from foa.errors import BadInput
from foa.plan.consensus import words
from foa.values.draft import Source

ROWS = 50  #: most rows of one query
SECONDS = 5.0  #: of one query
MAX_TERMS = 6  #: words of a question that are looked for

_READS = re.compile(r"^\s*(?:select|with|values|explain\s+query\s+plan)\b", re.IGNORECASE)
_NOT_READING = re.compile(
    r"\b(?:insert|update|delete|merge|drop|alter|create|truncate|grant|revoke|call|execute|copy|into|lock|vacuum|attach|set)\b",
    re.IGNORECASE,
)


class SqlTool:
    """Queries one database.

    Args:
        database: an SQLite file, or an SQLAlchemy URL.
        name: the tool's name.
        about: what the database holds, for models.
        rows: most rows of one query.
        seconds: most time of one query.
    """

    def __init__(
        self, database: Path | str, *, name: str = "sql", about: str = "", rows: int = ROWS, seconds: float = SECONDS
    ) -> None:
        self.name = name
        self.parameters = text_schema({"sql": "one SELECT statement"}, required=["sql"])
        self._about = about or "a database"
        self._rows = rows
        self._seconds = seconds
        self._lock = asyncio.Lock()  # one statement at a time: a connection is not shared
        self._database = SqliteFile(database) if isinstance(database, Path) else Server(database)
        self._tables: tuple[Table, ...] | None = None

    @property
    def description(self) -> str:
        """What it is and, once it was asked, its tables."""
        tables = "; ".join(f"{table.name}({', '.join(table.columns[:16])})" for table in (self._tables or ())[:16])
        return f"Reads {self._about} with SQL. {f'Tables: {tables}.' if tables else ''}"[:2_000].strip()

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Run a statement for a model.

        Raises:
            BadInput: no statement, not one that reads, wrong, or too long in running.
        """
        return (await self.query(text_argument(arguments, "sql", most=10_000))).text()

    async def query(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        """Run one reading statement.

        Raises:
            BadInput: as `__call__`.
        """
        check_reads(statement)
        async with self._lock:
            return await asyncio.to_thread(
                self._database.select, statement, parameters, rows=self._rows, seconds=self._seconds
            )

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """Rows that hold the most words of the question, best first.

        Raises:
            BadInput: the database cannot be read.
        """
        asked = sorted(words(query), key=lambda word: (-len(word), word))[:MAX_TERMS]
        if not asked:
            return []
        found: list[Evidence] = []
        async with self._lock:
            tables = await asyncio.to_thread(self._database.tables)
            self._tables = tables
            for table in tables:
                statement, parameters = self._database.like(table, asked)
                try:
                    rows = await asyncio.to_thread(
                        self._database.select, statement, parameters, rows=4 * k, seconds=self._seconds
                    )
                except BadInput:
                    continue  # a view that is broken, or a table that is too large to scan: the others still answer
                found += [_evidence(table, row, query) for row in rows.rows]
        return sorted(found, key=lambda piece: -piece.score)[:k]

    async def aclose(self) -> None:
        """Close the database."""
        async with self._lock:
            await asyncio.to_thread(self._database.close)


def check_reads(statement: str) -> None:
    """Refuse what is not one statement that reads.

    Raises:
        BadInput: it is not.
    """
    if not statement.strip():
        raise BadInput("give one SELECT statement in `sql`")
    bare = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", " ", statement, flags=re.DOTALL).strip().rstrip(";")
    if ";" in bare:
        raise BadInput("one statement at a time, please")
    if not _READS.match(bare) or _NOT_READING.search(bare):
        raise BadInput("only reading is allowed: begin with SELECT or WITH, and change nothing")


def _evidence(table: Table, row: Sequence[object], query: str) -> Evidence:
    key, values = row[0], row[1:]
    pairs = [f"{column}: {cell(value)}" for column, value in zip(table.columns, values, strict=False) if value is not None]
    text = "\n".join(pairs)
    asked = terms(query)
    score = len(asked & terms(text)) / max(1, len(asked))
    return Evidence(
        source=Source(kind="row", locator=f"{table.name}?rowid={cell(key)}"[:500]), text=text[:4_000], score=score
    )
