"""What `foa fl` does. Everything here needs the extra `fl`; the options are in `foa.cli.fl`, which does not."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import typer
from rich.text import Text

from foa.app.clock import SystemClock
from foa.app.federated import AGENTIC, Asked, run_project
from foa.app.federated_job import running_job
from foa.app.federated_lock import held_run
from foa.app.federated_sites import run_folder
from foa.app.places import journal_file
from foa.app.settings import Settings
from foa.app.stores import open_stores
from foa.cli.console import output, progress
from foa.cli.fl_lines import run_in_lines
from foa.cli.fl_report import report_of
from foa.cli.words import count, shorten
from foa.errors import BadInput, FabricError
from foa.fl.project import Project, SiteSpec
from foa.fl.rounds import RoundRow
from foa.fl.story import epsilons, tell_story
from foa.fl.training import Trained
from foa.ports import Model

try:
    from foa.app.models import open_model
except ImportError:  # the extra `local` is not there: the rule decides
    open_model = None


def train(
    *,
    folder: Path,
    settings: Settings,
    clients: int | None,
    rounds: int | None,
    selector: str,
    privacy: str,
    name: str,
    report: Path | None,
    broker: str,
    wait: float,
    no_model: bool,
    policies: Sequence[str],
    lines: bool,
    as_json: bool,
) -> None:
    """Train to the end, and write the report.

    Raises:
        Exit: in lines, where it failed: the last line says why.
    """
    asked = Asked(
        folder=folder,
        run=name or _fresh_name(folder),
        clients=clients,
        rounds=rounds,
        selector=selector,
        epsilon=epsilon_of(privacy),
        broker=broker,
        wait_seconds=wait,
        policies=tuple(policies),
    )
    wants_model = selector == AGENTIC and not no_model
    if lines:
        if code := asyncio.run(_in_lines(asked, settings, report, wants_model=wants_model)):
            raise typer.Exit(code)
        return
    trained, where = asyncio.run(_run(asked, settings, report, wants_model=wants_model))
    if as_json:
        print(json.dumps({"run": asked.run, "report": str(where), "rounds": msgspec.to_builtins(trained.state.rows)}))
    else:
        _conclude(trained, where)


async def _in_lines(asked: Asked, settings: Settings, report: Path | None, *, wants_model: bool) -> int:
    async with _model(settings, wanted=wants_model) as model:
        return await run_in_lines(asked, settings, model, report=report)


async def _run(asked: Asked, settings: Settings, report: Path | None, *, wants_model: bool) -> tuple[Trained, Path]:
    """Train as a job of this machine's journal, which shows it while it runs."""
    clock = SystemClock()
    what = asked.folder.resolve().name
    async with (
        held_run(run_folder(settings, asked.run)),
        _model(settings, wanted=wants_model) as model,
        open_stores(journal_file(settings), clock) as stores,
        running_job(stores.journal, asked.run, f"train {what} by federated learning", clock) as job,
    ):
        trained = await run_project(asked, settings, clock, model, on_start=_begin(asked), on_round=_tell, on_node=job.tell)
        where = report_of(asked, settings, trained, report)
        job.story(tell_story(what, trained.state.rows, report=where), trained.state.rows)
        return trained, where


@asynccontextmanager
async def _model(settings: Settings, *, wanted: bool) -> AsyncGenerator[Model | None]:
    """The model that decides; None: the rule does, and why is said."""
    async with AsyncExitStack() as stack:
        model: Model | None = None
        if wanted and open_model is None:
            why = "no model is installed (`pip install 'foa[local]'`), the rule decides every round"
            progress().print(Text(why, style="yellow"))
        elif wanted and open_model is not None:
            try:
                model = await stack.enter_async_context(open_model(settings))
            except FabricError as error:
                progress().print(Text(f"no model, the rule decides every round: {error}", style="yellow"))
        yield model


def _begin(asked: Asked) -> Callable[[Project, Sequence[SiteSpec]], None]:
    def tell(project: Project, sites: Sequence[SiteSpec]) -> None:
        sizes = f"{count(len(sites), 'site')}, {count(project.rounds, 'round')}"
        progress().print(f"run {asked.run}: {sizes}, {asked.selector}", markup=False)

    return tell


def _tell(row: RoundRow) -> None:
    for line in told_round(row):
        progress().print(line)


def told_round(row: RoundRow) -> Iterator[Text]:
    """A round in a line, and a line for each site that did not train; no reason in them steers the terminal."""
    kinds = [client.kind for client in row.clients]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("trained", "refused", "lost", "screened") if kind in kinds)
    parts = [f"round {row.round:3}", f"{row.plan.selector} k={row.plan.k}", told or "nobody trained"]
    if row.accuracy is not None and row.worst10 is not None:
        parts.append(f"accuracy {row.accuracy:.3f}, worst tenth {row.worst10:.3f}")
    if not row.taken:
        parts.append("not taken")
    who = row.model if row.model and row.verdict != "fallback" else "rule"
    yield Text(" · ".join(parts)).append(f"  ({who}: {shorten(row.plan.reason, 80)})", style="dim")
    for client in row.clients:
        if client.kind in ("refused", "screened"):
            yield Text(f"          {client.client} {client.kind}: {shorten(client.reason, 120)}", style="yellow")


def epsilon_of(text: str) -> float | None:
    """The ε of `--privacy eps=E`; None where nothing was given.

    Raises:
        BadInput: it is written otherwise.
    """
    if not text:
        return None
    key, _, value = text.partition("=")
    try:
        if key != "eps":
            raise ValueError
        return float(value)
    except ValueError:
        raise BadInput(f"--privacy {text}: write --privacy eps=4") from None


def _fresh_name(folder: Path) -> str:
    stem = "".join(letter if letter.isalnum() else "-" for letter in folder.resolve().name)[:40].strip("-") or "run"
    return f"{stem}-{int(SystemClock().now())}"


def _conclude(trained: Trained, where: Path) -> None:
    last = trained.state.rows[-1]
    if last.accuracy is not None and last.worst10 is not None:
        output().print(f"accuracy {last.accuracy:.4f}, worst tenth of clients {last.worst10:.4f}")
    for site, (spent, budget) in sorted(epsilons(trained.state.rows).items())[:20]:
        output().print(f"{site}: ε at most {spent:g} of {budget:g}")
    output().print(f"report: {where}", markup=False, soft_wrap=True)
