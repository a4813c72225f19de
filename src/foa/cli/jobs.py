"""`foa jobs list | show ID | watch ID | cancel ID`: what was asked on this machine, from the journal."""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from foa.app.alive import close_abandoned
from foa.app.client import Client
from foa.app.clock import SystemClock
from foa.app.fabric import open_fabric
from foa.app.federated_lock import end_run
from foa.app.places import journal_file
from foa.app.settings import Settings
from foa.app.stores import open_stores
from foa.cli import options
from foa.cli.answer import draw_result
from foa.cli.console import output, progress
from foa.cli.failing import say
from foa.cli.follow import show as show_events
from foa.cli.words import seconds, shorten
from foa.errors import BadInput
from foa.ports import Clock, JobRow, Journal
from foa.values.events import AnyEvent
from foa.values.ids import RUN_PREFIX, JobId
from foa.values.result import Result
from foa.values.topics import Topics

LOOK_SECONDS = 0.25  #: how often a running job is looked at in the journal

_Status = Literal["running", "done", "partial", "failed", "cancelled"]
_Id = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or the first characters of it.")]


def attach(app: typer.Typer, summary: str) -> None:
    """Put the commands into the application."""
    group = typer.Typer(help=summary, no_args_is_help=True)
    group.command("list", help="Jobs, newest first.")(list_jobs)
    group.command("show", help="The result of a job, or where it stands.")(show)
    group.command("watch", help="Follow a running job to its end.")(watch)
    group.command("cancel", help="Ask for the end of a running job.")(cancel)
    app.add_typer(group, name="jobs")


def list_jobs(
    status: Annotated[_Status | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    pairs: options.Setting = None,
    as_json: options.Json = False,
) -> None:
    """Print them."""

    async def run() -> None:
        async with _journal(options.settings_from({}, pairs)) as journal:
            rows = await journal.jobs(status=status, limit=limit)
        if as_json:
            _write([_facts(row) for row in rows])
        else:
            output().print(_table(rows))

    asyncio.run(run())


def show(job: _Id, pairs: options.Setting = None, as_json: options.Json = False) -> None:
    """Print one of them."""

    async def run() -> None:
        async with _journal(options.settings_from({}, pairs)) as journal:
            row = await _row(journal, job)
            if row.result is None:
                await _follow(journal, row.job, until_end=False)
                return
            result = msgspec.json.decode(row.result, type=Result)
            _show(result, as_json=as_json)

    asyncio.run(run())


def watch(job: _Id, pairs: options.Setting = None, as_json: options.Json = False) -> None:
    """Follow one of them."""

    async def run() -> Result:
        async with _journal(options.settings_from({}, pairs)) as journal:
            row = await _row(journal, job)
            await _follow(journal, row.job, until_end=True)
            (row,) = await journal.jobs(job=row.job)
            return msgspec.json.decode(row.result or b"", type=Result)

    result = asyncio.run(run())
    _show(result, as_json=as_json)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def cancel(
    job: _Id,
    reason: Annotated[str, typer.Option(help="Told to those who wait for it.")] = "",
    broker: options.Broker = "",
    pairs: options.Setting = None,
) -> None:
    """Cancel one of them."""
    settings = options.settings_from({"FOA_BROKER_URL": broker}, pairs)
    if job.startswith(RUN_PREFIX):
        say(asyncio.run(_end_run(settings, job)))
        return
    if not settings.broker_url:
        raise BadInput(
            "name the broker where it runs: --broker mqtt://127.0.0.1:1883; a `foa ask` with a broker of its own is "
            "cancelled by Ctrl-C in its terminal"
        )

    async def run() -> str:
        async with _journal(settings) as journal:
            row = await _row(journal, job)
            if row.ended_at is not None:
                return f"job {row.job} has ended already: {row.status}"
            await _cancel(settings, row.job, reason)
            return f"job {row.job} was asked to end"

    say(asyncio.run(run()))


async def _end_run(settings: Settings, job: str) -> str:
    """End a `foa fl run` of this machine."""
    async with _journal(settings) as journal:
        row = await _row(journal, job)
    if row.ended_at is not None:
        return f"job {row.job} has ended already: {row.status}"
    if not end_run(settings, row.job):
        raise BadInput(f"no process of this machine trains {row.job}: `foa fl run … --name` goes on with it")
    return f"job {row.job} was asked to end"


async def _cancel(settings: Settings, job: JobId, reason: str) -> None:
    async with (
        open_fabric(settings) as fabric,
        fabric.connect(f"cancel-{secrets.token_hex(4)}") as transport,
        Client(transport, Topics(settings.root)) as client,
    ):
        await client.cancel(job, reason=reason)


async def _row(journal: Journal, given: str) -> JobRow:
    """The job of that id, or the only one that begins so."""
    exact = await journal.jobs(job=JobId(given))
    if exact:
        return exact[0]
    begun = [row for row in await journal.jobs(limit=10_000) if row.job.startswith((given, f"job-{given}"))]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise BadInput(f"{len(begun)} jobs begin with {given}: give more of the id")
    raise BadInput(f"there is no job {given} in the journal of this machine: `foa jobs list` shows what there is")


async def _follow(journal: Journal, job: JobId, *, until_end: bool) -> None:
    clock = SystemClock()
    await show_events(_events(journal, job, clock, until_end=until_end), clock=clock, console=progress())


async def _events(journal: Journal, job: JobId, clock: Clock, *, until_end: bool) -> AsyncIterator[AnyEvent]:
    """Events out of the journal, the one truth: it needs no broker and misses none."""
    after = 0
    while True:
        ended = (await journal.jobs(job=job))[0].ended_at is not None
        for number, raw in await journal.events(job, after=after):
            after = number
            yield msgspec.json.decode(raw, type=AnyEvent)
        if ended or not until_end:
            return
        await clock.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _journal(settings: Settings) -> AsyncGenerator[Journal]:
    clock = SystemClock()
    async with open_stores(journal_file(settings), clock) as stores:
        await close_abandoned(stores.journal, settings.state_dir, now=clock.now())
        yield stores.journal


def _table(rows: Sequence[JobRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("job", "when", "took", "status", "task"):
        table.add_column(column, overflow="fold", no_wrap=column != "task")
    for row in rows:
        took = seconds(row.ended_at - row.created_at) if row.ended_at else ""
        when = datetime.fromtimestamp(row.created_at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(row.job, when, took, Text(row.status, style=_STYLES.get(row.status, "")), shorten(row.text))
    return table


_STYLES = {"done": "green", "partial": "yellow", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def _facts(row: JobRow) -> dict[str, object]:
    return {
        "job_id": row.job,
        "status": row.status,
        "task": row.text,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        _write(result)
    else:
        output().print(draw_result(result))
        if result.error:
            say(result.error)


def _write(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
