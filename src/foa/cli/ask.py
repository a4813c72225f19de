"""`foa ask`: a question in, an answer with its sources out.

no --broker                     own broker, orchestrator and agents, for this one question
--broker URL                    only ask: whoever serves there answers
--broker URL --federation F     own orchestrator and agents, on that broker
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from foa.app.client import Client
from foa.app.clock import SystemClock
from foa.app.fabric import open_fabric
from foa.app.federation import Federation
from foa.app.federation_file import FederationFile, find_federation
from foa.app.services import one_error
from foa.app.serving import journal_file
from foa.app.settings import Settings
from foa.cli import options
from foa.cli.answer import draw_result
from foa.cli.console import output, progress
from foa.cli.failing import say
from foa.cli.follow import follow
from foa.cli.given import make_task, read_question, read_transcript
from foa.values.result import Result
from foa.values.task import Submission, Task
from foa.values.topics import Topics

DEFAULT_FEDERATION = "repository"
Synth = Literal["concatenate", "rebase", "merge"]


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("ask", help=summary)(ask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Everything that one run of the command is about."""

    submission: Submission
    settings: Settings
    federation: FederationFile | None  #: None: others serve
    over: Path | None
    shown: bool  #: whether progress is shown


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
    asked = prepare(task, given, pairs, federation=federation, over=over, synth=synth, shown=not (quiet or as_json))
    result = asyncio.run(answer(asked))
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
    shown: bool,
) -> Asked:
    """Put settings, federation and folder together."""
    alone = options.settings_from(given, pairs)
    file = None if alone.broker_url and not federation else find_federation(federation or DEFAULT_FEDERATION)
    settings = options.settings_from(given, pairs, file) if file else alone
    return Asked(
        submission=Submission(task=task, budget=settings.budget, synth=synth),
        settings=settings,
        federation=file,
        over=options.folder(over, file),
        shown=shown,
    )


async def answer(asked: Asked) -> Result:
    """Submit, show, wait.

    Raises:
        FabricError: there is no result: no broker, nobody took the job, the fabric was lost.
    """
    async with one_error(), client_of(asked) as client:
        handle = await client.submit(asked.submission)
        return await follow(
            handle,
            cancel=lambda: client.cancel(handle.id, reason="interrupted by its user"),
            clock=SystemClock(),
            console=progress() if asked.shown else None,
        )


@asynccontextmanager
async def client_of(asked: Asked) -> AsyncGenerator[Client]:
    """A client of whoever serves: of a federation of our own, or of those at the broker."""
    async with AsyncExitStack() as stack:
        if asked.federation is not None:
            started = Federation.start(
                asked.settings,
                agents=asked.federation.agents,
                over=asked.over,
                state=journal_file(asked.settings),
            )
            yield (await stack.enter_async_context(started)).client
            return
        fabric = await stack.enter_async_context(open_fabric(asked.settings))
        transport = await stack.enter_async_context(fabric.connect(f"ask-{secrets.token_hex(4)}"))
        yield await stack.enter_async_context(Client(transport, Topics(asked.settings.root)))
