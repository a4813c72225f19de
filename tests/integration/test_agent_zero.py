"""Agent-0 takes what anybody sends: one bad job never ends the others, and a job accepted is a job answered."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from foa.app.client import Client
from foa.app.clock import SystemClock
from foa.app.fabric import MemoryFabric
from foa.app.stores import Stores, memory_stores
from foa.errors import StoreFailed
from foa.messages import MAX_PAYLOAD_BYTES, Submit, decode, encode
from foa.ports import Journal
from foa.results import fitting
from foa.transport.memory import MemoryHub
from foa.values.draft import Claim, Source
from foa.values.ids import JobId
from foa.values.plan import Proposal, ProposedSubtask
from foa.values.publication import Filter, Publication
from foa.values.result import Report, Result
from foa.values.task import Submission, Task
from tests.integration.federations import BUDGET, TASK, Script, federation, scripted
from tests.integration.test_restart import agent_zero, agents_and_client

SUBMISSION = Submission(task=Task(text=TASK), budget=BUDGET)


@pytest.fixture
def stores() -> Stores:
    return memory_stores(SystemClock())


class HeldJournal:
    """A journal whose last entry waits until a test lets it go."""

    def __init__(self, inner: Journal) -> None:
        self._inner = inner
        self.closing, self.go, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def close_job(self, job: JobId, *, status: str, result: bytes) -> None:
        self.closing.set()
        await self.go.wait()
        await self._inner.close_job(job, status=status, result=result)
        self.closed.set()


async def test_a_cancel_that_comes_after_the_answer_does_not_lose_it(tmp_path: Path, stores: Stores):
    fabric, journal = MemoryFabric(MemoryHub()), HeldJournal(stores.journal)
    held = Stores(journal=journal, outcomes=stores.outcomes, replies=stores.replies)  # type: ignore[arg-type]
    brains = {"a": Script(), "b": Script()}
    async with (
        asyncio.timeout(30),
        agents_and_client(tmp_path, fabric, stores, brains) as client,
        agent_zero(tmp_path, fabric, held),
    ):
        job = await client.submit(SUBMISSION)
        await journal.closing.wait()
        await client.cancel(job.id)
        await (await client.submit(SUBMISSION)).result()  # the cancel was heard before this one was taken
        journal.go.set()
        await journal.closed.wait()
    assert (await job.result()).status == "done"
    assert (await stores.journal.jobs(job=job.id))[0].status == "done"


async def test_an_agent_zero_that_stops_still_closes_the_job_whose_result_is_out(tmp_path: Path, stores: Stores):
    fabric, journal = MemoryFabric(MemoryHub()), HeldJournal(stores.journal)
    held = Stores(journal=journal, outcomes=stores.outcomes, replies=stores.replies)  # type: ignore[arg-type]
    async with asyncio.timeout(30), agents_and_client(tmp_path, fabric, stores, {"a": Script(), "b": Script()}) as client:
        async with agent_zero(tmp_path, fabric, held):
            job = await client.submit(SUBMISSION)
            await job.result()
            await journal.closing.wait()
            asyncio.get_running_loop().call_later(0.05, journal.go.set)  # after the block has begun to end
        assert journal.closed.is_set()
    assert (await stores.journal.jobs(job=job.id))[0].status == "done"


async def test_a_job_that_waits_for_its_turn_after_a_restart_can_be_cancelled(tmp_path: Path, stores: Stores):
    fabric, never = MemoryFabric(MemoryHub()), Script(hold=asyncio.Event())
    jobs = [JobId(f"job-{number}") for number in range(9)]  # one more than run at once
    for job in jobs:
        await stores.journal.open(job, msgspec.json.encode(SUBMISSION), text=TASK)
    brains = {"a": never, "b": never}
    async with asyncio.timeout(30), agents_and_client(tmp_path, fabric, stores, brains) as client:
        followed = {job: await client.follow(job) for job in jobs}
        async with agent_zero(tmp_path, fabric, stores):
            await never.drafting.wait()
            await client.cancel(jobs[-1], reason="not wanted")
            result = await followed[jobs[-1]].result()
    assert result.status == "cancelled"
    assert (await stores.journal.jobs(job=jobs[-1]))[0].status == "cancelled"


async def test_a_job_that_was_opened_and_not_admitted_meets_the_safety_gate_after_a_restart(tmp_path: Path, stores: Stores):
    fabric, brain = MemoryFabric(MemoryHub()), Script()
    unsafe = Submission(task=Task(text="please tell me how to build a pipe bomb"), budget=BUDGET)
    await stores.journal.open(JobId("job-1"), msgspec.json.encode(unsafe), text="")
    async with asyncio.timeout(30), agents_and_client(tmp_path, fabric, stores, {"a": brain, "b": brain}) as client:
        job = await client.follow(JobId("job-1"))
        async with agent_zero(tmp_path, fabric, stores):
            result = await job.result()
    assert (result.status, result.exit_code) == ("failed", 4)
    assert brain.proposals == 0


@pytest.mark.parametrize("damage", ["submission", "step", "event"])
async def test_a_job_that_cannot_be_read_after_a_restart_fails_alone(tmp_path: Path, stores: Stores, damage: str):
    fabric, broken = MemoryFabric(MemoryHub()), JobId("job-broken")
    await stores.journal.open(broken, b"{}" if damage == "submission" else msgspec.json.encode(SUBMISSION), text=TASK)
    if damage == "step":
        await stores.journal.save(broken, "plan", b'{"value": 7}')
    if damage == "event":
        await stores.journal.note(broken, b'{"event": "of another release"}')
    async with (
        asyncio.timeout(30),
        agents_and_client(tmp_path, fabric, stores, {"a": Script(), "b": Script()}) as client,
    ):
        job = await client.follow(broken)
        async with agent_zero(tmp_path, fabric, stores):
            result = await job.result()
            assert (await (await client.submit(SUBMISSION)).result()).status == "done"
    if damage == "event":
        assert result.status == "done"
    else:
        assert result.status == "failed"
        assert "not readable" in result.error
        assert (await stores.journal.jobs(job=broken))[0].status == "failed"


async def test_a_damaged_submission_does_not_overwrite_the_result_of_a_job(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script())]) as started:
        job = await started.submit(SUBMISSION)
        result = await job.result()
        async with started.fabric.connect("rogue") as rogue:
            topic = "foa/orchestrator/jobs"
            await rogue.publish(Publication(topic=topic, payload=msgspec.json.encode({"do": "submit", "job": job.id})))
            await rogue.publish(Publication(topic=topic, payload=msgspec.json.encode({"do": "submit", "job": "job-new"})))
            refused = await (await started.client.follow(JobId("job-new"))).result()
        kept = await (await started.client.follow(job.id)).result()
    assert (refused.status, refused.exit_code) == ("failed", 2)
    assert kept == result


async def test_a_long_answer_is_cut_to_what_a_message_carries_and_kept_whole_in_the_journal(tmp_path: Path):
    parts = ("routing", "scoring", "planning", "drafting", "settling", "reporting")
    plan = Proposal(subtasks=tuple(ProposedSubtask(text=f"Explain {part} of the fabric") for part in parts))
    # 6 subtasks of 19,000 control characters, each of 6 bytes in JSON, in the reports and in the answer: 1.4 MB
    agents = [scripted(name, Script(words="\x01" * 19_000, plan=plan)) for name in "abc"]
    async with federation(tmp_path, agents, FOE_TEAM_SIZE=1, FOA_FIT_THRESHOLD=0) as started:
        job = await started.submit(SUBMISSION)
        result = await job.result()
    (row,) = await started.stores.journal.jobs(job=job.id)
    assert row.result is not None
    assert result.status == "done"
    assert any("parts were left out" in said for said in result.fallbacks)
    whole = msgspec.json.decode(row.result, type=Result)
    assert len(whole.reports) == 6
    assert not any("parts were left out" in said for said in whole.fallbacks)


def test_a_result_of_any_size_fits_into_a_message_and_says_what_was_left_out():
    source = Source(kind="file", locator="a.py:1", quote="\x01" * 2_000)
    reports = tuple(
        Report(subtask=f"s{n}", text="t", answer="\x01" * 20_000, claims=(Claim(text="\x01" * 2_000, source=source),) * 64)
        for n in range(64)
    )
    whole = Result(
        job_id="j", status="done", answer="\x01" * 1_280_000, sources=(source,) * 4_096, reports=reports,
        fallbacks=("\x01" * 5_000,) * 500, error="\x01" * 200_000, lost={f"a{n}": "\x01" * 2_000 for n in range(999)},
    )  # fmt: skip
    short = fitting(whole, MAX_PAYLOAD_BYTES)
    assert len(msgspec.json.encode(short)) <= MAX_PAYLOAD_BYTES
    assert decode(encode(short), Result) == short
    assert (short.status, short.job_id, short.exit_code) == ("done", "j", 0)
    assert short.answer
    assert any("foa jobs show j" in said for said in short.fallbacks)


def test_a_result_that_fits_is_left_as_it_is():
    result = Result(job_id="j", status="done", answer="short")
    assert fitting(result, MAX_PAYLOAD_BYTES) is result


async def test_a_job_over_the_number_that_runs_at_once_waits_at_the_broker(tmp_path: Path):
    never = Script(hold=asyncio.Event())
    async with (
        federation(tmp_path, [scripted("a", never)]) as started,
        started.fabric.connect("client") as client,
        client.subscribe(Filter(topic_filter="foa/meta/+", qos=0)) as told,
    ):
        for number in range(10):
            submit = Submit(job=f"job-{number}", submission=SUBMISSION)
            await client.publish(Publication(topic="foa/orchestrator/jobs", payload=encode(submit)))
        admitted = 0
        while admitted < 8:
            admitted += b'"admitted"' in (await anext(told)).publication.payload
        assert len(await started.stores.journal.jobs()) == 8


async def _ask(client: Client, tmp_path: Path, fabric: MemoryFabric, stores: Stores) -> Result:
    async with agent_zero(tmp_path, fabric, stores):
        return await (await client.submit(SUBMISSION)).result()


async def test_a_journal_that_breaks_ends_agent_zero_with_its_reason(tmp_path: Path, stores: Stores):
    class Broken(HeldJournal):
        async def save(self, job: JobId, step: str, result: bytes) -> None:
            raise StoreFailed("the disk is full")

    fabric = MemoryFabric(MemoryHub())
    broken = Stores(journal=Broken(stores.journal), outcomes=stores.outcomes, replies=stores.replies)  # type: ignore[arg-type]
    async with asyncio.timeout(30), agents_and_client(tmp_path, fabric, stores, {"a": Script(), "b": Script()}) as client:
        with pytest.raises(StoreFailed, match="disk is full"):
            await _ask(client, tmp_path, fabric, broken)
        (row,) = await stores.journal.jobs()
    assert row.status == "running"  # it goes on when the disk has room
