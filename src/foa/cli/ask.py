"""`foa ask`: a question in, an answer with its sources out.

no --broker                     own broker, orchestrator and agents, for this one question
--broker URL                    only ask: whoever serves there answers
--broker URL --federation F     own orchestrator and agents, on that broker
"""

import asyncio
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from foa.app.federation_file import FederationFile, find_federation
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.answer import draw_result
from foa.cli.console import output
from foa.cli.failing import say
from foa.cli.given import make_task, read_question, read_transcript
from foa.values.result import Result
from foa.values.task import Submission, Task

DEFAULT_FEDERATION = "repository"
Synth = Literal["concatenate", "rebase", "merge"]


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("ask", help=summary)(ask)


def ask(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Chat transcript, JSON messages; its last turn is asked.")
    ] = None,
    over: options.Over = None,
    federation: options.Federation = "",
    broker: options.Broker = "",
    kind: Annotated[str, typer.Option(metavar="NAME", help="Kind of work; reputation is kept for each.")] = "general",
    skill: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A skill every agent must have; may be repeated.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="A label every agent must be cleared for.")
    ] = None,
    synth: Annotated[Synth | None, typer.Option(help="How reports become one answer.")] = None,
    budget_usd: Annotated[float | None, typer.Option(metavar="USD", help="Most money.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(metavar="N", help="Most model tokens.")] = None,
    budget_calls: Annotated[int | None, typer.Option(metavar="N", help="Most model calls.")] = None,
    budget_seconds: Annotated[float | None, typer.Option(metavar="S", help="Most time.")] = None,
    pairs: options.Setting = None,
    as_json: options.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Run the command."""
    task = make_task(
        read_question(words or []),
        read_transcript(file) if file else (),
        kind=kind,
        skills=skill or (),
        policies=policy or (),
    )
    given = {
        "FOA_BROKER_URL": broker,
        "FOA_BUDGET_USD": budget_usd,
        "FOA_BUDGET_TOKENS": budget_tokens,
        "FOA_BUDGET_CALLS": budget_calls,
        "FOA_BUDGET_SECONDS": budget_seconds,
    }
    asked = prepare(task, given, pairs, federation=federation, over=over, synth=synth)
    # what serves is loaded only now: a wrong option is told at once
    answer = importlib.import_module("foa.cli.asking").answer
    result: Result = asyncio.run(answer(*asked, shown=not (quiet or as_json)))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    else:
        output().print(draw_result(result))
    if result.exit_code:
        say(result.error or f"the job ended {result.status}")
        raise typer.Exit(result.exit_code)


def prepare(
    task: Task,
    given: Mapping[str, object | None],
    pairs: list[str] | None,
    *,
    federation: str,
    over: Path | None,
    synth: Synth | None,
) -> tuple[Submission, Settings, FederationFile | None, Path | None]:
    """Put task, settings, federation and folder together; no federation: others serve."""
    alone = options.settings_from(given, pairs)
    file = None if alone.broker_url and not federation else find_federation(federation or DEFAULT_FEDERATION)
    settings = options.settings_from(given, pairs, file) if file else alone
    submission = Submission(task=task, budget=settings.budget, synth=synth)
    return submission, settings, file, options.folder(over, file)
