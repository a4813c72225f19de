"""Options that several commands have, each written once, and how they become settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from foa.app.federation_file import FederationFile
from foa.app.logs import configure_logs
from foa.app.settings import Settings, read_settings
from foa.errors import BadInput

BROKER_HELP = "Broker, mqtt://host:port. Default: FOA_BROKER_URL, else an embedded one."
Broker = Annotated[str, typer.Option("--broker", metavar="URL", help=BROKER_HELP)]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting for this run, e.g. FOE_TEAM_SIZE=2; may be repeated."),
]
Over = Annotated[
    Path | None, typer.Option("--over", metavar="DIR", help="Folder the agents look at. Default: the current one.")
]
Federation = Annotated[
    str,
    typer.Option("--federation", "-f", metavar="FILE", help="FEDERATION.toml, or `repository` or `clinic`."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def settings_from(
    given: Mapping[str, object | None], pairs: Sequence[str] | None, federation: FederationFile | None = None
) -> Settings:
    """Settings with what the command line gave put first; logs are written as they say from here on.

    Args:
        given: setting → value; None and "" are "not given".
        pairs: the `--set NAME=VALUE` options; they go before `given`.
        federation: whose settings go last.

    Raises:
        BadInput: a pair is no pair, or as `read_settings`.
    """
    overrides = {name: value for name, value in given.items() if value not in (None, "")}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"--set {pair}: write --set NAME=VALUE, e.g. --set FOE_TEAM_SIZE=2")
        overrides[name.strip()] = value.strip()
    settings = read_settings(overrides=overrides, federation=federation.file if federation else None)
    configure_logs(settings.log)
    return settings


def folder(over: Path | None, federation: FederationFile | None) -> Path | None:
    """The folder the agents look at, absolute; None: the federation looks at none.

    Raises:
        BadInput: it is not a folder.
    """
    wanted = over or (Path(federation.over) if federation and federation.over else None)
    if wanted is None:
        return None
    path = wanted.expanduser().resolve()
    if not path.is_dir():
        raise BadInput(f"{wanted} is not a folder: name one with --over DIR")
    return path
