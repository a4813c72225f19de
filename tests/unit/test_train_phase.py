"""What a server agent may do to a job: hardly more than it was given, and nothing twice."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.fakes import HandClock
from tests.unit.test_calls import job_of

from foa.calls import Calls
from foa.exchange import PART_PROPERTY, Exchange
from foa.exchange import answer as reply_to
from foa.job import Job
from foa.messages import Refused, Reply, Trained, TrainProgress, encode
from foa.phases import train
from foa.phases.train import TrainedNode, gather_training
from foa.ports import Delivery
from foa.settle import site_grades
from foa.state.memory import MemoryJournal
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget, Spend
from foa.values.draft import AgentDraft, Draft
from foa.values.ids import AgentId, JobId, SubtaskId
from foa.values.plan import Subtask
from foa.values.publication import Filter

A = AgentId("a")
SUBTASK = Subtask(id=SubtaskId("s1"), text="train a model")
BUDGET = Budget(usd=1.0, tokens=1_000, calls=10, seconds=60.0)
SHARE = Budget(usd=0.3, tokens=100, calls=5, seconds=30.0)
CENT = Spend(usd=0.01)


def node(number: int, name: str = "train", **changes: Any) -> bytes:
    fields: dict[str, Any] = {"agent": "a", "job": "job-1", "subtask": "s1", "round": number, "node": name}
    return encode(TrainProgress(**fields | {"state": "ended", "spend": CENT} | changes))


def reply(usd: float) -> bytes:
    return encode(Reply(agent="a", body=Trained(draft=Draft(answer="trained"), run="r", rounds=1), spend=Spend(usd=usd)))


class Journal(MemoryJournal):
    """Tells when a step was saved."""

    def __init__(self, saved: asyncio.Event) -> None:
        super().__init__(HandClock())
        self._saved = saved

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        await super().save(job, step, result)
        self._saved.set()


async def opened_job(transport: MemoryTransport, saved: asyncio.Event) -> Job:
    journal = Journal(saved)
    job = job_of(transport, journal)
    await journal.open(job.id, b"{}", text="train")
    return job


Play = Callable[[Callable[[bytes], Awaitable[None]], Callable[[bytes], Awaitable[None]], Calls], Awaitable[None]]


@asynccontextmanager
async def playing(*plays: Play, saved: asyncio.Event | None = None) -> AsyncGenerator[tuple[Calls, Job]]:
    """Agent-0's end, and a server agent that does one play for each time it is asked; `saved` is set at the first save."""
    hub = MemoryHub()
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="a") as agent,
        MemoryTransport(hub, client_id="agent-0") as transport,
        Exchange(transport, reply_topic="foa/orchestrators/agent-0/replies") as exchange,
        agent.subscribe(Filter(topic_filter="foa/agents/a/tasks")) as inbox,
        asyncio.TaskGroup() as group,
    ):
        calls = Calls(exchange, transport)

        async def play(request: Delivery, what: Play) -> None:
            await what(
                lambda part: reply_to(agent, request, part, user_properties=(PART_PROPERTY,)),
                lambda end: reply_to(agent, request, end),
                calls,
            )

        async def play_all() -> None:
            for each in plays:
                await play(await anext(inbox), each)

        group.create_task(play_all(), name="agent")
        yield calls, await opened_job(transport, saved or asyncio.Event())


async def gather(calls: Calls, job: Job) -> tuple[AgentDraft, ...]:
    return await gather_training(job, calls, SUBTASK, [A], inputs=(), attempt=1, budget=SHARE)


async def test_nodes_are_charged_as_they_come_and_the_reply_for_what_they_do_not_cover() -> None:
    async def trains(part: Any, end: Any, _: Calls) -> None:
        await part(node(1))
        await part(node(2))
        await end(reply(0.05))

    async with playing(trains) as (calls, job):
        (kept,) = await gather(calls, job)
    # two nodes at 0.01 each, and 0.03 that only the reply has
    assert job.spent.usd == pytest.approx(0.05)
    assert job.account.spent.usd == pytest.approx(0.05)
    assert kept.spend.usd == pytest.approx(0.05)


async def test_who_left_and_came_back_is_asked_the_same_and_paid_once() -> None:
    async def leaves(part: Any, end: Any, calls: Calls) -> None:
        await part(node(1))
        await saved.wait()
        calls.agent_left(A)
        calls.agent_is_here(A)

    async def comes_back(part: Any, end: Any, _: Calls) -> None:
        await part(node(1))
        await part(node(2))
        await end(reply(0.02))

    saved = asyncio.Event()
    async with playing(leaves, comes_back, saved=saved) as (calls, job):
        (kept,) = await gather(calls, job)
    assert job.spent.usd == job.account.spent.usd == kept.spend.usd == pytest.approx(0.02)
    assert job.lost == {}
    assert "left while it trained" in job.fallbacks[0]


async def test_a_refusal_on_the_way_leaves_what_was_done_paid_once() -> None:
    async def refuses(part: Any, end: Any, _: Calls) -> None:
        await part(node(1))
        refused = Reply(agent="a", body=Refused(kind="load", reason="no site came"), spend=Spend(usd=0.01))
        await end(encode(refused))

    async with playing(refuses) as (calls, job):
        assert await gather(calls, job) == ()
    assert job.spent.usd == job.account.spent.usd == pytest.approx(0.01)
    assert job.lost == {A: "load: no site came"}


async def test_the_node_that_costs_too_much_is_not_paid_and_ends_it() -> None:
    async def overspends(part: Any, end: Any, _: Calls) -> None:
        await part(node(1, spend=Spend(usd=0.2)))
        await part(node(2, spend=Spend(usd=0.2)))

    async with playing(overspends) as (calls, job):
        assert await gather(calls, job) == ()
    assert job.spent.usd == job.account.spent.usd == pytest.approx(0.2)
    assert "its training was stopped: it costs more than the US$ 0.300000" in job.lost[A]
    assert ("s1", A) in job.unasked  # the budget ended it: that is no mark against it


@pytest.mark.parametrize(
    "strange",
    [
        b"noise",
        node(1, agent="b"),
        node(1, job="job-2"),
        node(1, subtask="s2"),
    ],
)
async def test_progress_that_is_not_its_own_is_passed_over(strange: bytes) -> None:
    async def trains(part: Any, end: Any, _: Calls) -> None:
        await part(strange)
        await end(reply(0.0))

    async with playing(trains) as (calls, job):
        (kept,) = await gather(calls, job)
    assert kept.draft.answer == "trained"
    assert job.steps.under("train/", TrainedNode) == []


async def test_a_flood_of_nodes_is_cut_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "MAX_NODES", 3)
    monkeypatch.setattr(train, "MAX_KEPT_BYTES", 10)

    async def floods(part: Any, end: Any, _: Calls) -> None:
        for number in range(1, 20):
            await part(node(number, spend=Spend(), value=msgspec.Raw(b'"12345"')))
            await part(node(1_001, spend=Spend()))
        await end(reply(0.0))

    async with playing(floods) as (calls, job):
        await gather(calls, job)
    nodes = job.steps.under("train/", TrainedNode)
    # twice MAX_NODES parts are heard: each node may begin and end
    assert len(nodes) == 6
    # the first value has 7 bytes, the second would make them 14
    assert [bytes(one.value) for one in nodes] == [b'"12345"', *[b"null"] * 5]
    assert len(job.fallbacks) == 1


async def test_credit_counts_from_the_credit_node_only() -> None:
    async def trains(part: Any, end: Any, _: Calls) -> None:
        await part(node(1, "select", credits={"north": 1.0}))
        await part(node(1, "credit", credits={"north": 0.5}))
        await end(reply(0.02))

    async with playing(trains) as (calls, job):
        await gather(calls, job)
    assert [dict(one.credits) for one in job.steps.under("train/", TrainedNode)] == [{}, {"north": 0.5}]


async def test_of_a_training_that_names_too_many_sites_those_that_brought_most_are_graded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("foa.settle.MAX_SITES", 2)

    async def trains(part: Any, end: Any, _: Calls) -> None:
        await part(node(1, "credit", credits={"a": 0.1, "b": -0.4, "c": 0.2}))
        await end(reply(0.02))

    async with playing(trains) as (calls, job):
        await gather(calls, job)
        graded = site_grades(job, job.steps.under("train/", TrainedNode), {})
    # scaled by 0.4: −0.4 is 0, 0.2 is ½ + ¼
    assert [(one.agent, one.grade) for one in graded] == [("b", 0.0), ("c", 0.75)]
