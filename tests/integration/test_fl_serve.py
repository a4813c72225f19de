"""The server agent on its own: what it may cost is asked before, a run that cannot go on is a refusal with its sentence."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from foa.app.clock import SystemClock
from foa.app.fabric import IN_MEMORY
from foa.app.federated_child import lines_of
from foa.app.federated_lines import FailedLine
from foa.app.federated_server import RunTrainer, Served, profile_of, run_of, serve_projects, session_of
from foa.app.settings import Settings, as_environment, read_settings
from foa.app.stores import open_stores
from foa.errors import BadInput, BudgetExceeded
from foa.fl.project import read_project
from foa.fl.rounds import NODES
from foa.messages import Refused, Trained, TrainProgress, TrainRequest
from foa.values.budget import Budget
from foa.values.ids import AgentId, JobId
from foa.values.task import Task
from tests.chaos.processes import until
from tests.fl_project import hold, is_held, make_project, release

A = AgentId("lines-training")
ROOT = Path(__file__).resolve().parents[2]


def request(*, usd: float = 1.0, policies: Sequence[str] = ()) -> TrainRequest:
    budget = Budget(usd=usd, tokens=10_000, calls=100, seconds=100.0)
    return TrainRequest(
        job="job-1", subtask="s1", text="train", task=Task(text="train", policies=tuple(policies)), budget=budget
    )


def trainer(folder: Path, state: Path) -> RunTrainer:
    served = Served(folder=folder, project=read_project(folder), arguments=("--no-model",))
    return RunTrainer(A, served, Settings(state_dir=state))


async def test_a_training_tells_its_nodes_once_and_is_not_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder, told = make_project(tmp_path / "lines"), list[TrainProgress]()
    brain = trainer(folder, tmp_path / "state")
    async with asyncio.timeout(120):
        first = await brain.train(request(), told.append)
        assert isinstance(first.body, Trained)
        assert first.body.rounds == 2
        ended = [(one.round, one.node) for one in told if one.state == "ended"]
        assert len(ended) == len(set(ended)) == 16
        # asked again after its reply was lost: the checkpoint has every round, nothing is told or trained anew
        told.clear()
        again = await brain.train(request(), told.append)
    assert told == []
    assert isinstance(again.body, Trained)
    assert again.body.figures == first.body.figures
    assert [(one.round, one.node) for one in await brain.told(request())] == ended


def test_a_child_goes_by_the_settings_of_its_parent_wherever_they_came_from(tmp_path: Path) -> None:
    file = tmp_path / "foa.toml"
    file.write_text('[settings]\nFOA_FL_BLOB_BYTES = 5000000\nFOA_LOG = "error"\n')
    elsewhere = {"FOA_CONFIG": str(file), "FOE_TEAM_SIZE": "2"}
    parent = read_settings(environ=elsewhere, overrides={"FOA_STATE_DIR": str(tmp_path), "FOA_DEBUG": "true"})
    child = read_settings(environ={**elsewhere, **as_environment(parent)})
    assert replace(child, origins={}) == replace(parent, origins={})
    assert (child.fl_blob_bytes, child.log, child.state_dir, child.debug) == (5_000_000, "error", tmp_path, True)
    assert child.parameters.team_size == 2
    # made by a program, which read no file: the child does not read it either
    made = Settings(state_dir=tmp_path)
    assert replace(read_settings(environ={**elsewhere, **as_environment(made)}), origins={}) == made


async def test_a_line_that_is_too_long_does_not_stop_the_reading() -> None:
    reader = asyncio.StreamReader(limit=100)
    good = b'{"is":"failed","error":"e"}\n'
    reader.feed_data(b"x" * 1_000 + b"\n" + good)
    reader.feed_eof()
    assert [line async for line in lines_of(reader)] == [FailedLine(error="e")]


async def test_a_run_that_cannot_go_on_is_refused_with_its_sentence(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "lines")
    (folder / "app.py").write_text("app = None\n")
    async with asyncio.timeout(60):
        found = await trainer(folder, tmp_path / "state").train(request(), lambda _: None)
    assert isinstance(found.body, Refused)
    assert "has no 'strategy'" in found.body.reason


async def test_no_site_is_asked_that_is_not_cleared_for_the_tasks_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder, told = make_project(tmp_path / "lines", rounds=1), list[TrainProgress]()
    async with asyncio.timeout(60):
        found = await trainer(folder, tmp_path / "state").train(request(policies=["gdpr"]), told.append)
    assert isinstance(found.body, Refused)
    assert "site-0: it is not cleared for gdpr; site-1: it is not cleared for gdpr" in found.body.reason
    assert not any(one.node == "train" for one in told)


async def test_what_it_may_cost_is_asked_before_anything_is_trained(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "lines", more="usd_a_round = 0.5")
    with pytest.raises(BudgetExceeded, match=r"2 rounds may cost up to US\$ 1.00 and the request has US\$ 0.90"):
        await trainer(folder, tmp_path / "state").train(request(usd=0.9), lambda _: None)


async def test_prices_that_are_bargained_over_count_in_what_it_may_cost(tmp_path: Path) -> None:
    # 2 rounds × 3 sites × at most US$ 0.30
    folder = make_project(tmp_path / "lines", more="[negotiation]\nrounds = 2\nusd_max = 0.3")
    with pytest.raises(BudgetExceeded, match=r"2 rounds may cost up to US\$ 1.80 and the request has US\$ 1.70"):
        await trainer(folder, tmp_path / "state").train(request(usd=1.7), lambda _: None)


async def test_a_second_server_of_an_agent_is_refused_and_elsewhere_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "lines")
    here, there = (Settings(state_dir=tmp_path / name, broker_url=IN_MEMORY) for name in ("here", "there"))
    async with asyncio.timeout(60):
        async with serve_projects(here, [folder]):
            with pytest.raises(BadInput, match="another `foa fl serve` here serves lines-training"):
                async with serve_projects(here, [folder]):
                    pass
            async with serve_projects(there, [folder]) as (agent,):
                assert agent.profile.agent_id == A
        async with serve_projects(here, [folder]):  # its place is free again
            pass
    assert session_of(here, [A]) == session_of(here, [A]) != session_of(there, [A])


def test_a_project_introduces_itself_by_its_file(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "lines", more='policies = ["gdpr"]\nskills = ["lines"]')
    profile = profile_of(folder, read_project(folder))
    assert (profile.agent_id, profile.kinds, profile.limits.slots) == (A, ("train",), 1)
    assert profile.description.startswith("Trains a model of straight lines")
    assert (profile.policies, profile.skills) == (frozenset({"gdpr"}), ("lines",))
    with pytest.raises(ValueError, match="agent id"):
        profile_of(folder, read_project(folder), "no/name")


def test_the_same_request_has_the_same_run_and_another_agent_another() -> None:
    assert run_of(A, request()) == run_of(A, request(usd=0.1)) == "job-1.s1.lines-training"
    assert run_of(AgentId("b"), request()) != run_of(A, request())
    long = TrainRequest(job="j" * 64, subtask="s1", text="t", task=Task(text="t"), budget=request().budget)
    assert len(run_of(A, long)) == 32


def test_a_folder_without_a_project_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"FL\.toml"):
        trainer(tmp_path, tmp_path)


async def test_a_run_of_ones_own_is_cancelled_from_another_terminal(tmp_path: Path) -> None:
    folder, state = make_project(tmp_path / "lines"), tmp_path / "state"
    hold(folder, 2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOA_STATE_DIR": str(state)}

    async def foa(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "foa", *arguments, env=environment, stderr=asyncio.subprocess.PIPE
        )

    async with asyncio.timeout(120):
        running = await foa("fl", "run", str(folder), "--name", "t1", "--no-model")
        await until(lambda: is_held(folder) or running.returncode is not None, "the second round", seconds=60)
        cancelling = await foa("jobs", "cancel", "fl-t1")
        _, said = await cancelling.communicate()
        assert (cancelling.returncode, said.decode()) == (0, "foa: job fl-t1 was asked to end\n")
        release(folder)
        await running.communicate()
    assert running.returncode == 130
    async with open_stores(state / "jobs.db", SystemClock()) as stores:
        (row,) = await stores.journal.jobs(job=JobId("fl-t1"))
        steps = await stores.journal.load(row.job)
    assert row.status == "cancelled"
    # what was done before stands: the first round in full
    assert {f"round-1/{node}" for node in NODES} <= set(steps)
