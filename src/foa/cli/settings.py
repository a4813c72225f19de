"""`foa settings`: every setting, its value, and where that comes from."""

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foa.app.federation_file import find_federation
from foa.app.settings import Known, Settings, known_settings
from foa.app.settings_reference import meaning
from foa.cli.options import Federation, Setting, settings_from


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("settings", help=summary)(settings)


def settings(federation: Federation = "", pairs: Setting = None) -> None:
    """Print the table."""
    found = settings_from({}, pairs, find_federation(federation) if federation else None)
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for known in known_settings().values():
        origin = found.origins.get(known.name, "")
        table.add_row(
            Text(known.name, style="bold" if origin else ""),
            Text(value_of(found, known)),
            Text(origin or "default", style="" if origin else "dim"),
            Text(meaning(known), style="dim"),
        )
    Console().print(table)


def value_of(found: Settings, known: Known) -> str:
    """A setting's value as it may be shown."""
    value = getattr(found if known.owner is Settings else found.parameters, known.field)
    if known.secret:
        return "(set)" if value else "(not set)"
    return str(value) if value != "" else "(empty)"
