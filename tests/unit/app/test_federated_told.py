"""What a run has told outlives the process that told it, each node once, whatever a kill left half written."""

from pathlib import Path

from foa.app.federated_lines import NodeLine
from foa.app.federated_told import Told
from foa.messages import TrainRequest
from foa.values.budget import Budget
from foa.values.ids import AgentId
from foa.values.task import Task

BUDGET = Budget(usd=1.0, tokens=1, calls=1, seconds=1.0)
REQUEST = TrainRequest(job="j", subtask="s1", text="train", task=Task(text="train"), budget=BUDGET)


def line(number: int, node: str = "train", state: str = "ended") -> NodeLine:
    return NodeLine(round=number, node=node, state=state, said=f"{node} {number}")  # type: ignore[arg-type]


def kept(folder: Path) -> list[str]:
    return [progress.said for progress in Told(folder, "r1").all(REQUEST, agent=AgentId("a"))]


def test_each_node_is_told_once_however_often_it_comes(tmp_path: Path) -> None:
    told = Told(tmp_path, "r1")
    assert [told.keep(line(1)), told.keep(line(1)), told.keep(line(2))] == [True, False, True]
    assert kept(tmp_path) == ["train 1", "train 2"]
    assert not Told(tmp_path, "r1").keep(line(2))


def test_a_node_that_begins_is_told_and_not_kept(tmp_path: Path) -> None:
    told = Told(tmp_path, "r1")
    assert told.keep(line(1, state="began"))
    assert told.keep(line(1))
    assert not told.keep(line(1, state="began"))
    assert kept(tmp_path) == ["train 1"]


def test_a_line_that_a_kill_cut_short_costs_itself_only(tmp_path: Path) -> None:
    Told(tmp_path, "r1").keep(line(1))
    path = tmp_path / "fl" / "r1" / "told.jsonl"
    path.write_bytes(path.read_bytes() + b'{"is":"node","round":2,"no')
    again = Told(tmp_path, "r1")
    again.keep(line(2))
    again.keep(line(3))
    assert kept(tmp_path) == ["train 1", "train 2", "train 3"]


def test_runs_do_not_hear_of_each_other(tmp_path: Path) -> None:
    Told(tmp_path, "r1").keep(line(1))
    assert Told(tmp_path, "r2").all(REQUEST, agent=AgentId("a")) == []
