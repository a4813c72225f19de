"""What a project depends on, and which of its files import what, with the line of each.

pyproject.toml · requirements*.txt · package.json · Cargo.toml · go.mod ─► declared(name, spec, group, file, line)
source files                                                          ─► imports(module, file, line)
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foa.agents.evidence import Evidence, terms
from foa.agents.tools.files import Found, read_text, walk
from foa.agents.tools.guard import render, text_argument, text_schema
from foa.agents.tools.manifests import Declared, read_manifest
from foa.errors import BadInput
from foa.values.draft import Source

MAX_SHOWN = 30  #: lines of one piece of evidence

_IMPORTS = {
    "py": re.compile(r"^\s*(?:from\s+(?P<a>[\w.]+)\s+import\b|import\s+(?P<b>[\w.]+))"),
    "js": re.compile(
        r"^\s*(?:import\b.*?from\s*|import\s*|export\b.*?from\s*|.*?\brequire\s*\(\s*)[\"'](?P<a>[^\"']+)[\"']"
    ),
    "go": re.compile(r"^\s*(?:import\s+)?(?:[\w.]+\s+)?\"(?P<a>[\w./-]+)\"\s*$"),
    "rs": re.compile(r"^\s*(?:pub\s+)?(?:use|extern\s+crate)\s+(?P<a>\w+)"),
}
_FAMILY = {"py": "py", "js": "js", "jsx": "js", "ts": "js", "tsx": "js", "mjs": "js", "cjs": "js", "go": "go", "rs": "rs"}
_ABOUT_DECLARED = re.compile(
    r"\b(?:depend\w*|librar\w*|packages?|requires?|requirements?|versions?|installs?|uses?)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement."""

    module: str
    file: str
    line: int


class DependencyTool:
    """Answers what a project needs and who imports what.

    Args:
        folder: the project.
    """

    name = "dependencies"
    description = "Lists what the project depends on, with versions, and which files import a package or module."

    def __init__(self, folder: Path) -> None:
        self.parameters = text_schema({"query": "a package, a module, or a question"}, required=["query"])
        self._folder = folder
        self._lock = asyncio.Lock()
        self._files: tuple[Found, ...] = ()
        self._declared: tuple[Declared, ...] = ()
        self._imports: tuple[Import, ...] = ()

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Look up for a model.

        Raises:
            BadInput: no query, or no such folder.
        """
        query = text_argument(arguments, "query")
        if not query.strip():
            raise BadInput("dependencies needs a `query`: a package, a module, or a question")
        return render(await self.retrieve(query, 6))

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """The declarations and imports of what the question names; without a name, what the project declares.

        Raises:
            BadInput: no such folder.
        """
        async with self._lock:
            await asyncio.to_thread(self._load)
        found = [*self._named(query), *self._modules(query)]
        if not found or _ABOUT_DECLARED.search(query):
            found += self._groups(terms(query))
        unique = {piece.source.locator: piece for piece in found}
        return list(unique.values())[:k]

    def _load(self) -> None:
        files = tuple(walk(self._folder))
        if files == self._files:
            return
        declared: list[Declared] = []
        imports: list[Import] = []
        for file in files:
            declared += read_manifest(file.name, lambda file=file: read_text(file.path) or "")
            family = _FAMILY.get(file.name.rsplit(".", 1)[-1])
            if family is not None:
                imports += _imports(file.name, read_text(file.path) or "", _IMPORTS[family])
        self._declared, self._imports, self._files = tuple(declared), tuple(imports), files

    def _named(self, query: str) -> list[Evidence]:
        """Evidence for every declared package whose name stands in the question."""
        asked = _plain(query)
        found: list[Evidence] = []
        for name in sorted({entry.name for entry in self._declared}, key=len, reverse=True):
            if len(name) < 3 or not re.search(rf"(?<![\w-]){re.escape(_plain(name))}(?![\w-])", asked):
                continue
            found += [_declaration(entry) for entry in self._declared if entry.name == name][:2]
            module = _plain(name).replace("-", "_")
            found += _usage(name, [one for one in self._imports if _top(one.module) == module])
        return found

    def _modules(self, query: str) -> list[Evidence]:
        """Evidence for modules of the project itself that the question names: who imports them."""
        asked = terms(query)
        by_module: dict[str, list[Import]] = defaultdict(list)
        for one in self._imports:
            by_module[one.module].append(one)
        scored = [
            (len(asked & terms(re.split(r"[./]", module)[-1])), len(uses), module) for module, uses in by_module.items()
        ]
        best = sorted((entry for entry in scored if entry[0]), key=lambda entry: (-entry[0], -entry[1], entry[2]))[:2]
        return [piece for _, _, module in best for piece in _usage(module, by_module[module])]

    def _groups(self, asked: frozenset[str]) -> list[Evidence]:
        """One piece a manifest and group, those that the question speaks of first."""
        groups: dict[tuple[str, str], list[Declared]] = defaultdict(list)
        for entry in self._declared:
            groups[entry.file, entry.group].append(entry)
        ordered = sorted(groups, key=lambda key: (-len(asked & terms(key[1])), key[1] != "required", key[0].count("/"), key))
        return [_group(file, group, groups[file, group]) for file, group in ordered]


def _imports(name: str, text: str, pattern: re.Pattern[str]) -> list[Import]:
    found: list[Import] = []
    for number, line in enumerate(text.splitlines()[:20_000], 1):
        match = pattern.match(line[:500])
        if match is not None:
            module = match["a"] or match.groupdict().get("b") or ""
            if module:
                found.append(Import(module=module[:200], file=name, line=number))
    return found[:500]


def _declaration(entry: Declared) -> Evidence:
    text = f"{entry.name} {entry.spec}".strip() + f" is declared in {entry.file} ({entry.group})"
    locator = f"{entry.file}:{entry.line}"
    return Evidence(source=Source(kind="file", locator=locator[-500:], quote=entry.text[:300]), text=text, score=2.0)


def _usage(name: str, uses: Sequence[Import]) -> list[Evidence]:
    """Where something is imported, the files listed, the first one as the source."""
    if not uses:
        return []
    first, files = uses[0], sorted({use.file for use in uses})
    listed = ", ".join(f"{use.file}:{use.line}" for use in uses[:MAX_SHOWN])
    text = f"{name} is imported by {len(files)} file{'s' if len(files) > 1 else ''}: {listed}"
    source = Source(kind="file", locator=f"{first.file}:{first.line}"[-500:], quote=text[:600])
    return [Evidence(source=source, text=text, score=1.0)]


def _group(file: str, group: str, entries: Sequence[Declared]) -> Evidence:
    lines = [f"{entry.name} {entry.spec}".strip() for entry in entries[:MAX_SHOWN]]
    first, last = min(entry.line for entry in entries), max(entry.line for entry in entries)
    text = f"{file} declares {len(entries)} dependencies ({group}): {', '.join(lines)}"
    locator = f"{file}:{first}-{last}" if last > first else f"{file}:{first}"
    return Evidence(source=Source(kind="file", locator=locator[-500:], quote=text[:600]), text=text, score=0.5)


def _plain(text: str) -> str:
    return text.lower().replace("_", "-")


def _top(module: str) -> str:
    return _plain(module.lstrip(".").split(".")[0].split("/")[0]).replace("-", "_")
