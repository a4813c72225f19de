"""Which files of a folder a tool may read: bounded, without what git would ignore, never outside the folder."""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foa.errors import BadInput

MAX_FILES = 20_000
MAX_FILE_BYTES = 524_288
MAX_TOTAL_BYTES = 134_217_728  #: 128 MiB

#: Folders and files that are never anyone's documents.
ALWAYS_IGNORED = (
    ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".hypothesis", ".idea", ".vscode", "dist", "*.egg-info", "*.min.js", "*.map", "*.lock",
    "package-lock.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that may be read."""

    path: Path  #: absolute
    name: str  #: relative to the folder, with `/`
    size: int  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a folder is read."""

    files: int = MAX_FILES
    file_bytes: int = MAX_FILE_BYTES
    total_bytes: int = MAX_TOTAL_BYTES


class Ignore:
    """Patterns in the form of a `.gitignore`: comments, `!`, `/` at either end, `*`, `**`; the last match decides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = [rule for line in patterns if (rule := _rule(line)) is not None]

    def __call__(self, name: str, *, folder: bool) -> bool:
        """Whether a path relative to the patterns' folder is ignored."""
        ignored = False
        for matches, negated, folders_only in self._rules:
            if (folder or not folders_only) and matches.fullmatch(name):
                ignored = not negated
        return ignored


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    text = line.rstrip("\n").rstrip()
    if not text or text.startswith("#") or len(text) > 500:
        return None
    negated = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    body = _expression(text.strip("/"))
    return re.compile(f"{'' if anchored else '(?:.*/)?'}{body}", re.DOTALL), negated, folders_only


def _expression(pattern: str) -> str:
    """Translate a pattern: `*` and `?` stay inside a level, `**` spans levels."""
    levels: list[str] = []
    for level in pattern.split("/"):
        if level == "**":
            levels.append("**")
        else:
            levels.append("".join({"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign)) for sign in level))
    joined = "/".join(levels)
    return joined.replace("**/", "(?:.*/)?").replace("/**", "(?:/.*)?").replace("**", ".*")


def walk(
    folder: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = (), limits: Limits | None = None
) -> list[Found]:
    """List the text files of a folder, sorted by name.

    Symbolic links to folders are not followed; links to files only where they end inside the folder. Files that are too
    large are left out, and the list ends at the limits.

    Args:
        folder: an existing folder.
        include: file name patterns, of which one must match; empty: all.
        exclude: more patterns in `.gitignore` form.
        limits: how much to read.

    Raises:
        BadInput: there is no such folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise BadInput(f"{folder}: no such folder; name one that holds the documents")
    limits = limits or Limits()
    found: list[Found] = []
    total = 0
    for name, path in _paths(root, Ignore([*ALWAYS_IGNORED, *exclude])):
        if include and not any(fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(path.name, pattern) for pattern in include):
            continue
        size = _size(path, root)
        if not 0 < size <= limits.file_bytes:
            continue
        total += size
        if len(found) >= limits.files or total > limits.total_bytes:
            break
        found.append(Found(path=path, name=name, size=size))
    return found


def read_text(path: Path) -> str | None:
    """Read a file as UTF-8, what is not replaced; None: binary or unreadable."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if b"\0" in content[:8_192]:
        return None
    return content.decode("utf-8", "replace")


def _paths(root: Path, always: Ignore) -> Iterator[tuple[str, Path]]:
    ignores: dict[str, Ignore] = {}
    for here, folders, files in os.walk(root, followlinks=False):
        base = PurePosixPath(Path(here).relative_to(root).as_posix())
        prefix = "" if str(base) == "." else f"{base}/"
        if ".gitignore" in files:
            ignores[prefix] = Ignore((read_text(Path(here, ".gitignore")) or "").splitlines()[:2_000])

        def ignored(name: str, *, folder: bool, prefix: str = prefix) -> bool:
            whole = prefix + name
            if always(whole, folder=folder):
                return True
            return any(whole.startswith(at) and rules(whole[len(at) :], folder=folder) for at, rules in ignores.items())

        folders[:] = sorted(name for name in folders if not ignored(name, folder=True))
        for name in sorted(files):
            if not ignored(name, folder=False):
                yield prefix + name, Path(here, name)


def _size(path: Path, root: Path) -> int:
    """Size of a regular file inside the folder; 0 for what may not be read."""
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(root):
            return 0
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
