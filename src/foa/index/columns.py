"""Columns of numbers in files that are mapped when they are read: of what is asked for, only its pages are in memory."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
COLUMNS = "*.npy"  #: files with columns


def write_columns(folder: Path, columns: Mapping[str, Column]) -> None:
    """Write columns, each of shape (n,), into files of these names."""
    for name, column in columns.items():
        part = folder / f"{name}.part"
        with part.open("wb") as file:
            np.save(file, column, allow_pickle=False)
        part.replace(folder / f"{name}.npy")


def read_columns(folder: Path, kinds: Mapping[str, str], *, sparing: bool) -> list[Column] | None:
    """Map columns; None where one is not there, damaged, or of another kind than named.

    Args:
        folder: that they were written into.
        kinds: by their names, what numbers they are of: `u4`.
        sparing: read the pages that are asked for and none around them, where memory is scarce.
    """
    try:
        maps = [np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in kinds]
    except (OSError, ValueError, EOFError):
        return None
    for one in maps:
        if sparing and isinstance(one.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            one.base.madvise(mmap.MADV_RANDOM)
    # plain arrays over the maps: a `memmap` takes microseconds for each part that is taken of it
    columns = [np.asarray(one) for one in maps]
    right = [
        (column.ndim, column.dtype) == (1, np.dtype(kind)) for column, kind in zip(columns, kinds.values(), strict=True)
    ]
    return columns if all(right) else None


def ascends(ends: Column, last: int) -> bool:
    """Tell whether these are ends of parts of a column of that length."""
    return len(ends) > 0 and ends[0] == 0 and ends[-1] == last and bool((ends[1:] >= ends[:-1]).all())


def places(column: Column, asked: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give where in an ascending column each of these is, and whether it is there; shapes (n,)."""
    if not len(column):
        return np.zeros(len(asked), np.int64), np.zeros(len(asked), np.bool_)
    at = np.minimum(column.searchsorted(asked), len(column) - 1)
    return at, column[at] == asked
