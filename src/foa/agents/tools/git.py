"""A repository's history as tables, loaded from `git log` once and again when HEAD moves.

    commits(hash, author, date, subject, body)     files(commit_hash, path, added, deleted)

Sources are rows: `commits?rowid=7`, the hash and date quoted. Counting questions ("which files change most", "who …") are
answered by counts over the tables.
"""

import asyncio
import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foa.agents.evidence import Evidence
from foa.agents.tools.chunks import Chunk
from foa.agents.tools.guard import text_argument, text_schema
from foa.agents.tools.search import HybridIndex, build_index
from foa.agents.tools.sql import check_reads
from foa.agents.tools.sqlite import seal, select
from foa.agents.tools.table import Rows
from foa.agents.tools.vectors import VectorCache
from foa.errors import BadInput
from foa.ports import Embedder
from foa.values.draft import Source

MAX_COMMITS = 5_000  #: the newest ones
MAX_LOG_BYTES = 67_108_864
LOG_SECONDS = 30.0
ROWS = 50
SECONDS = 5.0

#: Nothing of the repository's own configuration may start a program, and nothing asks for a password.
_SAFE = ("--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false")
_FORMAT = "%x1e%H%x1f%an%x1f%aI%x1f%s%x1f%b%x1f"
_SCHEMA = """
CREATE TABLE commits (hash TEXT, author TEXT, date TEXT, subject TEXT, body TEXT);
CREATE TABLE files (commit_hash TEXT, path TEXT, added INTEGER, deleted INTEGER);
"""
_INDEXES = "CREATE INDEX files_path ON files (path); CREATE INDEX files_commit ON files (commit_hash);"

#: Counting questions, by their words, with the statement that answers them.
_COUNTS = (
    (
        r"\b(?:files?|modules?|parts?)\b.*\b(?:most|often|frequent\w*|churn)\b|\bchurn\b|\bhot ?spots?\b",
        "SELECT path, count(*) AS commits, sum(added) AS added, sum(deleted) AS deleted FROM files "
        "GROUP BY path ORDER BY commits DESC, path LIMIT 10",
    ),
    (
        r"\b(?:who|authors?|contributors?|maintainers?)\b",
        "SELECT author, count(*) AS commits, min(date) AS first, max(date) AS last FROM commits "
        "GROUP BY author ORDER BY commits DESC LIMIT 10",
    ),
    (
        r"\b(?:how many commits|how old|since when|first commit|oldest|began|started|history|grow\w*|grew)\b",
        "SELECT count(*) AS commits, min(date) AS first, max(date) AS last FROM commits",
    ),
    (
        r"\b(?:latest|recent\w*|newest|last (?:change|commit)s?|what changed)\b",
        "SELECT rowid, date, subject, author FROM commits ORDER BY date DESC LIMIT 10",
    ),
)


class GitTool:
    """Answers from a repository's commits.

    Args:
        folder: inside a git work tree.
        embedder: for meaning.
        cache: keeps vectors between starts.
    """

    name = "git"
    description = (
        "Reads the repository's history with SQL. Tables: commits(hash, author, date, subject, body); "
        "files(commit_hash, path, added, deleted)."
    )

    def __init__(self, folder: Path, *, embedder: Embedder, cache: VectorCache | None = None) -> None:
        self.parameters = text_schema({"sql": "one SELECT statement"}, required=["sql"])
        self._folder = folder
        self._embedder = embedder
        self._cache = cache or VectorCache()
        self._lock = asyncio.Lock()
        self._head = ""
        self._store: sqlite3.Connection | None = None
        self._index: HybridIndex | None = None

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Run a statement for a model.

        Raises:
            BadInput: no statement, not one that reads, or no repository.
        """
        return (await self.query(text_argument(arguments, "sql", most=10_000))).text()

    async def query(self, statement: str) -> Rows:
        """Run one reading statement over the history.

        Raises:
            BadInput: as `__call__`.
        """
        check_reads(statement)
        async with self._lock:
            store = await self._ready()
            return await asyncio.to_thread(select, store, statement, rows=ROWS, seconds=SECONDS)

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """Counts where the question counts, then the commits that speak of it.

        Raises:
            BadInput: no repository, or git is not installed.
            ModelUnreachable: the embedder does not answer.
        """
        async with self._lock:
            store = await self._ready()
            counted = [sql for pattern, sql in _COUNTS if re.search(pattern, query, re.IGNORECASE)][:2]
            found = [await asyncio.to_thread(_counted, store, sql) for sql in counted]
            if self._index is not None:
                vector = (await self._embedder.embed([query]))[0]
                hits = await asyncio.to_thread(self._index.search, query, vector, k)
                found += [_commit(piece, score) for piece, score in hits]
        return found[:k]

    async def aclose(self) -> None:
        """Forget the tables."""
        async with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    async def _ready(self) -> sqlite3.Connection:
        head = (await _git(self._folder, "rev-parse", "HEAD")).decode("ascii", "replace").strip()
        if self._store is None or head != self._head:
            log = await _git(
                self._folder, "log", "-z", f"--max-count={MAX_COMMITS}", "--numstat", "--no-renames", "--no-ext-diff",
                "--no-textconv", "--no-color", f"--format={_FORMAT}",
            )  # fmt: skip
            self._store, pieces = await asyncio.to_thread(load_history, log)
            self._index = await build_index(pieces, self._embedder, self._cache) if pieces else None
            self._head = head
        return self._store


def load_history(log: bytes) -> tuple[sqlite3.Connection, list[Chunk]]:
    """Make the tables, sealed for reading, and a searchable piece for each commit.

    Args:
        log: output of `git log -z --numstat` in this module's format.
    """
    store = sqlite3.connect(":memory:", check_same_thread=False)
    store.executescript(_SCHEMA)
    pieces: list[Chunk] = []
    for record in log.decode("utf-8", "replace").split("\x1e")[1:]:
        parts = record.split("\x1f", 5)
        if len(parts) < 6:
            continue
        digest, author, date, subject, body, changes = parts
        files = _changes(changes)
        body = body.strip()[:4_000]
        cursor = store.execute(
            "INSERT INTO commits VALUES (?, ?, ?, ?, ?)", (digest, author[:200], date, subject[:1_000], body)
        )
        store.executemany(
            "INSERT INTO files VALUES (?, ?, ?, ?)", ((digest, path, added, deleted) for path, added, deleted in files)
        )
        listed = ", ".join(path for path, _, _ in files[:20])
        text = f"{digest[:10]} {date[:10]} {author[:80]}: {subject[:300]}\n{body}\nfiles: {listed}".replace("\n\n", "\n")
        number = int(cursor.lastrowid or 0)
        pieces.append(Chunk(name=f"commits?rowid={number}", first=number, last=number, text=text, title=subject[:200]))
    store.executescript(_INDEXES)
    store.commit()
    return seal(store), pieces


def _changes(text: str) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for line in text.split("\0"):
        match = re.fullmatch(r"(\d+|-)\t(\d+|-)\t(.+)", line.strip("\n"), re.DOTALL)
        if match is not None:
            found.append((match[3][:500], int(match[1]) if match[1] != "-" else 0, int(match[2]) if match[2] != "-" else 0))
    return found[:2_000]


def _counted(store: sqlite3.Connection, statement: str) -> Evidence:
    text = select(store, statement, rows=10, seconds=SECONDS).text(most=1_500)
    table = "files" if "FROM files" in statement else "commits"
    return Evidence(source=Source(kind="row", locator=f"{table}: {statement}"[:500], quote=text[:600]), text=text, score=1.0)


def _commit(piece: Chunk, score: float) -> Evidence:
    quote = piece.text.split("\nfiles:", 1)[0].strip()[:600]
    return Evidence(source=Source(kind="row", locator=piece.name, quote=quote), text=piece.text, score=score)


async def _git(folder: Path, *arguments: str) -> bytes:
    """Run git, bounded in time and output.

    Raises:
        BadInput: git is not installed, or refused; the sentence says why.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *_SAFE, "-C", str(folder), *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise BadInput(f"git cannot be started ({error.strerror or error}); install it") from error
    try:
        async with asyncio.timeout(LOG_SECONDS):
            out, problem = await process.communicate()
    except TimeoutError:
        raise BadInput(f"git took longer than {LOG_SECONDS:g} s in {folder}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = problem.decode("utf-8", "replace").strip().split("\n")[-1][:300]
        raise BadInput(f"{folder} has no git history to read: {said}")
    return out[:MAX_LOG_BYTES]
