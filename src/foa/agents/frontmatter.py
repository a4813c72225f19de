"""Front matter of a Markdown file, read the way people write it.

    ---                      fields: plain text, lists and mappings of text; every field knows its line
    name: reviewer
    description: Use when: …   ◄─ not YAML (a bare colon); the common case is mended and noted
    ---
    the body

Every scalar stays text (`version: 1.10` and `name: on` mean what they say); who reads a field converts it. Aliases are
refused, so that a small file cannot unfold into a large one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from foa.errors import BadInput

MAX_FILE_BYTES = 262_144  #: of one agent file, 256 KiB
MAX_FRONT_BYTES = 65_536  #: of its front matter
MAX_DEPTH = 8  #: of lists and mappings inside each other
MAX_EVENTS = 20_000  #: YAML events, about two a scalar

#: What a field may hold: text, or lists and mappings of it.
Value = str | list["Value"] | dict[str, "Value"]

_KEY_LINE = re.compile(r"^([A-Za-z_][\w .-]{0,63}?):(?:[ \t]+(.*))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """A file in its two parts."""

    fields: Mapping[str, Value]  #: by key, as written, keys in lower case
    lines: Mapping[str, int]  #: line of each key in the file, counted from 1
    body: str  #: the rest, stripped
    body_line: int  #: line of the file on which the body begins, from 1
    notes: tuple[str, ...] = ()  #: what was mended, said out loud


def split_front_matter(text: str, *, file: str) -> FrontMatter:
    """Part a Markdown file into its front matter and body.

    Args:
        text: the file, at most `MAX_FILE_BYTES`.
        file: its name, for messages.

    Raises:
        BadInput: too large, front matter that does not end, or YAML that cannot be read; with file and line.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_BYTES:
        raise BadInput(f"{file}: over {MAX_FILE_BYTES:,} bytes; an agent file is a short document, move the rest elsewhere")
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
    if start == len(lines) or lines[start].strip() != "---" or not _is_front(lines[start + 1 :]):
        return FrontMatter(fields={}, lines={}, body="\n".join(lines).strip(), body_line=start + 1)
    end = next((n for n in range(start + 1, len(lines)) if lines[n].rstrip() in ("---", "...")), None)
    if end is None:
        raise BadInput(f"{file}:{start + 1}: the front matter does not end; put a line of three dashes (---) after it")
    front = "\n".join(lines[start + 1 : end])
    if len(front.encode("utf-8", "surrogatepass")) > MAX_FRONT_BYTES:
        raise BadInput(f"{file}:{start + 1}: front matter over {MAX_FRONT_BYTES:,} bytes; move text into the body")
    fields, at, notes = _read(front, file=file, offset=start + 2)
    body = "\n".join(lines[end + 1 :]).strip()
    return FrontMatter(fields=fields, lines=at, body=body, body_line=end + 2, notes=notes)


def _is_front(lines: list[str]) -> bool:
    """Whether what follows a line of dashes is front matter: its first full line is a key, a comment or the end."""
    first = next((line.rstrip() for line in lines if line.strip()), "")
    return first == "---" or first.startswith("#") or _KEY_LINE.match(first) is not None


def _read(front: str, *, file: str, offset: int) -> tuple[dict[str, Value], dict[str, int], tuple[str, ...]]:
    """Read YAML; where it is broken, quote bare values and read it again."""
    try:
        fields, at = _load(front, offset)
    except yaml.YAMLError as broken:
        mended, keys = _quote_bare(front)
        try:
            fields, at = _load(mended, offset)
        except (yaml.YAMLError, ValueError):
            raise _unreadable(broken, file=file, offset=offset) from broken
        what = ", ".join(repr(key) for key in keys[:5])
        return fields, at, (f"{file}: {what} read as plain text; quote a value that has a colon, a hash or quotes",)
    except ValueError as broken:
        raise BadInput(f"{file}:{offset}: front matter is not usable: {broken}") from broken
    return fields, at, ()


def _unreadable(broken: yaml.YAMLError, *, file: str, offset: int) -> BadInput:
    mark = getattr(broken, "problem_mark", None)
    line = offset + (mark.line if mark is not None else 0)
    problem = getattr(broken, "problem", None) or str(broken).split("\n", 1)[0]
    return BadInput(f"{file}:{line}: front matter is not YAML ({problem}); quote the value or mend the line")


def _load(front: str, offset: int) -> tuple[dict[str, Value], dict[str, int]]:
    """Read YAML whose root is a mapping.

    Raises:
        yaml.YAMLError: not YAML, or not a mapping.
        ValueError: aliases, too deep or too many parts.
    """
    front = front.replace("\t", "    ")
    _check_bounds(front)
    root = yaml.compose(front, Loader=yaml.BaseLoader)
    if root is None:
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise yaml.YAMLError("the front matter is not a list of `key: value` lines")
    fields: dict[str, Value] = {}
    at: dict[str, int] = {}
    for key, node in root.value:
        name = str(key.value).strip().lower()
        fields[name] = _value(node)
        at[name] = offset + key.start_mark.line
    return fields, at


def _check_bounds(front: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(front, Loader=yaml.BaseLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases (*name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or count > MAX_EVENTS:
            raise ValueError("too deep or too long")


def _value(node: yaml.Node) -> Value:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _value(item) for key, item in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    return str(node.value)


def _quote_bare(front: str) -> tuple[str, list[str]]:
    """Quote every bare top-level value, with the lines it runs on over; gives the text and the keys that were quoted.

    Line numbers stay: a value over several lines is joined and followed by empty ones.
    """
    out: list[str] = []
    keys: list[str] = []
    for key, rest, more in _entries(front.split("\n")):
        if key is None:
            out.extend(more)
            continue
        text = rest.strip()
        if not text or text[0] in "|>" or (text[0] in "[{" and text[-1] in "]}"):
            out.extend([f"{key}: {rest}".rstrip(), *more])
            continue
        whole = " ".join([_unquoted(text), *(line.strip() for line in more if line.strip())])
        out.extend([f"{key}: {json.dumps(whole, ensure_ascii=False)}", *([""] * len(more))])
        keys.append(key)
    return "\n".join(out), keys


def _entries(lines: list[str]) -> Iterator[tuple[str | None, str, list[str]]]:
    """Group lines into (key, value on its line, following lines); text before the first key has no key."""
    key: str | None = None
    rest, more = "", list[str]()
    for line in lines:
        match = _KEY_LINE.match(line)
        if match is None:
            more.append(line)
            continue
        if key is not None or more:
            yield key, rest, more
        key, rest, more = match[1], match[2] or "", []
    if key is not None or more:
        yield key, rest, more


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text
