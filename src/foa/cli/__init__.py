"""The command line. `foa COMMAND` imports that command's module and no other, so that `foa --help` is quick.

main ─► COMMANDS[word].module ─► attach(app) ─► the command ─► foa.app
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import typer

import foa
from foa.cli.failing import fail

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One command, known by its help before its module is imported."""

    module: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "ask": Entry("foa.cli.ask", "Ask the federation a question, and get an answer with its sources."),
    "up": Entry("foa.cli.up", "Run a whole federation on this machine: broker, orchestrator and agents."),
    "agent": Entry("foa.cli.agent", "Run agents from their files, any number in one process."),
    "orchestrator": Entry("foa.cli.orchestrator", "Run an orchestrator (Agent-0)."),
    "broker": Entry("foa.cli.broker", "Run the embedded MQTT v5 broker."),
    "agents": Entry("foa.cli.agents", "See who is there, and why an agent fits a question or does not."),
    "jobs": Entry("foa.cli.jobs", "See, watch and cancel what was asked."),
    "fl": Entry("foa.cli.fl", "Train a model over sites whose data never leave them."),
    "settings": Entry("foa.cli.settings", "Show every setting, its value and where that comes from."),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; whatever goes wrong is one sentence on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build(given)(args=given, prog_name="foa")
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        sys.exit(fail(error))


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application, with the one command that is asked for in full and the others by their help alone."""
    app = typer.Typer(
        help="Federation of Agents: agents find each other, plan, answer and learn together over MQTT v5.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    for name, entry in COMMANDS.items():
        if name == wanted:
            importlib.import_module(entry.module).attach(app, entry.help)
        else:
            app.command(name, help=entry.help)(_not_loaded)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"foa {foa.__version__}")
        raise typer.Exit


def _top(
    show_version: bool = typer.Option(
        False, "--version", help="Show the version and leave.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Options of `foa` itself."""


def _not_loaded() -> None:
    raise AssertionError("only the command that is asked for is run, and that one is loaded")
