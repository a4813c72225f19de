"""`foa agents list | show ID | search TEXT | import FILE`: who is there, and why one fits or not.

With `--broker` (or FOA_BROKER_URL) those that announced themselves there, else those of a federation's files.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType

from foa.app.clock import SystemClock
from foa.app.federation_file import find_federation
from foa.app.looking import View, look
from foa.app.nearest import nearest
from foa.app.standing import standings
from foa.cli import options
from foa.cli.console import output
from foa.cli.forms import As, Url, check_as, document_of, import_document
from foa.cli.given import read_question
from foa.cli.roster import draw_agent, draw_agents, draw_search, draw_standings, facts_of
from foa.errors import BadInput, Unroutable
from foa.values.ids import AgentId
from foa.values.result import Routed

DEFAULT_FEDERATION = "repository"
#: What a command found, to print as JSON, and how people see it.
Found = tuple[object, RenderableType]


def attach(app: typer.Typer, summary: str) -> None:
    """Put the commands into the application."""
    group = typer.Typer(help=summary, no_args_is_help=True)
    group.command("list", help="Every agent in a line.")(list_agents)
    group.command("show", help="Everything one agent says of itself, also in the forms of others.")(show)
    group.command("search", help="Who fits a question: every score with its factors, every refusal with its reason.")(search)
    group.command("import", help="Make an agent file of an agent that is described in another form.")(import_document)
    app.add_typer(group, name="agents")


def list_agents(
    federation: options.Federation = "",
    broker: options.Broker = "",
    over: options.Over = None,
    pairs: options.Setting = None,
    as_json: options.Json = False,
) -> None:
    """Print them."""

    async def see(view: View) -> Found:
        agents = [view.registry.get(agent) for agent in view.registry.agents()]
        known = sorted((each for each in agents if each is not None), key=lambda vcv: vcv.agent_id)
        refused = {str(agent): why for agent, why in view.registry.refusals.items()}
        told_by = {vcv.agent_id: via for vcv in known if (via := view.registry.origin(vcv.agent_id))}
        facts = [facts_of(vcv) | {"told_by": told_by.get(vcv.agent_id, "")} for vcv in known]
        return {"agents": facts, "refused": refused}, draw_agents(known, refused, told_by)

    _print(see, federation, broker, over, pairs, as_json=as_json)


def show(
    agent: Annotated[str, typer.Argument(metavar="ID")],
    federation: options.Federation = "",
    broker: options.Broker = "",
    over: options.Over = None,
    pairs: options.Setting = None,
    form: As = "",
    url: Url = "",
    as_json: options.Json = False,
) -> None:
    """Print one of them."""
    check_as(form, url, as_json=as_json)

    async def see(view: View) -> Found:
        found = view.registry.get(AgentId(agent))
        stands = await standings(view.settings, AgentId(agent), SystemClock())
        if found is None and stands:  # a simulated site, or one that left
            return {"agent_id": agent, "reputation": stands}, draw_standings(agent, stands)
        if found is None:
            raise _missing(view, agent)
        vitals = view.registry.vitals(found.agent_id)
        told_by = view.registry.origin(found.agent_id)
        facts = facts_of(found) | {"vitals": vitals, "told_by": told_by, "reputation": stands}
        return facts, draw_agent(found, vitals, told_by, stands)

    async def see_document(view: View) -> bytes:
        found, card = view.registry.get(AgentId(agent)), view.registry.card(AgentId(agent))
        if found is None or card is None:
            raise _missing(view, agent)
        return document_of(found, card, form, url)

    _print(see_document if form else see, federation, broker, over, pairs, as_json=as_json)


def _missing(view: View, agent: str) -> BadInput:
    if why := view.registry.refusals.get(AgentId(agent)):
        return BadInput(f"agent {agent} was refused: {why}")
    return BadInput(f"there is no agent {agent}{nearest(agent, view.registry.agents())}")


def search(
    words: Annotated[list[str], typer.Argument(metavar="TEXT")],
    skill: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A skill it must have; may be repeated.")] = None,
    policy: Annotated[list[str] | None, typer.Option(metavar="LABEL", help="A label it must be cleared for.")] = None,
    federation: options.Federation = "",
    broker: options.Broker = "",
    over: options.Over = None,
    pairs: options.Setting = None,
    as_json: options.Json = False,
) -> None:
    """Print who fits."""
    question = read_question(words)

    async def see(view: View) -> Found:
        routed = await _route(view, question, skill or (), policy or ())
        return routed, draw_search(routed)

    _print(see, federation, broker, over, pairs, as_json=as_json)


async def _route(view: View, text: str, skills: Sequence[str], policies: Sequence[str]) -> Routed:
    try:
        found = await view.router.route(text=text, skills=skills, policies=policies)
    except Unroutable as error:
        if not error.refusals:
            raise
        return Routed(candidates=(), refusals={str(agent): why for agent, why in error.refusals.items()}, why=error.why)
    refusals = {str(agent): why for agent, why in found.refusals.items()}
    return Routed(candidates=found.candidates, refusals=refusals, fallback=found.fallback, fit=found.fit)


def _print(
    see: Callable[[View], Coroutine[Any, Any, Found | bytes]],
    federation: str,
    broker: str,
    over: Path | None,
    pairs: list[str] | None,
    *,
    as_json: bool,
) -> None:
    alone = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    file = None if alone.broker_url and not federation else find_federation(federation or DEFAULT_FEDERATION)
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs, file) if file else alone

    async def run() -> Found | bytes:
        async with look(settings, file.agents if file else (), over=options.folder(over, file)) as view:
            return await see(view)

    result = asyncio.run(run())
    if isinstance(result, bytes):
        sys.stdout.buffer.write(result)
        return
    found, drawn = result
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    else:
        output().print(drawn)
