"""Agent-0 stops at any point and starts again: the job ends, and nobody is asked or paid twice."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from foa.app.client import Client
from foa.app.clock import SystemClock
from foa.app.fabric import MemoryFabric
from foa.app.federation import run_agents
from foa.app.stores import Stores, memory_stores
from foa.app.zero import run_agent_zero
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Clock, Journal
from foa.transport.memory import MemoryHub
from foa.values.ids import AgentId, JobId, OrchestratorId
from foa.values.task import Submission, Task
from foa.values.topics import Topics
from tests.integration.federations import BUDGET, TASK, Script, scripted, settings_for
from tests.trainers import MIXED, FakeTrainer, training_agent

STEPS = [
    "route",
    "propose",
    "plan",
    "staff",
    "draft/s1/1/a",
    "cluster/s1",
    "refine/",
    "report/s1",
    "draft/s2/1/b",
    "synthesise",
    "settle",
]


class WatchedJournal:
    """A journal that tells when a step was saved."""

    def __init__(self, inner: Journal, until: str) -> None:
        self._inner = inner
        self._until = until
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        await self._inner.save(job, step, result)
        if step.startswith(self._until):
            self.reached.set()
            raise asyncio.CancelledError  # the process stops here


@asynccontextmanager
async def agents_and_client(
    tmp_path: Path, fabric: MemoryFabric, stores: Stores, brains: dict[str, Script]
) -> AsyncGenerator[Client]:
    settings, embedder = settings_for(tmp_path), CachedEmbedder(WordLlamaEmbedder())
    built = [scripted(name, brain) for name, brain in brains.items()]
    async with (
        run_agents(settings, fabric, built, embedder=embedder, stores=stores, clock=SystemClock()),
        fabric.connect("client") as transport,
        Client(transport, Topics()) as client,
    ):
        yield client


@asynccontextmanager
async def agent_zero(
    tmp_path: Path,
    fabric: MemoryFabric,
    stores: Stores,
    clock: Clock | None = None,
    *,
    name: str = "agent-0",
    agents: Sequence[str] = ("a", "b"),
) -> AsyncGenerator[None]:
    embedder = CachedEmbedder(WordLlamaEmbedder())
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(fabric.connect(name))
        zero = await stack.enter_async_context(
            run_agent_zero(
                settings_for(tmp_path),
                transport,
                id=OrchestratorId(name),
                stores=stores,
                embedder=embedder,
                model=None,
                clock=clock or SystemClock(),
            )
        )
        await zero.registry.known([AgentId(agent) for agent in agents])
        yield


@pytest.mark.parametrize("step", STEPS)
async def test_a_job_goes_on_from_its_last_saved_step(tmp_path: Path, step: str):
    fabric, stores = MemoryFabric(MemoryHub()), memory_stores(SystemClock())
    watched = WatchedJournal(stores.journal, step)
    stopping = Stores(journal=watched, outcomes=stores.outcomes, replies=stores.replies)
    brains = {"a": Script(), "b": Script()}
    async with asyncio.timeout(60), agents_and_client(tmp_path, fabric, stores, brains) as client:
        async with agent_zero(tmp_path, fabric, stopping):
            job = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            await watched.reached.wait()
        async with agent_zero(tmp_path, fabric, stores):
            result = await job.result()
    assert result.status == "done"
    for brain in brains.values():
        assert brain.proposals == 1
        assert sorted(brain.drafts) == ["s1", "s2"]
    # 2 proposals, 2 × 2 drafts; each member of a cluster pays for at most the one round that it held
    assert 6 <= result.bill.calls <= 6 + 4


async def test_a_restarted_agent_zero_leaves_the_jobs_of_others_alone(tmp_path: Path):
    fabric, stores = MemoryFabric(MemoryHub()), memory_stores(SystemClock())
    watched = WatchedJournal(stores.journal, "plan")
    stopping = Stores(journal=watched, outcomes=stores.outcomes, replies=stores.replies)
    brains = {"a": Script(), "b": Script()}
    async with asyncio.timeout(60), agents_and_client(tmp_path, fabric, stores, brains) as client:
        async with agent_zero(tmp_path, fabric, stopping):
            job = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            await watched.reached.wait()
        async with agent_zero(tmp_path, fabric, stores, name="other"):
            again = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            assert (await again.result()).status == "done"
            (row,) = await stores.journal.jobs(job=job.id)
            assert row.status == "running"


async def test_a_job_that_comes_back_after_its_deadline_ends_with_what_was_saved(tmp_path: Path):
    class LaterClock(SystemClock):
        def now(self) -> float:
            return super().now() + 3_600.0

    fabric, stores = MemoryFabric(MemoryHub()), memory_stores(SystemClock())
    watched = WatchedJournal(stores.journal, "report/s1")
    stopping = Stores(journal=watched, outcomes=stores.outcomes, replies=stores.replies)
    brains = {"a": Script(), "b": Script()}
    async with asyncio.timeout(60), agents_and_client(tmp_path, fabric, stores, brains) as client:
        async with agent_zero(tmp_path, fabric, stopping):
            job = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            await watched.reached.wait()
        async with agent_zero(tmp_path, fabric, stores, LaterClock()):
            result = await job.result()
        outcomes = await stores.outcomes.replay()
    assert result.status == "partial"
    assert "[s1]" in result.answer
    assert "time budget" in result.error
    assert "s2 was not reached" in result.error
    assert [node.id for node in result.plan.nodes] == ["s1", "s2"]
    assert result.assignments
    assert result.clusters
    assert len(outcomes) == 2  # both drafts of s1 are graded


@pytest.mark.parametrize("step", ["train/s1/1/t/round-1/train", "train/s1/1/t/round-2/credit", "draft/s1/1/t", "report/s1"])
async def test_a_training_goes_on_and_no_node_is_paid_or_told_twice(tmp_path: Path, step: str):
    fabric, stores = MemoryFabric(MemoryHub()), memory_stores(SystemClock())
    watched = WatchedJournal(stores.journal, step)
    stopping = Stores(journal=watched, outcomes=stores.outcomes, replies=stores.replies)
    trainer, drafter = FakeTrainer(name="t"), Script(plan=MIXED)
    built = [training_agent(trainer), scripted("b", drafter)]
    settings, embedder = settings_for(tmp_path), CachedEmbedder(WordLlamaEmbedder())
    async with (
        asyncio.timeout(60),
        run_agents(settings, fabric, built, embedder=embedder, stores=stores, clock=SystemClock()),
        fabric.connect("client") as transport,
        Client(transport, Topics()) as client,
    ):
        async with agent_zero(tmp_path, fabric, stopping, agents=("t", "b")):
            job = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            await watched.reached.wait()
        async with agent_zero(tmp_path, fabric, stores, agents=("t", "b")):
            result = await job.result()
    assert result.status == "done"
    assert trainer.trained == ["s1"]
    assert drafter.drafts == ["s2"]
    # eight nodes at ten tokens
    assert result.bill.by_agent["t"].tokens_in == 80
    told = [msgspec.json.decode(raw) for _, raw in await stores.journal.events(job.id)]
    nodes = [(one["round"], one["node"]) for one in told if one["event"] == "train_node" and one["state"] == "ended"]
    assert len(nodes) == len(set(nodes)) == 8
