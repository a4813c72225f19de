"""Documents in pieces that can be cited: by headings, by definitions, else by lines. Pure.

Every piece knows its first and last line, and the names it defines.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LINES = 60  #: of one piece; longer ones are parted
MIN_LINES = 12  #: members of a class are gathered until there are as many
MAX_CHARACTERS = 4_000
OVERLAP = 4  #: lines that follow-on pieces repeat

CODE_ENDINGS = frozenset(
    (
        *("py", "pyi", "js", "jsx", "ts", "tsx", "mjs", "cjs", "go", "rs", "java", "kt", "kts", "scala", "c", "h", "cc"),
        *("cpp", "hpp", "cs", "rb", "php", "swift", "sh", "bash", "lua", "r", "jl", "ex", "exs", "erl", "hs", "ml", "sql"),
    )
)
TEXT_ENDINGS = frozenset(
    (
        *("md", "markdown", "rst", "txt", "adoc", "org", "html", "htm", "toml", "yaml", "yml", "json", "cfg", "ini", "csv"),
        "tex",
    )
)

_NAMED = re.compile(r"README|CHANGELOG|CHANGES|CONTRIBUTING|HISTORY|NEWS|INSTALL|TODO|NOTES")
_HEADED = frozenset(("md", "markdown", "rst", "adoc", "org", "txt", ""))
_HEADING = re.compile(r"^(?:#{1,6}\s+\S|=+\s+\S)")
_UNDERLINE = re.compile(r"^(?:={3,}|-{3,}|~{3,})\s*$")
_DEFINITION = re.compile(
    r"^(?P<indent>[ \t]{0,8})(?:(?:export|default|pub(?:\([^)]*\))?|public|private|protected|internal|static|final|abstract|"
    r"async|unsafe|open|override|virtual|inline|extern)\s+)*"
    r"(?:def|class|function\*?|func|fn|struct|enum|trait|interface|impl|type|module|namespace|macro_rules!|record|object|"
    r"CREATE\s+(?:TABLE|VIEW|FUNCTION))\s+(?:\([^)]*\)\s*)?(?P<name>[A-Za-z_$][\w$]*)"
)
_ASSIGNED = re.compile(
    r"^(?:export\s+)?(?:const|let|var)?\s*(?P<name>[A-Z][A-Z0-9_]{2,}|[A-Za-z_$][\w$]*(?=\s*=\s*(?:async\s*)?\([^)]*\)\s*=>))\s*[:=]"
)
_LEADING = re.compile(r"^[ \t]*(?:@|#\[|//|/\*|\*|#)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a document."""

    name: str  #: the document
    first: int  #: line, from 1
    last: int
    text: str
    title: str = ""  #: the heading or definition it stands under
    context: str = ""  #: what its document is about: its first line of prose
    defines: tuple[str, ...] = ()  #: names defined in it

    @property
    def locator(self) -> str:
        """Where it stands: `src/a.py:10-24`."""
        return f"{self.name}:{self.first}" if self.first == self.last else f"{self.name}:{self.first}-{self.last}"


def is_code(name: str) -> bool:
    """Whether a file name ends like source code."""
    return _ending(name) in CODE_ENDINGS


def is_text(name: str) -> bool:
    """Whether a file name ends like a document; of those without an ending, README, CHANGELOG and the like."""
    return _ending(name) in TEXT_ENDINGS or _NAMED.fullmatch(name.rsplit("/", 1)[-1]) is not None


def chunk(name: str, text: str) -> list[Chunk]:
    """Part a document, by definitions when its name says code, by headings when it says text."""
    lines = text.splitlines()
    headed = _headings(lines) if _ending(name) in _HEADED else []
    starts = _definitions(lines) if is_code(name) else headed
    if not starts or starts[0][0] > 0:
        starts = [(0, ""), *starts]
    ends = [start for start, _ in starts[1:]] + [len(lines)]
    context = _about(lines)
    return [
        piece
        for (start, title), end in zip(starts, ends, strict=True)
        for piece in _pieces(name, lines, start, end, title, context)
    ]


def _ending(name: str) -> str:
    base = name.rsplit("/", 1)[-1]
    return base.rsplit(".", 1)[-1].lower() if "." in base else ""


def _headings(lines: Sequence[str]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced:
            continue
        elif _HEADING.match(line):
            found.append((number, line.strip("#= \t")))
        elif (
            number
            and _UNDERLINE.match(line)
            and lines[number - 1].strip()
            and not lines[number - 1].startswith((" ", "-", "|"))
        ):
            found.append((number - 1, lines[number - 1].strip()))
    return found


def _definitions(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Where definitions begin, decorators and comments right above them included.

    A member of a class begins a piece of its own only when the one before it is not short.
    """
    found: list[tuple[int, str]] = []
    outer = ""
    for number, line in enumerate(lines):
        match = _DEFINITION.match(line)
        if match is None or len(match["indent"].expandtabs(4)) > 4:
            continue
        start = number
        floor = found[-1][0] + 1 if found else 0
        while start > floor and _LEADING.match(lines[start - 1]):
            start -= 1
        if not match["indent"]:
            outer = match["name"]
        elif found and start - found[-1][0] < MIN_LINES and found[-1][1].split(".")[0] == outer:
            continue
        title = match["name"] if not match["indent"] else f"{outer}.{match['name']}"
        found.append((start, title))
    return found


def _about(lines: Sequence[str]) -> str:
    """The first line of prose: of a docstring, a comment or a heading."""
    for line in lines[:20]:
        text = line.strip(" \t\"'#/*=-!;<>")
        if len(text.split()) > 2 and not line.startswith(("import ", "from ", "package ", "use ", "#!")):
            return text[:200]
    return ""


def _pieces(name: str, lines: Sequence[str], start: int, end: int, title: str, context: str) -> list[Chunk]:
    code = is_code(name)
    while end > start and not lines[end - 1].strip():
        end -= 1
    pieces: list[Chunk] = []
    at = start
    while at < end:
        stop, size = at, 0
        while stop < end and stop - at < MAX_LINES and (size < MAX_CHARACTERS or stop == at):
            size += len(lines[stop]) + 1
            stop += 1
        text = "\n".join(lines[at:stop])[: 2 * MAX_CHARACTERS]
        if text.strip():
            defines = _defined(lines[at:stop]) if code else ()
            pieces.append(
                Chunk(name=name, first=at + 1, last=stop, text=text, title=title, context=context, defines=defines)
            )
        at = stop if stop >= end else max(at + 1, stop - OVERLAP)
    return pieces


def _defined(lines: Sequence[str]) -> tuple[str, ...]:
    found = (_DEFINITION.match(line) or _ASSIGNED.match(line) for line in lines)
    return tuple(dict.fromkeys(match["name"] for match in found if match is not None))[:64]
