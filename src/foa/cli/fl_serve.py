"""`foa fl serve PATH…`: projects as agents of the federation; Agent-0 asks them to train."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from foa.app.federated_server import serve_projects
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.failing import say
from foa.cli.follow import until_stopped
from foa.cli.words import count
from foa.errors import BadInput

_Folders = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Folders with FL.toml and a Flower app.")]


def attach(group: typer.Typer) -> None:
    """Put the command into the group `fl`."""
    group.command("serve", help="Be an agent that trains projects when the federation asks.")(serve)


def serve(
    folders: _Folders,
    broker: options.Broker = "",
    name: Annotated[str, typer.Option(help="Name of the agent, for one project. Default: after its folder.")] = "",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Every site in the run's own process, instead of `foa fl site` at the broker.")
    ] = False,
    wait: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds that sites are waited for.")] = 60.0,
    clients: Annotated[int | None, typer.Option(min=1, max=10_000, help="For projects that make any number.")] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Let the rule decide every round.")] = False,
    pairs: options.Setting = None,
) -> None:
    """Announce the projects and train, one run at a time for each, until SIGINT or SIGTERM."""
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    if not settings.broker_url:
        raise BadInput("name the broker where the federation is: --broker mqtt://127.0.0.1:1883")
    arguments = ["--wait", str(wait), *(["--no-model"] if no_model else [])]
    arguments += [] if simulate else ["--broker", settings.broker_url]
    asyncio.run(_serve(settings, folders, name, clients, arguments))


async def _serve(settings: Settings, folders: list[Path], name: str, clients: int | None, arguments: list[str]) -> None:
    async with serve_projects(settings, folders, name=name, clients=clients, arguments=arguments) as agents:
        names = ", ".join(agent.profile.agent_id for agent in agents)
        say(f"{count(len(agents), 'project')} at {settings.broker_url}: {names}")
        await until_stopped()
