"""A TOML file that knows which line a key stands on, so that a complaint can point at it."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foa.app.nearest import nearest
from foa.errors import BadInput

MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlFile:
    """A file that was read and is TOML."""

    path: Path
    text: str = field(repr=False)
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "TomlFile":
        """Read and parse.

        Raises:
            BadInput: the file cannot be read, is over 1 MB, is not UTF-8 or not TOML (with its line).
        """
        text = read_text(path)
        try:
            return cls(path=path, text=text, content=tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            where = re.search(r"at line (\d+)", str(error))
            line = where.group(1) if where else text.count("\n") + 1
            raise BadInput(f"{path}:{line}: not TOML: {error}") from error

    def table(self, name: str) -> Mapping[str, Any]:
        """The table of that name; empty when it is not there.

        Raises:
            BadInput: something else stands under that name.
        """
        found = self.content.get(name, {})
        if not isinstance(found, dict):
            raise BadInput(f"{self.place(name)}: {name} has to be a table: write [{name}] on a line of its own")
        return found  # pyright: ignore[reportUnknownVariableType]

    def check_keys(self, known: Iterable[str]) -> None:
        """Refuse a top-level key that is not known.

        Raises:
            BadInput: with file, line and the nearest known key.
        """
        names = list(known)
        for key in self.content:
            if key not in names:
                raise BadInput(
                    f"{self.place(key)}: there is no key {key!r} here{nearest(key, names)} (known: {', '.join(names)})"
                )

    def place(self, key: str, *, section: str = "") -> str:
        """`file:line` of a key, or the file alone where the key cannot be found as written."""
        inside = ""
        bare = re.compile(rf"""^\s*\[?\s*["']?{re.escape(key)}["']?\s*[\].=]""")
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                inside = header.group(1)
                if not section and inside == key:
                    return f"{self.path}:{number}"
            elif inside == section and bare.match(line):
                return f"{self.path}:{number}"
        return str(self.path)


def read_text(path: Path, *, limit: int = MAX_FILE_BYTES) -> str:
    """The text of a file that a person named.

    Raises:
        BadInput: it cannot be read, is longer than `limit` bytes, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_text(raw, name=str(path), limit=limit)


def decode_text(raw: bytes, *, name: str, limit: int = MAX_FILE_BYTES) -> str:
    """The text that these bytes are.

    Args:
        name: of the file or stream that they came from, for messages.

    Raises:
        BadInput: they are more than `limit`, or not UTF-8.
    """
    if len(raw) > limit:
        raise BadInput(f"{name} is longer than {limit:,} bytes: give a shorter file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{name}:{line}: not UTF-8 text") from error
