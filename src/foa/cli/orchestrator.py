"""`foa orchestrator`: Agent-0 in a process of its own. Any number of them share the jobs of one broker."""

import asyncio
from typing import Annotated

import typer

from foa.app.keys import orchestrator_key
from foa.app.serving import serve_orchestrator
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.failing import say
from foa.cli.follow import until_stopped
from foa.errors import BadInput
from foa.registry.keys import public_key


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("orchestrator", help=summary)(orchestrator)


def orchestrator(
    name: Annotated[
        str, typer.Option("--id", metavar="NAME", help="Its name; unfinished jobs of that name go on.")
    ] = "agent-0",
    broker: options.Broker = "",
    pairs: options.Setting = None,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print NAME=KEY for the FOA_GOSSIP_PEERS of other orchestrators, and end.")
    ] = False,
) -> None:
    """Run until SIGINT or SIGTERM."""
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    if show_key:
        typer.echo(f"{name}={public_key(orchestrator_key(settings.state_dir))}")
        return
    if not settings.broker_url:
        raise BadInput("name the broker whose jobs should be served: --broker mqtt://127.0.0.1:1883")
    asyncio.run(run(settings, name))


async def run(settings: Settings, name: str) -> None:
    """Serve until told to leave."""
    async with serve_orchestrator(settings, name=name) as serving:
        say(f"orchestrator {name} serves {serving.url}")
        await until_stopped()
