"""The picture of a job is a function of its events, whatever order, gaps or repeats they come with."""

import io
import itertools

import pytest
from rich.console import Console

from foa.cli.board import Board
from foa.cli.progress import draw, line
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.result import Candidate, ClusterView, Factors, PlanEdge, PlanNode, PlanView, TeamMember

FACTORS = Factors(similarity=0.8, policy=1.0, resources=1.0, spec=0.9)


def member(subtask: str, agent: str) -> TeamMember:
    return TeamMember(subtask=subtask, agent=agent, score=0.7, factors=FACTORS)


PLAN = PlanView(
    nodes=(
        PlanNode(id="s1", text="Find where teams are assigned", proposers=("code-reader",)),
        PlanNode(id="s2", text="Explain the score", proposers=("docs-reader",)),
    ),
    edges=(PlanEdge(before="s1", after="s2", weight=1.0, proposers=("code-reader",)),),
)
VIEW = ClusterView(
    id="job-1.s1.c1",
    subtask="s1",
    members=("code-reader", "docs-reader"),
    rounds=2,
    consensus=True,
    representative="code-reader",
)
STORY = [
    events.Admitted(at=100.0, orchestrator="o1", text="How?", budget=Budget(usd=1.0, tokens=9_000, calls=20, seconds=60.0)),
    events.CandidatesFound(
        at=100.1,
        candidates=(Candidate(agent="code-reader", score=0.61, factors=FACTORS),),
        refusals={"other": "lacks the skill"},
    ),
    events.Proposed(at=101.0, agent="code-reader", subtasks=2),
    events.Proposed(at=101.2, agent="docs-reader", subtasks=3, fallback="the model's reply stayed unusable"),
    events.Planned(
        at=102.0, plan=PLAN, teams=(member("s1", "code-reader"), member("s1", "docs-reader"), member("s2", "docs-reader"))
    ),
    events.DraftStarted(at=102.1, subtask="s1", agents=("code-reader", "docs-reader")),
    events.Drafted(at=104.0, subtask="s1", agent="code-reader", confidence=0.8, spend=Spend(calls=1)),
    events.AgentLost(at=104.5, subtask="s1", agent="git-historian", reason="silent for 20 s"),
    events.Drafted(at=105.0, subtask="s1", agent="docs-reader", confidence=0.6, spend=Spend(calls=1)),
    events.Clustered(at=105.1, subtask="s1", clusters=(("code-reader", "docs-reader"),)),
    events.RoundPosted(at=106.0, cluster="job-1.s1.c1", agent="code-reader", round=1, stop=False),
    events.RoundPosted(at=106.1, cluster="job-1.s1.c1", agent="docs-reader", round=2, stop=True),
    events.ClusterDone(at=107.0, cluster=VIEW),
    events.Reported(at=107.1, subtask="s1", by="code-reader", confidence=0.82),
    events.Spent(at=107.2, total=Spend(usd=0.0021, tokens_in=5_000, tokens_out=120, calls=14)),
    events.Reported(at=108.0, subtask="s2", by="", confidence=0.0, error="every agent that was asked was lost"),
    events.FellBack(at=108.1, what="s2 goes to another team"),
    events.Ended(at=109.0, status="partial", error="1 of 2 subtasks has no answer"),
]


def after(number: int) -> Board:
    board = Board()
    for event in STORY[:number]:
        board = board.after(event)
    return board


def text(board: Board, *, now: float = 112.4, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    console.print(draw(board, now=now))
    return console.file.getvalue()


def test_the_first_picture_says_how_long_it_has_been_running():
    assert "12.4 s" in text(after(1))
    assert "$0.00 of $1.00 · 0 tokens · 0 calls" in text(after(1))


def test_who_is_able_and_who_was_refused_is_shown_before_there_is_a_plan():
    picture = text(after(4))
    assert "able: code-reader 0.61   (1 agent refused)" in picture
    assert "proposed: code-reader (2 subtasks)  docs-reader (3 subtasks)" in picture


def test_the_plan_is_drawn_with_its_dependencies_and_teams():
    picture = text(after(5))
    assert "plan: 2 subtasks" in picture
    assert "s1 Find where teams are assigned" in picture
    assert "s2 Explain the score (after s1)" in picture
    assert "waiting: code-reader, docs-reader" in picture


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7, "1 of 2 drafts: code-reader, docs-reader"),
        (8, "lost: git-historian"),
        (10, "1 cluster: code-reader docs-reader"),
        (12, "refining, round 2: code-reader, docs-reader"),
        (14, "code-reader, confidence 0.82 after 2 rounds"),
        (15, "$0.0021 of $1.00 · 5,120 tokens · 14 calls"),
        (16, "no answer: every agent that was asked was lost"),
    ],
)
def test_a_subtask_is_shown_as_it_stands(number, words):
    assert words in text(after(number))


def test_the_time_stands_still_when_the_job_has_ended():
    assert "9.0 s" in text(after(len(STORY)), now=500.0)


@pytest.mark.parametrize("missing", range(len(STORY)))
def test_a_missed_event_never_breaks_the_picture(missing):
    board = Board()
    for event in itertools.chain(STORY[:missing], STORY[missing + 1 :]):
        board = board.after(event)
        assert text(board)


def test_repeated_events_change_nothing_that_is_shown():
    board = Board()
    for event in STORY:
        board = board.after(event).after(event)
    assert text(board) == text(after(len(STORY)))


def test_every_event_but_money_and_rounds_is_a_line_of_the_log():
    lines = [line(event) for event in STORY]
    silent = {type(event) for event, shown in zip(STORY, lines, strict=True) if not shown}
    assert silent == {events.RoundPosted, events.Spent}
    assert lines[1] == "able: code-reader 0.61; 1 refused"
    assert lines[7] == "s1: lost git-historian: silent for 20 s"
    assert lines[12] == "s1: consensus after 2 rounds, code-reader speaks for 2"
    assert lines[-1] == "partial"


def test_what_a_peer_says_cannot_steer_the_terminal():
    hostile = "quiet\x1b]0;owned\x07\x1b[2J\u202e end\r\nforged: line"
    event = events.AgentLost(at=1.0, subtask="s1", agent="a", reason=hostile)
    assert "\x1b" not in line(event)
    assert "\n" not in line(event)
    board = after(5).after(event).after(events.FellBack(at=2.0, what=hostile))
    node = events.Planned(
        at=3.0, plan=PlanView(nodes=(PlanNode(id="s9", text="[red]not markup[/] " + hostile, proposers=()),)), teams=()
    )
    picture = text(board.after(node))
    assert "\x1b" not in picture
    assert "\u202e" not in picture
    assert "[red]not markup[/]" in picture


def test_a_training_is_shown_by_its_round_and_what_it_gave_last():
    node = {"subtask": "s1", "agent": "trainer", "round": 2}
    story = [
        *STORY[:5],
        events.TrainStarted(at=102.1, subtask="s1", agent="trainer"),
        events.TrainNode(at=103.0, **node, node="evaluate", state="ended", said="accuracy 0.80"),
        events.TrainNode(at=104.0, **node | {"round": 3}, node="train", state="began"),
    ]
    board = Board()
    for event in story:
        board = board.after(event)
    assert "training by trainer, round 3: train; last: accuracy 0.80" in text(board)
    assert [line(event) for event in story[5:]] == ["s1: trainer trains", "s1: round 2 evaluate: accuracy 0.80", ""]
