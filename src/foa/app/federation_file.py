"""FEDERATION.toml: a name, its agents, the folder they look at, and settings of its own.

name = "repository"
description = "Four specialists over a source repository"
agents = ["*.md"]              # files or patterns beside this file
over = "."                     # optional: the folder they look at, from where the command is run

[settings]                     # optional: as in the environment, which goes first
FOE_TEAM_SIZE = 2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from foa.app.toml_file import TomlFile
from foa.errors import BadInput

KEYS = ("name", "description", "agents", "over", "settings")
#: Federations that come with the package, by name.
SHIPPED = ("repository", "clinic")
FILE_NAME = "FEDERATION.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationFile:
    """A federation as its author wrote it down."""

    name: str
    description: str
    agents: tuple[Path, ...]  #: agent files that exist, in the order written
    over: str  #: folder the agents look at; empty: they look at none
    file: TomlFile  #: for its settings, and to say where something stands


def read_federation(path: Path) -> FederationFile:
    """Read a FEDERATION.toml, or the one in a folder.

    Raises:
        BadInput: it cannot be read, has an unknown key, or names an agent file that is not there; with its line.
    """
    file = TomlFile.read(path / FILE_NAME if path.is_dir() else path)
    file.check_keys(KEYS)
    return FederationFile(
        name=_text(file, "name") or file.path.parent.name,
        description=_text(file, "description"),
        agents=tuple(_agents(file)),
        over=_text(file, "over"),
        file=file,
    )


def find_federation(given: str) -> FederationFile:
    """The federation of that path, or the shipped one of that name.

    Raises:
        BadInput: as `read_federation`; or it is neither.
    """
    path = Path(given).expanduser()
    if path.exists():
        return read_federation(path)
    if given in SHIPPED:
        return read_federation(shipped_folder(given))
    raise BadInput(f"{given} is neither a FEDERATION.toml nor a federation that comes with foa ({', '.join(SHIPPED)})")


def shipped_folder(name: str) -> Path:
    """Where a federation that comes with the package lies."""
    return Path(str(resources.files("foa.app") / "federations" / name))


def _text(file: TomlFile, key: str) -> str:
    value = file.content.get(key, "")
    if not isinstance(value, str) or len(value) > 2_000:
        raise BadInput(f"{file.place(key)}: {key} has to be a text of at most 2,000 characters")
    return value


def _agents(file: TomlFile) -> Sequence[Path]:
    patterns = file.content.get("agents")
    place = file.place("agents")
    if not isinstance(patterns, list) or not patterns or not all(isinstance(each, str) for each in patterns):
        raise BadInput(f'{place}: agents has to be a list of files or patterns, such as agents = ["*.md"]')
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = _matches(file.path.parent, pattern)
        if not matches:
            raise BadInput(f"{place}: no agent file fits {pattern!r} beside {file.path}")
        found |= dict.fromkeys(matches)
    return list(found)


def _matches(folder: Path, pattern: str) -> Sequence[Path]:
    if any(mark in pattern for mark in "*?["):
        try:
            return sorted(folder.glob(pattern))
        except (ValueError, NotImplementedError):  # what `glob` says of `a**b` and of an absolute pattern
            return []
    path = folder / Path(pattern).expanduser()
    return [path] if path.is_file() else []
