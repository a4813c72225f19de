"""Rows of bytes by slot, in memory or in a file: what is seldom asked of an agent, and would be most of its memory."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foa.errors import StoreFailed

_FIRST_ROWS = 256


class Rows:
    """Rows in memory."""

    def __init__(self) -> None:
        self._rows = np.zeros((_FIRST_ROWS, 0), np.uint8)

    def put(self, slot: int, row: bytes) -> None:
        """Keep or replace a row; all of them have one length."""
        if not self._rows.shape[1]:
            self._rows = np.zeros((_FIRST_ROWS, len(row)), np.uint8)
        if slot >= len(self._rows):
            rows = max(slot + 1, len(self._rows) + len(self._rows) // 4)
            # realloc, which moves pages instead of copying them where the column is large
            self._rows.resize((rows, len(row)), refcheck=False)
        self._rows[slot] = np.frombuffer(row, np.uint8)

    def get(self, slots: Sequence[int]) -> NDArray[np.uint8]:
        """Give rows that were put. Shape (n, length)."""
        return self._rows[np.array(slots, np.intp)]

    def close(self) -> None:
        """Let go."""


class FileRows(Rows):
    """Rows in a file that is emptied at the start; what was read lately is in the system's page cache.

    Raises (every method): StoreFailed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._length = 0
        try:
            self._file = path.open("w+b", buffering=0)
        except OSError as error:
            raise StoreFailed(f"no file for the registry's rows at {path}: {error}") from error

    def put(self, slot: int, row: bytes) -> None:
        """Keep or replace a row; all of them have one length."""
        self._length = len(row)
        try:
            os.pwrite(self._file.fileno(), row, slot * self._length)
        except (OSError, ValueError) as error:
            raise StoreFailed(f"the registry's rows: {error}") from error

    def get(self, slots: Sequence[int]) -> NDArray[np.uint8]:
        """Give rows that were put. Shape (n, length)."""
        length = self._length
        try:
            file = self._file.fileno()
            read = b"".join(os.pread(file, length, slot * length) for slot in slots)
            return np.frombuffer(read, np.uint8).reshape(len(slots), length)
        except (OSError, ValueError) as error:
            raise StoreFailed(f"the registry's rows: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
