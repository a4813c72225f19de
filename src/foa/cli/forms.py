"""Agents in the forms of others: `foa agents show ID --as FORM` and `foa agents import FILE`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from foa.app.agent_file import write_agent_file
from foa.app.other_forms import FORMS, Imported, check_form, check_url, read_form, write_form
from foa.app.toml_file import decode_text, read_text
from foa.cli.failing import say
from foa.errors import BadInput
from foa.interop.markdown import write_profile
from foa.interop.profiles import MAX_DOCUMENT_BYTES
from foa.values.vcv import Vcv

_NAMES = ", ".join(FORMS)
As = Annotated[str, typer.Option("--as", metavar="FORM", help=f"Print its document in this form: {_NAMES}.")]
Url = Annotated[str, typer.Option("--url", metavar="URL", help="For --as a2a: where requests to the agent are taken.")]


def check_as(form: str, url: str, *, as_json: bool) -> None:
    """See that what was asked for fits together, before anybody is looked for.

    Raises:
        BadInput: it does not.
    """
    if form and as_json:
        raise BadInput("--json is not for --as: the form says what is printed")
    if form:
        check_form(form)
    check_url(form, url)


def document_of(vcv: Vcv, card: bytes, form: str, url: str) -> bytes:
    """Give the bytes to print; what they cannot tell is said on stderr.

    Raises:
        BadInput: as `write_form`.
    """
    document = write_form(vcv, card, form, url=url)
    if form == "markdown":
        say("no card has its agent's Spec or tools: write them into the file")
    return document


def import_document(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The document; - for standard input.")],
    form: Annotated[
        str, typer.Option("--from", metavar="FORM", help=f"Its form: {_NAMES}. Default: it is recognised.")
    ] = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="What to call the agent; its id is made of it. Default: as in the document.")
    ] = "",
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="AGENT.md", help="The file to write. Default: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file that is there.")] = False,
) -> None:
    """Write its agent file; what was cut or is to be looked at goes to stderr."""
    text, file = _read(source)
    found = read_form(text, file=file, form=form, name=name)
    if to is None:
        sys.stdout.buffer.write(write_profile(found.profile).encode())
        _tell(found)
        return
    agent = write_agent_file(found.profile, to, force=force)
    _tell(found)
    if agent != found.profile.agent_id:
        say(f"another agent file beside it has the id {found.profile.agent_id}: this one has {agent}")
    say(f"{to} is the file of agent {agent}")


def _read(source: str) -> tuple[str, str]:
    if source != "-":
        return read_text(Path(source), limit=MAX_DOCUMENT_BYTES), source
    name = "standard input"
    return decode_text(sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1), name=name, limit=MAX_DOCUMENT_BYTES), name


def _tell(found: Imported) -> None:
    if (vcv := found.signed) is not None:
        say(
            f"its signed card holds: agent {vcv.agent_id}, version {vcv.version}, key {vcv.public_key}; "
            "the agent of this file signs with the key of whoever runs it"
        )
    for note in found.notes:
        say(note)
