"""Vectors of texts, kept on disk by the hash of the text, so that a second start embeds only what changed."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from foa.errors import StoreFailed
from foa.ports import Embedder
from foa.values.vcv import Matrix

BATCH = 256  #: texts embedded in one call
MAX_ROWS = 500_000  #: kept vectors; the oldest go first

_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (hash BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"


class VectorCache:
    """Embeds through a cache.

    Args:
        path: an SQLite file; None: every start embeds anew.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    async def embed(self, texts: Sequence[str], embedder: Embedder) -> Matrix:
        """Embed; shape (len(texts), dimension), float32, unit rows to the precision of float16 where they were kept.

        Raises:
            ModelUnreachable: the embedder does not answer.
            StoreFailed: the cache cannot be read or written; remove the file.
        """
        keys = [hashlib.sha256(f"{embedder.id}\0{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
        known = await asyncio.to_thread(self._read, keys)
        vectors = np.zeros((len(texts), embedder.dimension), np.float32)
        missing: list[int] = []
        for number, key in enumerate(keys):
            kept = known.get(key)
            if kept is not None and len(kept) == 2 * embedder.dimension:
                vectors[number] = np.frombuffer(kept, "<f2")
            else:
                missing.append(number)
        for first in range(0, len(missing), BATCH):
            part = missing[first : first + BATCH]
            vectors[part] = await embedder.embed([texts[number] for number in part])
        if missing and self._path is not None:
            await asyncio.to_thread(
                self._write, {keys[number]: vectors[number].astype("<f2").tobytes() for number in missing}
            )
        return vectors

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        if self._path is None or not self._path.exists():
            return {}
        found: dict[bytes, bytes] = {}
        try:
            with closing(sqlite3.connect(self._path, timeout=10)) as store:
                store.execute(_SCHEMA)
                for first in range(0, len(keys), 500):
                    part = keys[first : first + 500]
                    marks = ",".join("?" * len(part))
                    found.update(store.execute(f"SELECT hash, vector FROM vectors WHERE hash IN ({marks})", part))
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: the vector cache cannot be read ({error}); remove it") from error
        return found

    def _write(self, vectors: dict[bytes, bytes]) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=10)) as store, store:
                store.execute("PRAGMA journal_mode=WAL")
                store.execute(_SCHEMA)
                if store.execute("SELECT count(*) FROM vectors").fetchone()[0] + len(vectors) > MAX_ROWS:
                    store.execute("DELETE FROM vectors")
                store.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", vectors.items())
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(f"{self._path}: the vector cache cannot be written ({error})") from error
