"""A result as people read it: the answer, where it can be checked, who did what, and the bill. Pure."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foa.cli.words import clean, count, money, seconds, shorten
from foa.values.draft import Source
from foa.values.result import PlanNode, Refusal, Result

MAX_SOURCES = 20  #: shown; `--json` has them all
MAX_REFUSALS = 8
MAX_ROUNDS = 8  #: of trainings
MAX_FALLBACKS = 8


def draw_result(result: Result) -> RenderableType:
    """Everything about a job that ended, for a terminal."""
    return Group(*_parts(result))


def _parts(result: Result) -> Iterator[RenderableType]:
    if result.answer:
        yield Text(clean(result.answer).strip() + "\n")
    if result.sources:
        yield Text("Sources", style="bold")
        yield from _sources(result.sources)
        yield Text()
    if result.plan.nodes:
        yield Text("Who did what", style="bold")
        yield _work(result)
        yield Text()
    yield from _rounds(result)
    yield from _losses(result)
    yield Text(summary(result), style="dim")


def _sources(sources: Sequence[Source]) -> Iterator[RenderableType]:
    for number, source in enumerate(sources[:MAX_SOURCES], start=1):
        quote = f"  {shorten(source.quote, 100)}" if source.quote else ""
        yield Text.assemble((f"{number:>3} ", "dim"), clean(source.locator, newlines=False), (quote, "dim"), overflow="fold")
    if len(sources) > MAX_SOURCES:
        yield Text(f"    and {len(sources) - MAX_SOURCES} more (--json shows them all)", style="dim")


def _work(result: Result) -> Table:
    reports = {report.subtask: report for report in result.reports}
    table = Table(box=None, pad_edge=True, show_header=True, header_style="dim")
    for column in ("", "subtask", "answered by", "with", "confidence"):
        table.add_column(column, overflow="fold")
    for node in subtasks_of(result):
        report = reports.get(node.id)
        if report is None or report.error:
            why = report.error if report else "not reached"
            table.add_row(node.id, shorten(node.text), Text(shorten(why, 200), style="red"), "", "")
            continue
        others = [agent for agent in report.agents if agent != report.by]
        table.add_row(node.id, shorten(node.text), clean(report.by), clean(", ".join(others)), f"{report.confidence:.2f}")
    return table


def subtasks_of(result: Result) -> Sequence[PlanNode]:
    """The nodes of the plan without the rounds of its trainings."""
    return [node for node in result.plan.nodes if "/" not in node.id]


def _rounds(result: Result) -> Iterator[RenderableType]:
    """What the rounds of trainings came to, the last ones."""
    told = [node for node in result.plan.nodes if node.id.endswith("/evaluate")]
    if not told:
        return
    yield Text("Rounds", style="bold")
    if len(told) > MAX_ROUNDS:
        yield Text(f"    {count(len(told) - MAX_ROUNDS, 'round')} before", style="dim")
    for node in told[-MAX_ROUNDS:]:
        name = node.id.removesuffix("/evaluate").replace("/", " ")
        yield Text.assemble((f" {name}  ", "dim"), shorten(node.text))
    yield Text()


def _losses(result: Result) -> Iterator[RenderableType]:
    for agent, why in result.lost.items():
        yield Text(f"lost {clean(agent)}: {shorten(why, 200)}", style="yellow")
    for what in result.fallbacks[:MAX_FALLBACKS]:
        yield Text(f"fallback: {shorten(what, 300)}", style="yellow")
    if len(result.fallbacks) > MAX_FALLBACKS:
        yield Text(f"and {count(len(result.fallbacks) - MAX_FALLBACKS, 'fallback')} more", style="yellow")
    if result.status != "done":
        yield from _refusals(result.refusals)


def _refusals(refusals: Sequence[Refusal]) -> Iterator[RenderableType]:
    for refusal in refusals[:MAX_REFUSALS]:
        about = f" for {refusal.subtask}" if refusal.subtask else ""
        yield Text(f"refused{clean(about)}: {clean(refusal.agent)}: {shorten(refusal.reason, 200)}", style="yellow")


def summary(result: Result) -> str:
    """The bill and the job's shape in one line."""
    bill = result.bill
    parts = [
        f"{result.status} in {seconds(bill.seconds)}",
        money(bill.usd),
        count(bill.tokens, "token"),
        count(bill.calls, "model call"),
        count(len(subtasks_of(result)), "subtask"),
        count(len(result.clusters), "cluster"),
        count(result.rounds, "round"),
        result.job_id,
    ]
    return " · ".join(parts)
