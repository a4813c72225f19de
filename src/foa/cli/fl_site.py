"""`foa fl site PATH --name SITE`: one site of a federated-learning project, for any of its runs."""

from pathlib import Path
from typing import Annotated

import typer

from foa.cli import options
from foa.cli.fl_extra import extra

_Folder = Annotated[Path, typer.Argument(metavar="PATH", help="Folder with FL.toml and a Flower app.")]
_Name = Annotated[str, typer.Option(help="Which of the project's sites.")]
_Broker = Annotated[str, typer.Option(metavar="URL", help="mqtt://host:port. Default: FOA_BROKER_URL.")]
_Clients = Annotated[int | None, typer.Option(min=1, max=10_000, help="For projects that make any number; as the server's.")]


def attach(group: typer.Typer) -> None:
    """Put the commands into the group `fl`."""
    group.command("site", help="Be one site of a project over a broker.")(site)


def site(
    folder: _Folder,
    name: _Name,
    broker: _Broker = "",
    clients: _Clients = None,
    privacy: Annotated[str, typer.Option(metavar="eps=E", help="Privacy budget of this site, over all runs.")] = "",
    pairs: options.Setting = None,
) -> None:
    """Announce the site and answer every run of its project until SIGINT or SIGTERM."""
    settings = options.settings_from({}, pairs)
    extra("foa.cli.fl_site_work").serve(
        folder=folder, settings=settings, name=name, broker=broker, clients=clients, privacy=privacy
    )
