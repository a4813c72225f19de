"""From other descriptions of agents to an `AgentProfile`: bounded, and what was cut or left out is said in its notes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from foa.agents.profile import MAX_DESCRIPTION, MAX_EXAMPLES, MAX_NAME, MAX_SKILLS, AgentProfile, slug
from foa.errors import BadInput
from foa.values.ids import AgentId

MAX_DOCUMENT_BYTES = 1_000_000
_JOINERS = "\u200c\u200d"  # without which words of several scripts, and many emoji, fall apart
_MARKDOWN = _JOINERS + "\n\t"


@dataclass(slots=True, kw_only=True)
class Found:
    """What a reader found, before it is bounded."""

    name: str
    description: str
    skills: list[str] = field(default_factory=list[str])
    examples: list[str] = field(default_factory=list[str])


def read_object(document: bytes, *, what: str) -> Mapping[str, object]:
    """Decode a JSON object of a stranger's.

    Raises:
        BadInput: too large, not JSON, or no object.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise BadInput(f"this {what} has {len(document):,} bytes; {MAX_DOCUMENT_BYTES:,} is the limit")
    try:
        decoded = msgspec.json.decode(document)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadInput(f"this {what} is not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise BadInput(f"this {what} is no JSON object")
    return cast("Mapping[str, object]", decoded)


def text_of(mapping: Mapping[str, object], *keys: str) -> str:
    """Give the first of these fields that is a text and not empty, on one line that can be shown."""
    return next((text for key in keys if isinstance(value := mapping.get(key), str) and (text := one_line(value))), "")


def one_line(text: str) -> str:
    """Join the white space of a stranger's text, and take out what moves a terminal's cursor or turns its direction."""
    return " ".join("".join(letter if letter.isprintable() or letter in _JOINERS else " " for letter in text).split())


def lines_of(text: str) -> str:
    """Do to a stranger's text of several lines what `one_line` does to one, and leave its lines and blanks as they are."""
    kept = (letter if letter.isprintable() or letter in _MARKDOWN else " " for letter in text.replace("\r\n", "\n"))
    return "".join(kept)


def items_of(mapping: Mapping[str, object], key: str, *, most: int = 256) -> list[Mapping[str, object]]:
    """Give the objects of a list field; texts become objects with that name."""
    value = mapping.get(key)
    if not isinstance(value, list):
        return []
    found: list[Mapping[str, object]] = []
    for item in cast("Sequence[object]", value[:most]):
        if isinstance(item, dict):
            found.append(cast("Mapping[str, object]", item))
        elif isinstance(item, str):
            found.append({"name": item})
    return found


def texts_of(mapping: Mapping[str, object], key: str, *, most: int = 256) -> list[str]:
    """Give the texts of a list field."""
    value = mapping.get(key)
    items = cast("Sequence[object]", value[:most]) if isinstance(value, list) else ()
    return [text for item in items if isinstance(item, str) and (text := one_line(item))]


def profile(found: Found, *, what: str) -> AgentProfile:
    """Bound what was found, and make a profile of it.

    Raises:
        BadInput: it has neither a name nor a description.
    """
    if not found.name and not found.description:
        raise BadInput(f"this {what} has neither a name nor a description")
    notes: list[str] = []
    name = _cut(found.name or found.description, MAX_NAME, "name", notes)
    description = _cut(found.description or found.name, MAX_DESCRIPTION, "description", notes)
    return AgentProfile(
        agent_id=AgentId(slug(name)),
        name=name,
        description=description,
        spec="",
        skills=_some(found.skills, MAX_SKILLS, 64, "skills", notes),
        examples=_some(found.examples, MAX_EXAMPLES, 300, "examples", notes),
        notes=tuple(notes),
    )


def _cut(text: str, longest: int, what: str, notes: list[str]) -> str:
    if len(text) > longest:
        notes.append(f"{what} shortened to {longest:,} characters")
    return text[:longest].strip()


def _some(texts: Iterable[str], most: int, longest: int, what: str, notes: list[str]) -> tuple[str, ...]:
    whole = dict.fromkeys(stripped for text in texts if (stripped := text.strip()))
    unique = tuple(dict.fromkeys(text[:longest].strip() for text in whole))
    if long := sum(len(text) > longest for text in whole):
        notes.append(f"{long} of the {what} shortened to {longest} characters")
    if len(unique) > most:
        notes.append(f"only the first {most} of {len(unique)} {what} are kept")
    return unique[:most]
