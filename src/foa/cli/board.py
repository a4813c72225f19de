"""What is known of a running job, folded from its events: pure, so that a recorded stream draws the same picture again.

board = Board()
for event in events: board = board.after(event)      ─►  foa.cli.progress.draw(board)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.result import Candidate, ClusterView, PlanView

Phase = Literal["intake", "route", "decompose", "draft", "train", "cluster", "refine", "report", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One subtask as it stands."""

    state: str = "waiting"  #: waiting · drafting · training · clustered · refining · reported · failed
    team: tuple[str, ...] = ()  #: who works on it
    drafts: Mapping[str, float] = field(default_factory=dict[str, float])  #: agent → confidence
    lost: Mapping[str, str] = field(default_factory=dict[str, str])  #: agent → why
    clusters: tuple[tuple[str, ...], ...] = ()
    round: int = 0  #: the last round anybody posted in, or that is trained
    node: str = ""  #: of that round, where it is trained
    said: Mapping[str, str] = field(default_factory=dict[str, str])  #: node → what it gave last, where it is trained
    ended: tuple[ClusterView, ...] = ()
    by: str = ""  #: whose draft stands
    confidence: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The whole job as it stands."""

    text: str = ""
    orchestrator: str = ""
    resumed: bool = False
    budget: Budget | None = None
    phase: Phase = "intake"
    began_at: float = 0.0  #: seconds since the epoch
    seen_at: float = 0.0  #: of the last event
    candidates: tuple[Candidate, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    proposals: Mapping[str, int] = field(default_factory=dict[str, int])  #: agent → subtasks it proposed
    plan: PlanView = PlanView()
    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    fallbacks: tuple[str, ...] = ()
    spent: Spend = Spend()
    status: str = ""  #: empty: running
    error: str = ""

    def after(self, event: events.AnyEvent) -> "Board":
        """The board one event later. Events may repeat or be missed; none of them makes it fail."""
        board = _fold(self, event)
        return replace(board, seen_at=max(event.at, self.seen_at), began_at=self.began_at or event.at)


def _fold(board: Board, event: events.AnyEvent) -> Board:
    match event:
        case events.Admitted():
            return replace(
                board, text=event.text, orchestrator=event.orchestrator, budget=event.budget, resumed=event.resumed
            )
        case events.CandidatesFound():
            return replace(board, phase="decompose", candidates=event.candidates, refusals=event.refusals)
        case events.Proposed():
            return replace(board, proposals={**board.proposals, event.agent: event.subtasks})
        case events.Planned():
            return _planned(board, event)
        case events.FellBack():
            return replace(board, fallbacks=_with(board.fallbacks, event.what))
        case events.Spent():
            return replace(board, spent=event.total)
        case events.Ended():
            return replace(board, phase="done", status=event.status, error=event.error)
        case _:
            return _fold_node(board, event)


def _fold_node(board: Board, event: events.AnyEvent) -> Board:
    match event:
        case events.DraftStarted():
            return _node(board, event.subtask, "draft", state="drafting", team=event.agents)
        case events.Drafted():
            known = _of(board, event.subtask).drafts
            return _node(board, event.subtask, "draft", drafts={**known, event.agent: event.confidence})
        case events.TrainStarted():
            return _node(board, event.subtask, "train", state="training", team=(event.agent,))
        case events.TrainNode():
            said = _of(board, event.subtask).said
            said = {**said, event.node: event.said} if event.state == "ended" else said
            return _node(board, event.subtask, "train", state="training", round=event.round, node=event.node, said=said)
        case events.AgentLost():
            return _node(board, event.subtask, None, lost={**_of(board, event.subtask).lost, event.agent: event.reason})
        case events.Clustered():
            return _node(board, event.subtask, "cluster", state="clustered", clusters=event.clusters)
        case events.RoundPosted():
            subtask = _subtask_of(board, event.cluster)
            later = max(event.round, _of(board, subtask).round)
            return _node(board, subtask, "refine", state="refining", round=later)
        case events.ClusterDone():
            view = event.cluster
            others = tuple(each for each in _of(board, view.subtask).ended if each.id != view.id)
            return _node(board, view.subtask, "report", ended=(*others, view))
        case events.Reported():
            return _node(
                board,
                event.subtask,
                "report",
                state="failed" if event.error else "reported",
                by=event.by,
                confidence=event.confidence,
                error=event.error,
            )
        case _:
            return board


def _planned(board: Board, event: events.Planned) -> Board:
    teams: dict[str, tuple[str, ...]] = {}
    for member in event.teams:
        teams[member.subtask] = (*teams.get(member.subtask, ()), member.agent)
    nodes = {node.id: replace(_of(board, node.id), team=teams.get(node.id, ())) for node in event.plan.nodes}
    return replace(board, phase="draft", plan=event.plan, nodes={**board.nodes, **nodes})


def _of(board: Board, subtask: str) -> Node:
    return board.nodes.get(subtask, Node())


def _node(board: Board, subtask: str, phase: Phase | None, **changes: object) -> Board:
    """Change one node. An event without a subtask is about the task as a whole and changes no node."""
    if not subtask:
        return board
    nodes = {**board.nodes, subtask: replace(_of(board, subtask), **changes)}  # type: ignore[arg-type]
    return replace(board, nodes=nodes, phase=phase or board.phase)


def _subtask_of(board: Board, cluster: str) -> str:
    """A cluster's id is `{job}.{subtask}.c{number}`."""
    parts = cluster.split(".")
    return parts[-2] if len(parts) >= 3 and parts[-2] in board.nodes else ""


def _with(known: tuple[str, ...], more: str) -> tuple[str, ...]:
    return (*known, more) if more and more not in known else known
