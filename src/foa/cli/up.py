"""`foa up FEDERATION.toml`: broker, orchestrator and agents on this machine, until told to leave."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from foa.app.federation_file import FederationFile, find_federation
from foa.app.serving import serve_all
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.failing import say
from foa.cli.follow import until_stopped
from foa.cli.words import count


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("up", help=summary)(up)


def up(
    federation: Annotated[str, typer.Argument(metavar="FEDERATION.toml", help="Or `repository`, `clinic`.")] = "repository",
    over: options.Over = None,
    broker: options.Broker = "",
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port of its own broker; 0: any free one.")] = None,
    name: Annotated[str, typer.Option("--id", metavar="NAME", help="Name of its orchestrator.")] = "agent-0",
    pairs: options.Setting = None,
) -> None:
    """Run until SIGINT or SIGTERM."""
    file = find_federation(federation)
    settings = options.settings_from({"FOA_BROKER_URL": broker, "FOA_BROKER_PORT": port}, pairs, file)
    asyncio.run(run(settings, file, options.folder(over, file), name))


async def run(settings: Settings, file: FederationFile, over: Path | None, name: str) -> None:
    """Serve until told to leave."""
    async with serve_all(settings, file.agents, over=over, name=name) as serving:
        say(f"{file.name}: {count(len(serving.agents), 'agent')} and an orchestrator at {serving.url}")
        say(f'ask with: foa ask --broker {serving.url} "…"')
        await until_stopped()
