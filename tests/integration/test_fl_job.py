"""A federated run is a job of the journal from its start: shown while it goes on, taken up by no Agent-0, ended with it."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from foa.agent_zero import owner_of
from foa.app.federated_job import RunJob, running_job
from foa.app.federated_lock import end_run, held_run, job_of
from foa.app.settings import read_settings
from foa.errors import AgentLost, BadInput, StoreFailed
from foa.fl.outcomes import outcomes
from foa.fl.plans import RoundPlan
from foa.fl.rounds import NODES, ClientRow, NodeEvent, RoundRow
from foa.fl.story import tell_story
from foa.ports import JobRow
from foa.state.memory import MemoryJournal
from foa.values.ids import AgentId, JobId
from foa.values.result import Result
from tests.fakes import HandClock

ROW = RoundRow(
    round=1,
    plan=RoundPlan(selector="oort", k=2, deadline_seconds=9.0, aggregation="fedavg", noise_floor=0.0, reason=""),
    verdict="fallback",
    faults=("k must be 1 to 5",),
    model="small",
    decision_seconds=0.5,
    tokens=70,
    clients=(ClientRow(client="a", kind="trained", usd=0.5), ClientRow(client="b", kind="lost", reason="it left")),
    seconds=2.0,
    loss=None,
    taken=True,
    accuracy=0.8,
    worst10=0.7,
)
PLACE = Path("/r/report.html")


def tell(job: RunJob, row: RoundRow, nodes: Sequence[str] = NODES) -> None:
    values = outcomes(row)
    for node in nodes:
        job.tell(NodeEvent(round=row.round, node=node, state="began"))
        job.tell(NodeEvent(round=row.round, node=node, state="ended", value=values[node]))


async def run_once(journal: MemoryJournal, *, rows: Sequence[RoundRow] = (ROW,)) -> JobId:
    async with running_job(journal, "t1", "train", HandClock()) as job:
        for row in rows:
            tell(job, row)
        job.story(tell_story("test", rows, report=PLACE), rows)
    return job.id


async def the(journal: MemoryJournal, job: JobId) -> JobRow:
    (row,) = await journal.jobs(job=job)
    return row


async def test_a_run_is_a_job_while_it_goes_on_and_ends_with_its_graph_and_bill() -> None:
    journal = MemoryJournal(HandClock())
    written = asyncio.Event()

    class Watched(MemoryJournal):
        async def save(self, job: JobId, step: str, result: bytes) -> None:
            await super().save(job, step, result)
            written.set()

    journal = Watched(HandClock())
    async with running_job(journal, "t1", "train", HandClock()) as job:
        tell(job, ROW, ["profile"])
        await written.wait()
        assert (await the(journal, job.id)).status == "running"
        assert list(await journal.load(job.id)) == ["round-1/profile"]
        # its owner is the run itself: an Agent-0 that starts now leaves it alone
        assert await owner_of(journal, job.id) == job.id == "fl-t1"
        tell(job, ROW, NODES[1:])
        job.story(tell_story("test", [ROW], report=PLACE), [ROW])
    row = await the(journal, job.id)
    assert row.status == "done"
    result = msgspec.json.decode(row.result or b"", type=Result)
    assert result.answer.startswith("test: 1 round of federated learning")
    assert (result.bill.usd, result.bill.tokens, result.bill.calls) == (0.5, 70, 1)
    assert result.lost == {"b": "it left"}
    assert len(result.fallbacks) == 1
    # eight nodes in a chain that ends in the run
    assert [node.id for node in result.plan.nodes] == ["run", *(f"run/round-1/{node}" for node in NODES)]
    assert len(result.plan.edges) == 8
    assert set(await journal.load(job.id)) == {f"round-1/{node}" for node in NODES}
    told = [msgspec.json.decode(raw)["event"] for _, raw in await journal.events(job.id)]
    assert told[:3] == ["admitted", "planned", "train_started"]
    assert told[-3:] == ["reported", "spent", "ended"]
    assert told.count("train_node") == 16


async def test_a_killed_run_goes_on_in_its_job_and_says_no_node_twice() -> None:
    journal = MemoryJournal(HandClock())
    submission = b"{}"
    assert await journal.open(job_of("t1"), submission, text="train")
    step = msgspec.json.encode({"value": {"present": 2}, "spends": {}})
    await journal.save(job_of("t1"), "round-1/profile", step)
    assert await run_once(journal) == "fl-t1"
    assert (await journal.load(JobId("fl-t1")))["round-1/profile"] == step
    told = [msgspec.json.decode(raw) for _, raw in await journal.events(JobId("fl-t1"))]
    assert not [one for one in told if one["event"] == "train_node" and one["node"] == "profile"]
    assert told[0]["resumed"]


async def test_a_run_that_had_ended_and_goes_on_is_another_job() -> None:
    journal = MemoryJournal(HandClock())
    assert [await run_once(journal) for _ in range(3)] == ["fl-t1", "fl-t1-2", "fl-t1-3"]
    assert not await journal.jobs(status="running")


async def test_a_run_that_fails_is_a_failed_job_that_says_why() -> None:
    journal = MemoryJournal(HandClock())

    async def run() -> None:
        async with running_job(journal, "t1", "train", HandClock()) as job:
            tell(job, ROW, ["profile"])
            raise AgentLost(AgentId("a"), "no site came")

    with pytest.raises(AgentLost, match="no site came"):
        await run()
    row = await the(journal, JobId("fl-t1"))
    assert row.status == "failed"
    assert "no site came" in msgspec.json.decode(row.result or b"", type=Result).error
    assert list(await journal.load(row.job)) == ["round-1/profile"]


async def test_an_interrupted_run_is_a_cancelled_job() -> None:
    journal, begun = MemoryJournal(HandClock()), asyncio.Event()

    async def run() -> None:
        async with running_job(journal, "t1", "train", HandClock()):
            begun.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(), name="run")
        await begun.wait()
        running.cancel()
    assert (await the(journal, JobId("fl-t1"))).status == "cancelled"


async def test_a_journal_that_cannot_be_written_ends_the_run() -> None:
    class Broken(MemoryJournal):
        async def save(self, job: JobId, step: str, result: bytes) -> None:
            raise StoreFailed("the disk is full")

    async def run() -> None:
        async with running_job(Broken(HandClock()), "t1", "train", HandClock()) as job:
            tell(job, ROW, ["profile"])
            await asyncio.Event().wait()

    with pytest.raises(StoreFailed, match="disk is full"):
        await run()


def test_the_longest_run_has_a_job_id_however_often_it_goes_on() -> None:
    assert len({job_of("r" * 64), job_of("r" * 64, 2), job_of("r" * 64, 10)}) == 3
    assert all(len(job_of("r" * 64, number)) == 64 for number in (1, 2, 10))


async def test_a_run_that_nobody_trains_cannot_be_ended(tmp_path: Path) -> None:
    settings = read_settings(environ={"HOME": str(tmp_path)}, overrides={"FOA_STATE_DIR": str(tmp_path)})
    assert not end_run(settings, job_of("t1"))
    folder = tmp_path / "fl" / "t1"
    folder.mkdir(parents=True)
    async with held_run(folder):
        assert (folder / "run.lock").read_text() == str(os.getpid())
        assert not end_run(settings, job_of("t2"))
    assert not end_run(settings, job_of("t1"))


async def test_two_processes_do_not_train_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foa.app.federated_lock.WAIT_SECONDS", 0.01)
    async with held_run(tmp_path):
        with pytest.raises(BadInput, match="another process trains run"):
            async with held_run(tmp_path):
                pass
