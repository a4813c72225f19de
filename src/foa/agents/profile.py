"""An agent as its author writes it: one Markdown file, YAML front matter above, the Spec below.

    ---
    name: clause-checker
    description: Checks contracts for missing clauses.
    skills: [contracts, law]
    policies: [gdpr, "region:eu"]
    price: {usd_per_call: 0.002}
    tools:
      - documents: ./clauses
    ---
    You check contracts. Never give a final legal opinion. …

Only a name or a description is needed, and even these are found in the text where they are missing, so that agent files
written for other programs work as they are. What this program does not know is ignored and named in `notes`.
Reference: docs/reference/agent-files.md.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeVar

import msgspec

from foa.agents.frontmatter import MAX_FILE_BYTES, FrontMatter, Value, split_front_matter
from foa.errors import BadInput
from foa.values.ids import AgentId, check_id
from foa.values.resources import Price, Resources
from foa.values.task import Label

TOOL_KINDS = frozenset(
    {"documents", "code", "sql", "http", "mcp", "git", "dependencies"}
)  #: tools that `foa.agents.tools` has
KINDS = ("propose", "draft", "refine")
MAX_NAME, MAX_DESCRIPTION, MAX_SKILLS, MAX_EXAMPLES = 120, 2_000, 64, 32  #: within what a card may carry

T = TypeVar("T")

_KNOWN = {
    "id", "name", "description", "skills", "tags", "tools", "resources", "policies", "model", "price", "examples", "kinds",
    "limits",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool an agent asks for."""

    kind: str  #: one of `TOOL_KINDS`
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may use of a model; small by default, for small models."""

    prompt_tokens: int = 600  #: of one prompt, estimated
    reply_tokens: int = 96  #: of one reply
    evidence: int = 4  #: pieces of evidence shown to the model
    seconds: float = 60.0  #: of one model call, 20 at most for a model that cannot drive tools; then a rule answers
    model_rounds: int = 16  #: refinement rounds in which the model criticises and words; 0: a rule does
    slots: int = 4  #: requests worked on at once
    queue: int = 64  #: requests that may wait; more are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProfile:
    """What an agent says of itself, checked."""

    agent_id: AgentId
    name: str
    description: str
    spec: str  #: how it works: the body of its file
    skills: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()  #: requests it is good at
    policies: frozenset[str] = frozenset()  #: p: labels it is cleared for
    resources: Resources = Resources()  #: r, the price in it
    tools: tuple[ToolSpec, ...] = ()
    model: str = ""  #: which model it wants; empty: the federation's
    kinds: tuple[str, ...] = KINDS  #: requests it answers
    limits: Limits = Limits()
    fl: Mapping[str, object] | None = None  #: its federated-learning block; None: it is no site
    folder: Path | None = None  #: where its file is: relative paths of its tools start here
    notes: tuple[str, ...] = ()  #: what was ignored or mended while reading

    def digest(self) -> str:
        """Hash of everything that a peer can tell apart; when it changes, the version v grows (eq. 1)."""
        parts = (self.name, self.description, self.spec, self.skills, self.examples, sorted(self.policies), self.resources)
        site = () if self.fl is None else (sorted(self.fl.items()),)
        return hashlib.sha256(msgspec.json.encode((*parts, self.kinds, self.model, *site))).hexdigest()


def load_profile(path: Path) -> AgentProfile:
    """Read an agent file.

    Raises:
        BadInput: it is missing, not UTF-8, too large, or a field is not usable; with file and line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path}: over {MAX_FILE_BYTES:,} bytes; an agent file is a short document")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return parse_profile(text, file=str(path), folder=path.resolve().parent)


def parse_profile(text: str, *, file: str, folder: Path | None = None) -> AgentProfile:
    """Read the text of an agent file.

    Args:
        text: the whole file.
        file: its name: for messages, and for the agent's name where the text gives none.
        folder: where relative paths of its tools start.

    Raises:
        BadInput: a field is not usable; the message begins with file and line.
    """
    front = split_front_matter(text, file=file)
    if not front.fields and not front.body:
        raise BadInput(f"{file}:1: the file is empty; write at least what the agent does")
    reader = _Reader(front, file)
    name = reader.text("name", MAX_NAME) or PurePath(file).stem[:MAX_NAME] or "agent"
    description = reader.text("description", MAX_DESCRIPTION) or _first_paragraph(front.body)[:MAX_DESCRIPTION] or name
    skills = reader.texts("skills", MAX_SKILLS, 64) or reader.texts("tags", MAX_SKILLS, 64)
    tools = reader.tools()
    return AgentProfile(
        agent_id=reader.agent_id(name),
        name=name,
        description=description,
        spec=front.body,
        skills=skills,
        examples=reader.texts("examples", MAX_EXAMPLES, 300, commas=False),
        policies=reader.labels("policies"),
        resources=reader.resources(tools),
        tools=tools,
        model=reader.text("model", 200),
        kinds=reader.kinds(),
        limits=reader.limits(),
        folder=folder,
        notes=reader.finish(),
    )


def slug(name: str) -> str:
    """Make an id of a name: ASCII, lower case, dashes; a name without Latin letters becomes a hash of it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:64].rstrip("-._")
    return found or "agent-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _first_paragraph(body: str) -> str:
    """First paragraph that is not a heading, on one line; else the first heading."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)]
    plain = (part for part in paragraphs if part and not part.startswith(("#", "---", "```", "|", "<")))
    return next(plain, next((part.lstrip("# ") for part in paragraphs if part), ""))


class _Reader:
    """Reads the fields of one file, gathering notes and giving errors their line."""

    def __init__(self, front: FrontMatter, file: str) -> None:
        self._front = front
        self._file = file
        self._notes = list(front.notes)

    def finish(self) -> tuple[str, ...]:
        unknown = sorted(key for key in self._front.fields if key not in _KNOWN)
        if unknown:
            self._notes.append(f"{self._file}: ignored {', '.join(unknown[:12])}: not fields of an agent here")
        return tuple(self._notes[:32])

    def wrong(self, key: str, what: str) -> BadInput:
        return BadInput(f"{self._file}:{self._front.lines.get(key, 1)}: {key}: {what}")

    def text(self, key: str, longest: int) -> str:
        value = self._front.fields.get(key, "")
        if isinstance(value, list):
            value = " ".join(part for part in value if isinstance(part, str))
        if isinstance(value, dict):
            raise self.wrong(key, "must be text, not a mapping")
        found = " ".join(value.split())
        if len(found) > longest:
            self._notes.append(f"{self._file}: {key} shortened to {longest:,} characters")
        return found[:longest].strip()

    def texts(self, key: str, most: int, longest: int, *, commas: bool = True) -> tuple[str, ...]:
        """A list of texts, or one text with commas (or lines) between them."""
        value = self._front.fields.get(key, "")
        if isinstance(value, str):
            value = list(value.strip("[]").split(",") if commas else value.split("\n"))
        if isinstance(value, dict):
            value = list(value)
        found = [" ".join(part.split())[:longest].strip() for part in value if isinstance(part, str)]
        unique = tuple(dict.fromkeys(part for part in found if part))
        if len(unique) > most:
            self._notes.append(f"{self._file}: only the first {most} of {len(unique)} {key} are kept")
        return unique[:most]

    def labels(self, key: str) -> frozenset[str]:
        try:
            return frozenset(msgspec.convert(self.texts(key, 64, 65), tuple[Label, ...]))
        except msgspec.ValidationError:
            raise self.wrong(key, "labels are 1 to 64 of a-z, 0-9, ':', '.', '_', '-', such as gdpr or region:eu") from None

    def kinds(self) -> tuple[str, ...]:
        found = self.texts("kinds", 8, 64)
        wrong = [kind for kind in found if kind not in KINDS]
        if wrong:
            raise self.wrong("kinds", f"{wrong[0]!r} is no kind of request; there are {', '.join(KINDS)}")
        return found or KINDS

    def agent_id(self, name: str) -> AgentId:
        given = self.text("id", 200)
        if not given:
            return AgentId(slug(name))
        try:
            return AgentId(check_id(given, what="agent"))
        except ValueError as error:
            raise self.wrong("id", str(error)) from error

    def resources(self, tools: tuple[ToolSpec, ...]) -> Resources:
        fields: dict[str, object] = dict(self._mapping("resources", set(Resources.__dataclass_fields__)))
        price = self._front.fields.get("price", fields.pop("price", {}))
        charged = {"usd_per_call": price} if isinstance(price, str) and price.strip() else price or {}
        if isinstance(charged, dict):
            self._known("price", charged, set(Price.__dataclass_fields__))
        fields["price"] = charged
        fields.setdefault("tools", [tool.kind for tool in tools])
        return self._convert("price" if "price" in self._front.fields else "resources", fields, Resources)

    def limits(self) -> Limits:
        limits = self._convert("limits", self._mapping("limits", set(Limits.__dataclass_fields__)), Limits)
        bounds = {
            "seconds": 3_600,
            "prompt_tokens": 100_000,
            "reply_tokens": 20_000,
            "evidence": 32,
            "slots": 1_024,
            "queue": 10_000,
        }
        if not 0 <= limits.model_rounds <= 16:
            raise self.wrong("limits", "model_rounds must be 0 to 16")
        for key, most in bounds.items():
            if not 1 <= getattr(limits, key) <= most:
                raise self.wrong("limits", f"{key} must be 1 to {most:,}")
        return limits

    def tools(self) -> tuple[ToolSpec, ...]:
        """Tools this program has. Names of another program's tools (`Read, Grep`) are noted, not advertised."""
        value = self._front.fields.get("tools", "")
        if isinstance(value, str):
            value = [part.strip() for part in value.strip("[]").split(",") if part.strip()]
        entries = [{key: item} for key, item in value.items()] if isinstance(value, dict) else value
        found: list[ToolSpec] = []
        foreign: list[str] = []
        for entry in entries[:64]:
            kind, options = self._tool(entry)
            if kind in TOOL_KINDS:
                found.append(ToolSpec(kind=kind, options=options))
            else:
                foreign.append(kind)
        if foreign:
            self._notes.append(f"{self._file}: ignored tools {', '.join(foreign[:12])}: not tools of this program")
        return tuple(found)

    def _tool(self, entry: Value) -> tuple[str, Mapping[str, Value]]:
        if isinstance(entry, str):
            return entry[:64], {}
        if isinstance(entry, list) or not entry:
            raise self.wrong("tools", "each tool is a name, or a mapping such as `documents: ./docs`")
        if isinstance(kind := entry.get("kind"), str):
            return kind[:64], {key: item for key, item in entry.items() if key != "kind"}
        kind, inner = next(iter(entry.items()))
        options = dict(inner) if isinstance(inner, dict) else {"": inner} if inner else {}
        return kind[:64], {**options, **{key: item for key, item in entry.items() if key != kind}}

    def _mapping(self, key: str, known: set[str]) -> Mapping[str, Value]:
        value = self._front.fields.get(key, {}) or {}
        if not isinstance(value, dict):
            if key == "resources":  # in files of other programs this is often a list of links
                self._notes.append(f"{self._file}: ignored {key}: not a mapping of quantities")
                return {}
            raise self.wrong(key, "must be a mapping, one `name: number` a line")
        return self._known(key, value, known)

    def _known(self, key: str, value: Mapping[str, Value], known: set[str]) -> Mapping[str, Value]:
        unknown = sorted(set(value) - known)
        if unknown:
            self._notes.append(f"{self._file}: ignored in {key}: {', '.join(unknown[:8])}")
        return {name: item for name, item in value.items() if name in known}

    def _convert(self, key: str, fields: Mapping[str, object], kind: type[T]) -> T:
        try:
            return msgspec.convert(dict(fields), kind, strict=False)
        except msgspec.ValidationError as error:
            raise self.wrong(key, f"not usable: {error}") from error
