"""Declared dependencies, out of the manifests of several languages, each with its line. Pure."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

MAX_DECLARED = 2_000  #: of one manifest

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*([^;#]*)")
_GO = re.compile(r"^\s*(?:require\s+)?([\w.-]+\.[\w./-]+)\s+(v[\w.+-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One declared dependency."""

    name: str
    spec: str  #: versions, as written
    group: str  #: required, an extra's name, dev …
    file: str
    line: int
    text: str  #: the line


def read_manifest(name: str, read: Callable[[], str]) -> list[Declared]:
    """Read a manifest, if this file is one; one that cannot be read declares nothing.

    Args:
        name: path of the file.
        read: gives its text.
    """
    base = name.rsplit("/", 1)[-1]
    parse = _PARSERS.get(base)
    if parse is None and re.fullmatch(r"requirements[\w.-]*\.txt|constraints[\w.-]*\.txt", base):
        parse = _requirements
    if parse is None:
        return []
    text = read()
    lines = text.splitlines()
    found: list[Declared] = []
    try:
        for package, spec, group in parse(text):
            line = _line(lines, package, spec)
            shown = lines[line - 1].strip() if lines else ""
            found.append(Declared(name=package[:200], spec=spec[:200], group=group[:64], file=name, line=line, text=shown))
            if len(found) >= MAX_DECLARED:
                break
    except (tomllib.TOMLDecodeError, msgspec.MsgspecError, RecursionError):
        return found
    return found


_Entry = tuple[str, str, str]


def _pyproject(text: str) -> Iterator[_Entry]:
    tree = tomllib.loads(text)
    project = _table(tree, "project")
    yield from _pep508(project.get("dependencies"), "required")
    for group, listed in _table(project, "optional-dependencies").items():
        yield from _pep508(listed, f"extra {group}")
    for group, listed in _table(tree, "dependency-groups").items():
        yield from _pep508(listed, f"group {group}")
    yield from _pep508(_table(tree, "build-system").get("requires"), "build")
    poetry = _table(_table(tree, "tool"), "poetry")
    yield from _versions(poetry.get("dependencies"), "required")
    for group, table in _table(poetry, "group").items():
        yield from _versions(
            cast("Mapping[str, Any]", table).get("dependencies") if isinstance(table, dict) else None, group
        )


def _requirements(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "-")):
            yield from _pep508([line.split(" \\")[0]], "required")


def _package_json(text: str) -> Iterator[_Entry]:
    tree = msgspec.json.decode(text.encode(), type=dict[str, Any])
    names = {
        "dependencies": "required",
        "devDependencies": "dev",
        "peerDependencies": "peer",
        "optionalDependencies": "optional",
    }
    for key, group in names.items():
        yield from _versions(tree.get(key), group)


def _cargo(text: str) -> Iterator[_Entry]:
    tree = tomllib.loads(text)
    names = {"dependencies": "required", "dev-dependencies": "dev", "build-dependencies": "build"}
    for key, group in names.items():
        yield from _versions(tree.get(key), group)
    yield from _versions(_table(tree, "workspace").get("dependencies"), "workspace")


def _go_mod(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        match = _GO.match(line)
        if match is not None:
            yield match[1], match[2], "indirect" if "// indirect" in line else "required"


_PARSERS: Mapping[str, Callable[[str], Iterator[_Entry]]] = {
    "pyproject.toml": _pyproject,
    "package.json": _package_json,
    "Cargo.toml": _cargo,
    "go.mod": _go_mod,
}


def _pep508(listed: object, group: str) -> Iterator[_Entry]:
    for item in cast("list[object]", listed) if isinstance(listed, list) else []:
        match = _REQUIREMENT.match(item) if isinstance(item, str) else None
        if match is not None:
            yield match[1], match[3].strip(), group


def _versions(table: object, group: str) -> Iterator[_Entry]:
    for name, value in cast("dict[str, object]", table).items() if isinstance(table, dict) else ():
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get("version", "")
        yield name, value if isinstance(value, str) else "", group


def _table(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = tree.get(key)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _line(lines: list[str], package: str, spec: str) -> int:
    """The line where a package is declared: one with its name and versions, else one with its name, else the first."""
    named = [number for number, line in enumerate(lines, 1) if re.search(rf"(?<![\w.-]){re.escape(package)}(?![\w-])", line)]
    exact = [number for number in named if spec and spec in lines[number - 1]]
    return (exact or named or [1])[0]
