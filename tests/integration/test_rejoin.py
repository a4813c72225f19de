"""Members that an Agent-0 which was away asks to join again tell where they stand: nothing is done or paid twice."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from foa.agents.brain import Revised, Revision
from foa.app.clock import SystemClock
from foa.app.fabric import MemoryFabric
from foa.app.stores import memory_stores
from foa.messages import Begin, Joined, RoundPost, SoFar, TaskComplete
from foa.phases.refine import Cluster
from foa.state.memory import MemoryReplies
from foa.transport.memory import MemoryHub
from foa.values.budget import Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, ClusterId, SubtaskId
from foa.values.plan import Subtask
from foa.values.task import Submission, Task
from tests.agents import asking, hosting
from tests.integration.federations import BUDGET, TASK, Script
from tests.integration.test_agent_rounds import CLUSTER, cluster, draft, join, member
from tests.integration.test_restart import agent_zero, agents_and_client

A, B = AgentId("a"), AgentId("b")


class Slow(Script):
    """Thinks about its peers until a test lets it go on, and counts how often it did."""

    def __init__(self) -> None:
        super().__init__(stop=False)
        self.revising, self.go_on = asyncio.Event(), asyncio.Event()
        self.revisions = 0

    async def revise(self, revision: Revision) -> Revised:
        self.revisions += 1
        self.revising.set()
        await self.go_on.wait()
        return Revised(draft=revision.own, spend=self.spend)


class WatchedReplies(MemoryReplies):
    """Tells when something is kept."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self._news = asyncio.Condition()

    async def keep(self, key: str, reply: bytes) -> None:
        await super().keep(key, reply)
        async with self._news:
            self._news.notify_all()

    async def has(self, key: str) -> None:
        async with self._news:
            while await self.find(key) is None:
                await self._news.wait()


@pytest.mark.parametrize("ended", [True, False], ids=["ended-while-away", "goes-on-after"])
async def test_rounds_that_agent_zero_missed_are_neither_waited_for_nor_held_again(tmp_path: Path, ended: bool):
    fabric, replies = MemoryFabric(MemoryHub()), WatchedReplies()
    stores = replace(memory_stores(SystemClock()), replies=replies)
    brains: dict[str, Script] = {"a": Slow(), "b": Slow()}
    slow = [brain for brain in brains.values() if isinstance(brain, Slow)]
    async with asyncio.timeout(20), agents_and_client(tmp_path, fabric, stores, brains) as client:  # a round has 20 s
        async with agent_zero(tmp_path, fabric, stores):
            job = await client.submit(Submission(task=Task(text=TASK), budget=BUDGET))
            for brain in slow:
                await brain.revising.wait()
        if ended:  # on a fabric in memory nothing is kept for who is away: all posts from here on are lost
            for brain in slow:
                brain.go_on.set()
            for name in brains:
                await replies.has(f"{name}/{job.id}.s1.c1/rounds")
        async with agent_zero(tmp_path, fabric, stores):
            for brain in slow:
                brain.go_on.set()
            result = await job.result()
    assert result.status == "done"
    assert (result.fallbacks, result.lost) == ((), {})
    assert [view.rounds for view in result.clusters] == [2, 2]
    assert [brain.revisions for brain in slow] == [2, 2]
    # 2 proposals, 2 × 2 drafts, 2 × 2 revisions, each one call
    assert result.bill.calls == 10


async def test_a_member_that_has_finished_says_so_also_after_its_host_started_again():
    hub, replies = MemoryHub(), WatchedReplies()
    drafts = {"a": draft("red apples"), "b": draft("red apples")}
    async with asking(hub) as asker:
        async with hosting(hub, member("a"), member("b"), replies=replies), cluster(hub, asker, drafts) as channel:
            await channel.say(Begin(cluster=CLUSTER, members=("a", "b")))
            complete = await channel.complete()
            for name in drafts:
                await replies.has(f"{name}/{CLUSTER}/rounds")
        async with hosting(hub, member("a"), member("b"), replies=replies):
            said = await asker.ask("a", join(list(drafts), drafts["a"]), key=f"{CLUSTER}/join")
    assert isinstance(said.body, Joined)
    assert said.body.so_far == SoFar(round=2, draft=complete.draft, spend=Spend(), over=True, complete=complete)


async def test_a_dead_member_costs_the_others_one_deadline_and_not_one_a_round():
    drafts = {"a": draft("red"), "b": draft("green"), "dead": draft("blue")}

    def stubborn(revision: Revision) -> Revised:
        return Revised(draft=Draft(answer=f"{revision.own.answer} more{revision.round}", confidence=0.5))

    hub, loop = MemoryHub(), asyncio.get_running_loop()
    async with (
        asking(hub) as asker,
        hosting(hub, member("a", revise=stubborn), member("b", revise=stubborn)),
        cluster(hub, asker, drafts, silent=["dead"], round_seconds=0.5) as channel,
    ):
        began = loop.time()
        await channel.say(Begin(cluster=CLUSTER, members=tuple(drafts)))
        complete = await channel.complete()
    assert complete.rounds == 3
    assert loop.time() - began < 2 * 0.5


# ── what Agent-0 believes ──────────────────────────────────────────────────────────────────────────────────────────────
def heard(*posts: tuple[str, int, str]) -> Cluster:
    """A cluster of a and b whose posts (agent, round, answer) Agent-0 heard."""
    at_work = Cluster(
        id=ClusterId("c"),
        subtask=Subtask(id=SubtaskId("s1"), text="x"),
        weights={A: 0.5, B: 0.5},
        drafts={A: Draft(answer="red"), B: Draft(answer="red")},
        most=3,
    )
    for agent, number, answer in posts:
        post = RoundPost(cluster="c", agent=agent, round=number, draft=Draft(answer=answer), spend=Spend(calls=1))
        assert at_work.hear(post)
    return at_work


def says(agent: str, answer: str, *, rounds: int = 1, of: tuple[str, ...] = ("a", "b")) -> TaskComplete:
    return TaskComplete(
        cluster="c", agent=agent, rounds=rounds, consensus=True, draft=Draft(answer=answer), confidence=0.5, heard=of
    )


BOTH = (("a", 1, "red apples"), ("b", 1, "red apples"))


@pytest.mark.parametrize(
    ("complete", "why"),
    [
        (says("a", "red apples"), ""),
        (says("b", "red apples"), "does not represent"),
        (says("a", "something else"), "never posted"),
        (says("a", "red apples", rounds=2), "never posted"),
        (says("a", "red apples", rounds=0), "never posted"),
        (says("c", "red apples"), "no member"),
        (says("b", "red apples", of=("b",)), "does not represent"),
    ],
)
def test_a_task_complete_counts_only_where_the_posts_say_the_same(complete: TaskComplete, why: str):
    found = heard(*BOTH).doubt(complete)
    assert why in found
    assert bool(found) == bool(why)


def test_a_round_that_was_reported_and_comes_again_is_paid_once():
    at_work = heard()
    at_work.take_up(A, SoFar(round=1, draft=Draft(answer="red apples"), spend=Spend(calls=3)))
    post = RoundPost(cluster="c", agent="a", round=1, draft=Draft(answer="late"), spend=Spend(calls=3))
    assert not at_work.hear(post)
    assert at_work.spends[A] == Spend(calls=3)
    assert at_work.drafts[A].answer == "red apples"


def test_a_round_beyond_the_last_has_no_voice():
    post = RoundPost(cluster="c", agent="a", round=4, draft=Draft(answer="late"))
    assert not heard(*BOTH).hear(post)
