"""Agents in the forms of others: out of a registry's card, and in as a profile that an agent file can be written of.

card, A2A card, OASF record   carry the signed VCV both ways; where one rides in what comes in, it has to hold
MCP tools/list, Markdown      carry what they have words for
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from foa.agents.profile import AgentProfile, parse_profile, slug
from foa.app.nearest import nearest
from foa.errors import BadCapability, BadInput
from foa.interop.a2a_card import from_a2a, to_a2a, vcv_of_a2a
from foa.interop.markdown import profile_of, to_markdown, write_profile
from foa.interop.mcp_tools import from_mcp_tools, to_mcp_tool
from foa.interop.oasf import from_oasf, to_oasf, vcv_of_oasf
from foa.interop.profiles import lines_of, one_line, read_object
from foa.registry.card import decode_card
from foa.values.ids import AgentId
from foa.values.vcv import Vcv

#: Every form, as the command line names it.
FORMS = ("card", "a2a", "oasf", "mcp", "markdown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """An agent as a document described it."""

    profile: AgentProfile  #: what its agent file says, bounded and without tools
    signed: Vcv | None  #: the VCV of the signed card that the document carried, which holds
    notes: tuple[str, ...]  #: what was cut, left out or is to be looked at, a sentence each


def check_form(form: str) -> None:
    """See that there is a form of that name.

    Raises:
        BadInput: there is none.
    """
    if form not in FORMS:
        raise BadInput(f"there is no form {form[:40]!r}{nearest(form, FORMS)} (known: {', '.join(FORMS)})")


def check_url(form: str, url: str) -> None:
    """See that an A2A card is given the address it needs, and nothing else is.

    Raises:
        BadInput: it is missing, of no use to this form, or not absolute.
    """
    if form != "a2a":
        if url:
            raise BadInput("--url is for A2A cards: write it beside --as a2a")
        return
    if not url:
        raise BadInput("an A2A card says where requests to the agent are taken, and no card has that: add --url https://…")
    if not _is_web_address(url):
        raise BadInput(f"--url {url[:80]}: write the whole address, as in --url https://agents.example.org/a2a")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return url.isprintable() and " " not in url and parts.scheme in ("http", "https") and bool(parts.hostname)


def write_form(vcv: Vcv, card: bytes, form: str, *, url: str = "") -> bytes:
    """Give an agent in another form, the bytes of its document.

    Args:
        vcv: the agent.
        card: its card as it was signed.
        form: one of `FORMS`; `card` gives the card as it is.
        url: for A2A, where requests to it are taken.

    Raises:
        BadInput: the agent cannot be put into this form.
    """
    match form:
        case "card":
            return card
        case "markdown":
            return to_markdown(vcv).encode()
        case "a2a":
            document = to_a2a(vcv, card, url=url)
        case "oasf":
            document = to_oasf(vcv, card, created_at=_rfc_3339(vcv.issued_at))
        case _:
            document = {"tools": [to_mcp_tool(vcv)]}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_form(text: str, *, file: str, form: str = "", name: str = "") -> Imported:
    """Give the agent that a document describes.

    Args:
        text: the whole document.
        file: what it is called, for messages.
        form: its form; empty: it is recognised.
        name: what the agent shall be called; empty: as the document says. Its id is made of it.

    Raises:
        BadInput: there is no such form, or it is of none, describes no agent, has no name and needs one, or carries a
            signed card that does not hold.
    """
    if form:
        check_form(form)
    document = text.removeprefix("\ufeff").encode()
    form, name = form or recognise(document, file=file), one_line(name)
    try:
        profile, signed = _READERS[form](document, file, name)
    except BadCapability as error:
        raise BadInput(f"{file}: the signed card in it does not hold, so nothing of it is taken: {error}") from error
    except BadInput as error:
        if form == "markdown":  # these say file and line
            raise
        raise BadInput(f"{file}: {error}") from error
    if name:
        profile = replace(profile, name=name, agent_id=AgentId(slug(name)))
    # what is written is what was read of it: the reader of agent files has the last word on bounds
    checked = parse_profile(write_profile(_tidied(profile)), file=file)
    notes = (*profile.notes, *_left_out(profile), *checked.notes, *_to_look_at(checked))
    return Imported(profile=checked, signed=signed, notes=tuple(dict.fromkeys(notes)))


def recognise(document: bytes, *, file: str) -> str:
    """Tell which form a document has: what is no JSON object is Markdown where it begins or is called like it.

    Raises:
        BadInput: none that is known.
    """
    text = document.lstrip()
    if not text.startswith(b"{") and (text.startswith(b"---") or file.lower().endswith((".md", ".markdown"))):
        return "markdown"
    try:
        members = read_object(document, what="document")
    except BadInput as error:
        raise BadInput(f"{file}: {error}; an agent file begins with a line of three dashes (---)") from error
    for form, marks in _MARKS.items():
        if any(mark in members for mark in marks):
            return form
    result = members.get("result")
    if isinstance(result, dict) and "tools" in result:
        return "mcp"
    raise BadInput(f"{file}: this is no form that is known here; where it is one, name it with --from ({', '.join(FORMS)})")


#: Members that a document of one form has and those after it have not.
_MARKS: Mapping[str, tuple[str, ...]] = {
    "card": ("vcv",),
    "oasf": ("schema_version", "modules"),
    "a2a": ("capabilities", "supportedInterfaces", "protocolVersion", "defaultInputModes"),
    "mcp": ("tools",),
}
_Read = tuple[AgentProfile, Vcv | None]


def _read_card(document: bytes, _file: str, _name: str) -> _Read:
    vcv = decode_card(document.strip())
    return profile_of(vcv), vcv


def _read_a2a(document: bytes, _file: str, _name: str) -> _Read:
    vcv = vcv_of_a2a(document)
    return (profile_of(vcv), vcv) if vcv else (from_a2a(document), None)


def _read_oasf(document: bytes, _file: str, _name: str) -> _Read:
    vcv = vcv_of_oasf(document)
    return (profile_of(vcv), vcv) if vcv else (from_oasf(document), None)


def _read_mcp(document: bytes, _file: str, name: str) -> _Read:
    if not name:
        raise BadInput("a list of MCP tools does not say whose they are: name the server with --name")
    return from_mcp_tools(document, server=name), None


def _read_markdown(document: bytes, file: str, _name: str) -> _Read:
    return parse_profile(document.decode(), file=file), None


_READERS: Mapping[str, Callable[[bytes, str, str], _Read]] = {
    "card": _read_card,
    "a2a": _read_a2a,
    "oasf": _read_oasf,
    "mcp": _read_mcp,
    "markdown": _read_markdown,
}


def _tidied(profile: AgentProfile) -> AgentProfile:
    """Take out of a stranger's texts what moves a terminal's cursor or turns its direction."""
    return replace(
        profile,
        name=one_line(profile.name),
        description=one_line(profile.description),
        skills=tuple(map(one_line, profile.skills)),
        examples=tuple(map(one_line, profile.examples)),
        model=one_line(profile.model),
        spec=lines_of(profile.spec),
    )


def _left_out(profile: AgentProfile) -> list[str]:
    resources = profile.resources
    things = dict.fromkeys([*(tool.kind for tool in profile.tools), *resources.tools, *resources.corpora])
    if not things:
        return []
    named = one_line(", ".join(things))[:200]
    return [f"what it has elsewhere ({named}) is left out: write into the file which tools it has here"]


def _to_look_at(profile: AgentProfile) -> list[str]:
    if not profile.policies:
        return []
    labels = ", ".join(sorted(profile.policies))
    return [f"it claims to be cleared for {labels}: take out of the file what is not so where you run it"]


def _rfc_3339(seconds: float) -> str:
    return datetime.fromtimestamp(math.floor(seconds), UTC).isoformat().replace("+00:00", "Z")
