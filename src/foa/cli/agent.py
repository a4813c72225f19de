"""`foa agent FILE…`: agents in a process of their own, at a broker that others use."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from foa.app.serving import serve_agents
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.failing import say
from foa.cli.follow import until_stopped
from foa.cli.words import count
from foa.errors import BadInput


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("agent", help=summary)(agent)


def agent(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Agent files, Markdown.")],
    over: options.Over = None,
    broker: options.Broker = "",
    pairs: options.Setting = None,
) -> None:
    """Run until SIGINT or SIGTERM."""
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    if not settings.broker_url:
        raise BadInput("name the broker where the agents should announce themselves: --broker mqtt://127.0.0.1:1883")
    asyncio.run(run(settings, files, options.folder(over or Path(), None)))


async def run(settings: Settings, files: list[Path], over: Path | None) -> None:
    """Serve until told to leave."""
    async with serve_agents(settings, files, over=over) as serving:
        names = ", ".join(each.profile.agent_id for each in serving.agents[:8])
        more = f" and {len(serving.agents) - 8} more" if len(serving.agents) > 8 else ""
        say(f"{count(len(serving.agents), 'agent')} at {serving.url}: {names}{more}")
        await until_stopped()
