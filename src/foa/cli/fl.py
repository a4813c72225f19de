"""`foa fl run PATH`: train a federated-learning project; a row a round, and a report with plots at the end."""

from pathlib import Path
from typing import Annotated

import typer

from foa.cli import fl_serve, fl_site, fl_want, options
from foa.cli.fl_extra import extra

_Folder = Annotated[Path, typer.Argument(metavar="PATH", help="Folder with FL.toml and a Flower app.")]


def attach(app: typer.Typer, summary: str) -> None:
    """Put the commands into the application."""
    group = typer.Typer(help=summary, no_args_is_help=True)
    group.callback()(_top)
    group.command("run", help="Train a project and write its report.")(run)
    fl_site.attach(group)
    fl_serve.attach(group)
    fl_want.attach(group)
    app.add_typer(group, name="fl")


def _top() -> None:
    """Federated learning: agents decide who trains, guardians what they give."""


def run(
    folder: _Folder,
    clients: Annotated[int | None, typer.Option(min=1, max=10_000, help="For projects that make any number.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=100_000, help="Default: the project's.")] = None,
    selector: Annotated[str, typer.Option(help="agentic, or one rule for all rounds.")] = "agentic",
    privacy: Annotated[str, typer.Option(metavar="eps=E", help="Privacy budget of each site.")] = "",
    name: Annotated[str, typer.Option(help="Name of the run; the same name goes on where it ended.")] = "",
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the report goes.")] = None,
    broker: Annotated[str, typer.Option(metavar="URL", help="Where `foa fl site` are. Default: all in this process.")] = "",
    wait: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds that sites are waited for.")] = 60.0,
    no_model: Annotated[bool, typer.Option("--no-model", help="Let the rule decide every round.")] = False,
    policy: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="A label every site must be cleared for; may be repeated.")
    ] = None,
    pairs: options.Setting = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Print a JSON line for each node of a round; ends with a piped stdin.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Train to the end."""
    extra("foa.cli.fl_work").train(
        folder=folder,
        settings=options.settings_from({}, pairs),
        clients=clients,
        rounds=rounds,
        selector=selector,
        privacy=privacy,
        name=name,
        report=report,
        broker=broker,
        wait=wait,
        no_model=no_model,
        policies=policy or (),
        lines=lines,
        as_json=as_json,
    )
