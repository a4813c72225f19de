"""`foa fl want PATH "why" --name SITE`: a site asks its project's server for a training. Needs no extra."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from foa.app.clock import SystemClock
from foa.app.federated_want import Wanted
from foa.app.federated_want import want as make_wish
from foa.cli import options
from foa.cli.console import output
from foa.errors import BadInput
from foa.fl.project import project_id, read_project
from foa.fl.wish_wire import WishTold
from foa.values.ids import AgentId, check_id


def attach(group: typer.Typer) -> None:
    """Put the command into the group `fl`."""
    group.command("want", help="Ask the server of a project for a training.")(want)


def want(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="Folder with FL.toml.")],
    why: Annotated[str, typer.Argument(metavar="WHY", help="What for, in words for the people at the server.")] = "",
    name: Annotated[str, typer.Option(help="Which of the project's sites asks; its `foa fl site` has to run.")] = "",
    broker: options.Broker = "",
    usd: Annotated[float, typer.Option(min=0, max=1e6, help="US$ that the site pays for the run at most.")] = 0.0,
    wait: Annotated[float, typer.Option(min=0, max=604_800, help="Seconds to wait for the end of the run.")] = 0.0,
    pairs: options.Setting = None,
) -> None:
    """Make a wish, signed by the key of the site's card, and show what the server says."""
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    if not settings.broker_url:
        raise BadInput("give the address of the broker: --broker mqtt://host:port, or FOA_BROKER_URL")
    plan = read_project(folder)
    try:
        site = AgentId(check_id(name, what="site"))
    except ValueError as error:
        raise BadInput(f"--name: {error}") from error
    wanted = Wanted(project=project_id(folder, plan), site=site, purpose=plan.purpose, why=why, usd=usd)
    asyncio.run(make_wish(wanted, settings, SystemClock(), wait_seconds=wait, tell=_show))


def _show(told: WishTold) -> None:
    output().print(f"{told.state}: {told.text}", highlight=False)
