"""SQLite, read-only whatever a statement says: opened `mode=ro`, an authorizer asked of every action, rows and time bounded.

Everything here blocks: it is for a thread.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from foa.agents.tools.table import Rows
from foa.errors import BadInput

STEPS = 10_000  #: virtual machine instructions between two looks at the clock

_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE))
#: Functions that reach outside the database, or can be made to.
_FORBIDDEN = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "zeroblob", "randomblob"))


def connect_file(path: Path) -> sqlite3.Connection:
    """Open a database file for reading only.

    Raises:
        BadInput: no such file, or it is no database.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such database file")
    try:
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False, timeout=5)
    except sqlite3.Error as error:
        raise BadInput(f"{path}: cannot be opened as SQLite ({error})") from error


def seal(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Let a connection read and nothing else; gives it back."""
    connection.execute("PRAGMA query_only=ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 20_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    return connection


def select(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[object] = (), *, rows: int, seconds: float
) -> Rows:
    """Run one reading statement on a sealed connection.

    Args:
        connection: from `seal`.
        statement: SQL with `?` for parameters.
        parameters: their values.
        rows: most rows that come back.
        seconds: the statement is interrupted after so long.

    Raises:
        BadInput: the statement is wrong, would write, or takes too long; the sentence is for whoever wrote it.
    """
    connection.set_progress_handler(_until(time.monotonic() + seconds), STEPS)
    try:
        with closing(connection.execute(statement, tuple(parameters))) as cursor:
            columns = tuple(column[0] for column in cursor.description or ())
            found = cursor.fetchmany(rows + 1)
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise BadInput(f"the query took longer than {seconds:g} s; narrow it with WHERE or LIMIT") from error
        raise BadInput(f"SQL: {error}") from error
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        denied = " (only reading is allowed)" if "not authorized" in str(error) or "prohibited" in str(error) else ""
        raise BadInput(f"SQL: {error}{denied}") from error
    finally:
        connection.set_progress_handler(None, 0)
    return Rows(columns=columns, rows=tuple(tuple(row) for row in found[:rows]), more=len(found) > rows)


def _until(deadline: float) -> Callable[[], int]:
    return lambda: int(time.monotonic() > deadline)
