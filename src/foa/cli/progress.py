"""Draws a job: a live picture for a terminal, one line an event for everything else. Pure functions of what is known.

plan and progress                                          12.4 s
├─ s1 Find where teams are assigned   ✔ code-reader 0.82   2 rounds, 3 of 3 heard
└─ s2 Explain the score (after s1)    … refining, round 1   code-reader docs-reader
$0.0021 of $1.00 · 5,120 tokens · 14 calls
"""

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from foa.cli.board import Board, Node
from foa.cli.words import clean, count, money, seconds, shorten
from foa.values import events
from foa.values.result import PlanNode

_MARKS: Mapping[str, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "drafting": ("…", "cyan"),
    "training": ("…", "cyan"),
    "clustered": ("…", "cyan"),
    "refining": ("…", "cyan"),
    "reported": ("✔", "green"),
    "failed": ("✘", "red"),
}
_PHASES = ("route", "decompose", "draft", "cluster", "refine", "report", "synthesise")
_SHOWN_PHASE = {"intake": "route", "train": "draft", "done": "synthesise"}


def draw(board: Board, *, now: float) -> RenderableType:
    """The job as it stands.

    Args:
        board: what its events said.
        now: seconds since the epoch, for the time it has been running.
    """
    parts: list[RenderableType] = [_phases(board, now), *_agents(board)]
    if board.plan.nodes:
        parts.append(_plan(board))
    parts.extend(Text(f"! {clean(what)}", style="yellow", overflow="fold") for what in board.fallbacks[-4:])
    parts.append(Text(bill_line(board), style="dim"))
    return Group(*parts)


def bill_line(board: Board) -> str:
    """Money, tokens and calls so far, against the budget."""
    spent, budget = board.spent, board.budget
    of = f" of {money(budget.usd)}" if budget else ""
    return f"{money(spent.usd)}{of} · {count(spent.tokens, 'token')} · {count(spent.calls, 'call')}"


def _phases(board: Board, now: float) -> RenderableType:
    current = _SHOWN_PHASE.get(board.phase, board.phase)
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    words = Text(" › ").join(
        Text(phase, style="bold cyan" if phase == current and not board.status else "dim") for phase in _PHASES
    )
    ran = max(0.0, (board.seen_at if board.status else now) - board.began_at) if board.began_at else 0.0
    line.add_row(words, seconds(ran))
    return line


def _agents(board: Board) -> Iterator[RenderableType]:
    if board.candidates:
        able = "  ".join(f"{each.agent} {each.score:.2f}" for each in board.candidates[:6])
        refused = f"   ({count(len(board.refusals), 'agent')} refused)" if board.refusals else ""
        yield Text(f"able: {able}{refused}", style="dim", overflow="ellipsis", no_wrap=True)
    if board.proposals and not board.plan.nodes:
        shown = "  ".join(f"{agent} ({count(number, 'subtask')})" for agent, number in board.proposals.items())
        yield Text(f"proposed: {shown}", style="dim")


def _plan(board: Board) -> Tree:
    tree = Tree(Text(f"plan: {count(len(board.plan.nodes), 'subtask')}", style="bold"), guide_style="dim")
    for node in board.plan.nodes:
        tree.add(_node(board, node))
    return tree


def _node(board: Board, node: PlanNode) -> RenderableType:
    state = board.nodes.get(node.id, Node())
    mark, style = _MARKS[state.state]
    before = [edge.before for edge in board.plan.edges if edge.after == node.id]
    after = f" [dim](after {escape(', '.join(before))})[/]" if before else ""
    first = Text.from_markup(f"[{style}]{mark}[/] [bold]{escape(node.id)}[/] {escape(shorten(node.text))}{after}")
    return Group(first, Text(f"  {describe(state)}", style="dim", overflow="fold"))


def describe(node: Node) -> str:
    """One node's state in a line."""
    return clean(_described(node), newlines=False)


def _described(node: Node) -> str:
    lost = f"; lost: {', '.join(node.lost)}" if node.lost else ""
    match node.state:
        case "reported":
            rounds = sum(view.rounds for view in node.ended)
            held = f" after {count(rounds, 'round')}" if rounds else ""
            return f"{node.by or '?'}, confidence {node.confidence:.2f}{held}{lost}"
        case "failed":
            return f"no answer: {node.error}{lost}"
        case "training":
            told = "; ".join(node.said[name] for name in ("train", "evaluate") if node.said.get(name))
            where = f", round {node.round}: {node.node}" if node.round else ""
            return f"training by {', '.join(node.team) or '?'}{where}{f'; last: {told}' if told else ''}{lost}"
        case "refining":
            return f"refining, round {node.round}: {', '.join(node.drafts)}{lost}"
        case "clustered":
            groups = " | ".join(" ".join(members) for members in node.clusters)
            return f"{count(len(node.clusters), 'cluster')}: {groups}{lost}"
        case "drafting":
            here = len(node.drafts)
            return f"{here} of {count(len(node.team), 'draft')}: {', '.join(node.team)}{lost}"
        case _:
            return f"waiting: {', '.join(node.team) or 'no team yet'}{lost}"


def line(event: events.AnyEvent) -> str:
    """One event as one line of text, for a log; empty: not worth a line."""
    return clean(_early_line(event), newlines=False)


def _early_line(event: events.AnyEvent) -> str:
    match event:
        case events.Admitted():
            again = ", taken up again" if event.resumed else ""
            return f"admitted by {event.orchestrator}{again}: {shorten(event.text)}"
        case events.CandidatesFound():
            able = ", ".join(f"{each.agent} {each.score:.2f}" for each in event.candidates) or "nobody"
            fit = "" if event.fit is None else f", fit {event.fit:.0%}"
            return f"able: {able}{fit}; {len(event.refusals)} refused"
        case events.Proposed():
            rule = " (by rule)" if event.fallback else ""
            return f"{event.agent} proposed {count(event.subtasks, 'subtask')}{rule}"
        case events.Planned():
            return f"plan: {count(len(event.plan.nodes), 'subtask')}, {count(len(event.plan.edges), 'edge')}"
        case events.DraftStarted():
            return f"{event.subtask}: drafting by {', '.join(event.agents)}"
        case events.Drafted():
            rule = " (by rule)" if event.fallback else ""
            return f"{event.subtask}: {event.agent} drafted, confidence {event.confidence:.2f}{rule}"
        case _:
            return _later_line(event)


def _later_line(event: events.AnyEvent) -> str:
    match event:
        case events.TrainStarted():
            return f"{event.subtask}: {event.agent} trains"
        case events.TrainNode():
            said = f": {event.said}" if event.said else ""
            return f"{event.subtask}: round {event.round} {event.node}{said}" if event.state == "ended" else ""
        case events.AgentLost():
            return f"{event.subtask or 'task'}: lost {event.agent}: {event.reason}"
        case events.Clustered():
            return f"{event.subtask}: clusters {' | '.join(' '.join(members) for members in event.clusters)}"
        case events.ClusterDone():
            view = event.cluster
            end = "consensus" if view.consensus else "no consensus"
            who = f"{view.representative} speaks for {len(view.members)}"
            return f"{view.subtask}: {end} after {count(view.rounds, 'round')}, {who}"
        case events.Reported():
            return f"{event.subtask}: " + (f"no answer: {event.error}" if event.error else f"reported by {event.by}")
        case events.FellBack():
            return f"fallback: {event.what}"
        case events.Ended():
            return event.status
        case _:
            return ""
