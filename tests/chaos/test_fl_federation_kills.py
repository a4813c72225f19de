"""`kill -9` of everyone who takes part in a training that Agent-0 leads, in the middle of a round.

The job ends with its training; no node is told or paid twice, and no site spends ε twice.
"""

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.processes import Running, until
from tests.chaos.world import World, brokered, result_of
from tests.fl_project import hold, is_held, make_project, release

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Train a model of straight lines on the data of the sites"
SITES = ("site-0", "site-1", "site-2")
SECONDS = 120.0  #: of a whole job; real processes import Flower


@dataclass
class Players:
    """Everyone in the federation."""

    world: World
    project: Path
    sites: dict[str, Running]
    zero: Running
    server: Running

    async def start(self, *command: str, said: str, name: str) -> Running:
        started = self.world.foa(*command, FOA_STATE_DIR=str(self.world.folder / f"state-{name}"), PYTHONPATH=str(ROOT))
        await until(lambda: said in started.errors or started.exit_code is not None, f"{name}: {said}", seconds=60)
        assert said in started.errors, started.errors
        return started

    async def start_server(self) -> None:
        command = ["fl", "serve", str(self.project), "--no-model", "--broker", self.world.broker]
        self.server = await self.start(*command, said="1 project at", name="server")

    async def start_site(self, name: str) -> None:
        command = ["fl", "site", str(self.project), "--name", name, "--broker", self.world.broker]
        self.sites[name] = await self.start(*command, said="site ready", name=name)

    def run_pid(self) -> int:
        """The process that the server agent trains in."""
        tasks = Path(f"/proc/{self.server.pid}/task").iterdir()
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
        (found,) = [int(pid) for pid in children if b"--lines" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found

    def debits(self, site: str) -> list[str]:
        """The rounds that a site has paid for."""
        path = self.world.folder / f"state-{site}" / "fl" / "sites" / "lines" / site / "ledger.db"
        with sqlite3.connect(path) as ledger:
            return [key.rpartition("/")[2] for (key,) in ledger.execute("SELECT key FROM debits ORDER BY number")]


@asynccontextmanager
async def players(folder: Path) -> AsyncGenerator[Players]:
    """Broker, Agent-0, three sites and a server agent, each a process of its own."""
    project = make_project(folder / "lines", rounds=3, private=True)
    settings = {"FOA_RETURN_SECONDS": "60", "FOA_AWAY_SECONDS": "1", "FOA_BUDGET_SECONDS": str(SECONDS)}
    async with brokered(folder, **settings) as world:
        zero = await world.start_orchestrator()
        made = Players(world=world, project=project, sites={}, zero=zero, server=zero)
        for name in SITES:
            await made.start_site(name)
        await made.start_server()
        yield made


async def held_in_round_two(made: Players) -> Running:
    """A job whose training stands in its second round."""
    hold(made.project, 2)
    asking = made.world.foa("ask", "--broker", made.world.broker, "--json", QUESTION)
    await until(lambda: is_held(made.project) or asking.exit_code is not None, "the second round", seconds=SECONDS)
    assert is_held(made.project), asking.errors + made.server.errors
    return asking


async def ended(made: Players, asking: Running) -> dict[str, Any]:
    """The result of a job that was answered by its training, each node of three rounds once."""
    result = await result_of(asking, seconds=SECONDS)
    assert result["status"] == "done", result["error"]
    (report,) = result["reports"]
    assert report["by"] == "lines-training"
    nodes = Counter(node["id"] for node in result["plan"]["nodes"] if "/" in node["id"])
    assert nodes == {f"s1/round-{number}/{node}": 1 for number in (1, 2, 3) for node in NODES}
    told = told_nodes(made, result["job_id"])
    assert told == {(number, node): 1 for number in (1, 2, 3) for node in NODES}
    return result


NODES = ("profile", "select", "negotiate", "train", "screen", "aggregate", "evaluate", "credit")


def told_nodes(made: Players, job: str) -> Counter[tuple[int, str]]:
    """How often each node was told to have ended."""
    with sqlite3.connect(made.world.folder / "state" / "jobs.db") as journal:
        rows = journal.execute("SELECT event FROM events WHERE job = ? ORDER BY number", (job,)).fetchall()
    told = [json.loads(raw) for (raw,) in rows]
    return Counter((one["round"], one["node"]) for one in told if one["event"] == "train_node" and one["state"] == "ended")


@pytest.mark.parametrize("victim", ["orchestrator", "server", "run"])
async def test_a_kill_in_the_middle_of_a_round_costs_nothing_twice(tmp_path: Path, victim: str) -> None:
    async with players(tmp_path) as made:
        asking = await held_in_round_two(made)
        if victim == "orchestrator":
            await made.zero.kill()
            made.zero = await made.world.start_orchestrator()
        elif victim == "server":
            run = made.run_pid()
            await made.server.kill()
            await until(lambda: not Path(f"/proc/{run}").exists(), "the end of the run without its parent")
            await made.start_server()
        else:
            os.kill(made.run_pid(), signal.SIGKILL)
        release(made.project)
        result = await ended(made, asking)
        # a round that was begun again is answered under the debit that it had: one a round, whoever died
        for site in SITES:
            assert made.debits(site) == ["round-1", "round-2", "round-3"]
    assert result["lost"] == {}


async def test_a_killed_site_is_lost_for_its_round_and_its_debit_stands(tmp_path: Path) -> None:
    async with players(tmp_path) as made:
        asking = await held_in_round_two(made)
        await made.sites["site-0"].kill()
        result = await ended(made, asking)
        assert made.debits("site-0") == ["round-1", "round-2"]
        assert made.debits("site-1") == ["round-1", "round-2", "round-3"]
    assert "Lost: site-0" in result["answer"]


async def test_a_cancelled_job_ends_its_run(tmp_path: Path) -> None:
    async with players(tmp_path) as made:
        asking = await held_in_round_two(made)
        run = made.run_pid()
        asking.send(signal.SIGINT)
        await until(lambda: not Path(f"/proc/{run}").exists(), "the end of the run")
        result = await result_of(asking, exit_code=10, seconds=SECONDS)
        release(made.project)
    assert result["status"] == "cancelled"
