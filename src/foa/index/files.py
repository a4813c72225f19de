"""Files of the engine, on disk: most of each is a hole, kept for what may come."""

import contextlib
import os
import shutil
from pathlib import Path

_AT_ONCE = 1 << 20  # bytes


def copy_folder(source: Path, target: Path, *, without: str = "") -> None:
    """Copy a folder but for files of this pattern, holes as holes: 90 MB of an empty shard are 200 KB on disk."""
    shutil.copytree(source, target, copy_function=_copy, ignore=shutil.ignore_patterns(without))


def to_disk(file: Path) -> int:
    """Have what was written to a file, also through a map, outlive a crash of the machine; gives its size in bytes."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        return os.fstat(opened.fileno()).st_size


def all_to_disk(folder: Path) -> None:
    """Have what was written to all files of a folder outlive a crash of the machine; who is gone meanwhile is let go."""
    for file in folder.rglob("*"):
        if file.is_file():
            with contextlib.suppress(FileNotFoundError):
                to_disk(file)


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        end = 0
        while (begin := _next(old.fileno(), os.SEEK_DATA, end, size)) < size:
            end = _next(old.fileno(), os.SEEK_HOLE, begin, size)
            for at in range(begin, end, _AT_ONCE):
                os.pwrite(new.fileno(), os.pread(old.fileno(), min(_AT_ONCE, end - at), at), at)


def _next(file: int, what: int, start: int, size: int) -> int:
    """Where data, or a hole, begins next; the size of the file where none does."""
    try:
        return os.lseek(file, start, what)
    except OSError:  # ENXIO: nothing but a hole is left
        return size
