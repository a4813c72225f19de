"""Where the cards themselves lie, as they came, and the roster's rows: in memory, or in files where a million would not fit.

The shelf is a cache of what the broker retains: it is written fast rather than safely.
"""

import sqlite3
from pathlib import Path

from foa.errors import StoreFailed
from foa.registry.rows import FileRows, Rows
from foa.values.ids import AgentId


class Shelf:
    """Cards by agent, in memory."""

    def __init__(self) -> None:
        self._cards: dict[AgentId, bytes] = {}
        self.rows = Rows()

    def put(self, agent: AgentId, card: bytes) -> None:
        """Keep or replace."""
        self._cards[agent] = card

    def get(self, agent: AgentId) -> bytes | None:
        """The card, or None."""
        return self._cards.get(agent)

    def drop(self, agent: AgentId) -> None:
        """Forget; an unknown id does nothing."""
        self._cards.pop(agent, None)

    def close(self) -> None:
        """Let go."""


class FileShelf(Shelf):
    """Cards by agent, in one SQLite file, and the roster's rows beside it; both are emptied at the start.

    Raises (every method): StoreFailed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192;"
                "CREATE TABLE card (agent TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"no shelf for cards at {path}: {error}") from error
        self.rows = FileRows(path.with_suffix(".rows"))

    def put(self, agent: AgentId, card: bytes) -> None:
        """Keep or replace."""
        self._run("INSERT OR REPLACE INTO card VALUES (?, ?)", agent, card)

    def get(self, agent: AgentId) -> bytes | None:
        """The card, or None."""
        row = self._run("SELECT payload FROM card WHERE agent = ?", agent).fetchone()
        return bytes(row[0]) if row else None

    def drop(self, agent: AgentId) -> None:
        """Forget; an unknown id does nothing."""
        self._run("DELETE FROM card WHERE agent = ?", agent)

    def close(self) -> None:
        """Close the files."""
        self._db.close()
        self.rows.close()

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise StoreFailed(f"the shelf of cards: {error}") from error
