"""What goes wrong between Agent-0 and an agent costs that agent's voice, never more, and leaves nothing behind."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.fakes import HandClock

from foa.calls import Calls
from foa.errors import AgentLost, AgentRefused
from foa.exchange import Exchange
from foa.exchange import answer as reply_to
from foa.job import EventLog, Job, Steps
from foa.messages import Drafted, DraftRequest, Joined, Refused, Reply, encode
from foa.policy.account import Account
from foa.state.memory import MemoryJournal
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, JobId
from foa.values.parameters import Parameters
from foa.values.publication import Filter
from foa.values.task import Submission, Task
from foa.values.topics import Topics

BUDGET = Budget(usd=1.0, tokens=1_000, calls=10, seconds=60.0)
SHARE = Budget(usd=0.1, tokens=100, calls=2, seconds=5.0)
PAID = Spend(usd=0.05, tokens_in=10, tokens_out=10, calls=1)
A = AgentId("a")
DRAFTED = Reply(agent="a", body=Drafted(draft=Draft(answer="an answer")), spend=PAID)


def job_of(transport: MemoryTransport, journal: MemoryJournal | None = None) -> Job:
    clock, topics, name = HandClock(), Topics(), JobId("job-1")
    journal = journal or MemoryJournal(clock)
    return Job(
        id=name,
        submission=Submission(task=Task(text="a task"), budget=BUDGET),
        parameters=Parameters(),
        topics=topics,
        steps=Steps(journal, name, {}),
        events=EventLog(journal, transport, topics.meta(name), name),
        account=Account(BUDGET),
        clock=clock,
        began=clock.now(),
    )


def request(text: str = "a subtask") -> DraftRequest:
    return DraftRequest(job="job-1", subtask="s1", text=text, task=Task(text="a task"), budget=SHARE)


@asynccontextmanager
async def calling(*replies: Reply) -> AsyncGenerator[tuple[Calls, Job]]:
    """Agent-0's end with room for one unacknowledged reply, and an agent that gives these replies in turn."""
    hub = MemoryHub()
    async with (
        asyncio.timeout(10),
        MemoryTransport(hub, client_id="a") as agent,
        MemoryTransport(hub, client_id="agent-0", receive_maximum=1) as transport,
        Exchange(transport, reply_topic="foa/orchestrators/agent-0/replies") as exchange,
        agent.subscribe(Filter(topic_filter="foa/agents/a/tasks")) as inbox,
        asyncio.TaskGroup() as group,
    ):

        async def play() -> None:
            for reply in replies:
                await reply_to(agent, await anext(inbox), encode(reply))

        group.create_task(play(), name="agent")
        yield Calls(exchange, transport), job_of(transport)


async def ask(calls: Calls, job: Job, *, seconds: float = 5.0, text: str = "a subtask") -> None:
    async with calls.ask(job, A, request(text), expects=Drafted, key="k", seconds=seconds):
        pass


async def test_an_agent_that_leaves_in_the_very_turn_of_its_deadline_is_lost_once():
    # both timers are over when the loop looks at them, so they fire in one turn: the deadline's, then the last will's
    raised: list[BaseException | None] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context.get("exception")))
    async with calling() as (calls, job):
        deadline = loop.time() + 0.02
        loop.call_at(deadline + 0.002, calls.agent_left, A)
        loop.call_soon(_spin_until, loop, deadline + 0.005)
        await _lost(calls, job, seconds=0.02 - 1.0)  # Agent-0 waits a second longer than the agent was given
    assert raised == []


def _spin_until(loop: asyncio.AbstractEventLoop, until: float) -> None:
    while loop.time() < until:
        pass


async def _lost(calls: Calls, job: Job, *, seconds: float) -> AgentLost:
    with pytest.raises(AgentLost) as lost:
        await ask(calls, job, seconds=seconds)
    return lost.value


async def test_nothing_is_kept_of_agents_that_were_asked():
    async with calling() as (calls, job):
        for _ in range(3):
            await _lost(calls, job, seconds=-0.99)
        assert calls.waiting == 0


async def test_a_request_that_the_broker_refuses_costs_the_voice_of_that_agent():
    async with calling() as (calls, job):
        with pytest.raises(AgentLost, match="1,000,000"):
            await ask(calls, job, text="\x01" * 200_000)
        assert job.account.free == BUDGET


async def test_what_a_refusal_cost_is_told_and_charged():
    async with calling(Reply(agent="a", body=Refused(kind="model", reason="unusable"), spend=PAID)) as (calls, job):
        with pytest.raises(AgentRefused) as refused:
            await ask(calls, job)
    assert refused.value.spend == PAID
    assert job.account.spent == PAID


async def test_a_reply_of_another_kind_is_acknowledged_and_not_paid():
    wrong = Reply(agent="a", body=Joined(cluster="c"), spend=PAID)
    async with calling(wrong, DRAFTED) as (calls, job):
        with pytest.raises(AgentLost, match="Joined, not Drafted"):
            await ask(calls, job)
        assert job.account.spent == Spend()
        await ask(calls, job)  # its reply would not come while the first one holds the only place


async def test_a_reply_whose_block_fails_is_acknowledged_all_the_same():
    async with calling(DRAFTED, DRAFTED) as (calls, job):
        with pytest.raises(ZeroDivisionError):
            async with calls.ask(job, A, request(), expects=Drafted, key="k", seconds=5.0):
                raise ZeroDivisionError
        await ask(calls, job)


async def test_the_job_knows_whom_it_asked():
    async with calling(DRAFTED) as (calls, job):
        await ask(calls, job)
    assert job.asked == {A}
