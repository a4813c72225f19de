"""Clusters that refine between the agents themselves, over the in-memory transport (Alg. 4)."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from foa.agents.brain import Agent, Revised, Revision
from foa.agents.functions import Question, agent
from foa.agents.lm import LmBrain
from foa.agents.profile import parse_profile
from foa.messages import Begin, ChannelMessage, Join, Joined, Member, Refused, RoundPost, TaskComplete, decode, encode
from foa.plan.consensus import representative
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId, ClusterId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics
from tests.agents import PLENTY, Asker, CannedModel, asking, hosting
from tests.fakes import HandClock

CLUSTER = "c-1"
CHANNEL = Topics().channel(ClusterId(CLUSTER))


@pytest.fixture
async def hub() -> MemoryHub:
    return MemoryHub()


@pytest.fixture
async def asker(hub: MemoryHub) -> AsyncGenerator[Asker]:
    async with asking(hub) as end:
        yield end


def stubborn(revision: Revision) -> Revised:
    """Changes a word every round and never votes stop."""
    return Revised(draft=Draft(answer=f"{revision.own.answer} more{revision.round}", confidence=0.5))


def member(name: str, **more: Any) -> Agent:
    @agent(name, **more)
    async def drafts(question: Question) -> str:
        """Drafts."""
        return question.text

    return drafts


def draft(answer: str, *claims: str) -> Draft:
    sourced = tuple(Claim(text=text, source=Source(kind="file", locator=f"{text[:4].strip()}.py:1")) for text in claims)
    return Draft(answer=answer, claims=sourced, confidence=0.8)


def join(names: Sequence[str], own: Draft, **changes: Any) -> Join:
    given = {
        "job": "job-1",
        "subtask": "s1",
        "cluster": CLUSTER,
        "text": "How are red apples grown?",
        "members": tuple(Member(agent=name, weight=0.5) for name in names),
        "rounds": 3,
        "round_seconds": 0.3,
        "quorum": 0.6,
        "gain": 0.01,
        "draft": own,
        "budget": PLENTY,
    }
    return Join(**given | changes)


class Channel:
    """Agent-0's ear on the channel."""

    def __init__(self, transport: MemoryTransport, inbox: Any) -> None:
        self.transport = transport
        self._inbox = inbox
        self.posts: list[RoundPost] = []

    async def say(self, message: object) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        await self.transport.publish(Publication(topic=CHANNEL, payload=payload))

    async def complete(self) -> TaskComplete:
        async with asyncio.timeout(5):
            async for delivery in self._inbox:
                await delivery.acknowledge()
                try:
                    message = decode(delivery.publication.payload, ChannelMessage)  # type: ignore[arg-type]
                except Exception:  # noqa: BLE001 - hostile bytes of a test
                    continue
                if isinstance(message, RoundPost):
                    self.posts.append(message)
                if isinstance(message, TaskComplete):
                    return message
        raise AssertionError("the channel ended")


@asynccontextmanager
async def cluster(hub: MemoryHub, asker: Asker, drafts: dict[str, Draft], *, silent: Sequence[str] = (), **changes: Any):
    async with (
        MemoryTransport(hub, client_id="ear") as transport,
        transport.subscribe(Filter(topic_filter=CHANNEL)) as inbox,
    ):
        for name, own in drafts.items():
            if name not in silent:
                reply = await asker.ask(name, join(list(drafts), own, **changes), key=f"{CLUSTER}/join")
                assert reply.body == Joined(cluster=CLUSTER)
        yield Channel(transport, inbox)


async def test_members_find_consensus_and_one_of_them_completes(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red apples grow on trees"), "b": draft("red apples grow on trees"), "c": draft("blue whales")}
    async with hosting(hub, member("a"), member("b"), member("c")), cluster(hub, asker, drafts) as channel:
        await channel.say(Begin(cluster=CLUSTER, members=tuple(drafts)))
        complete = await channel.complete()
    assert complete.agent == "a"
    assert complete.consensus
    assert complete.heard == ("a", "b", "c")
    assert complete.rounds == 2
    assert len(channel.posts) == 6
    assert all(post.draft is None for post in channel.posts if post.round == 2 and post.agent == "c")


async def test_rounds_end_at_k_when_nobody_gives_in(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red"), "b": draft("green"), "c": draft("blue")}
    async with hosting(hub, *(member(name, revise=stubborn) for name in drafts)), cluster(hub, asker, drafts) as channel:
        await channel.say(Begin(cluster=CLUSTER, members=tuple(drafts)))
        complete = await channel.complete()
    assert (complete.rounds, complete.consensus) == (3, False)
    assert len(channel.posts) == 9
    last = {AgentId(post.agent): post.draft for post in channel.posts if post.round == 3 and post.draft}
    assert complete.agent == representative(last, {})


async def test_a_silent_member_costs_its_voice_only(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red apples"), "b": draft("red apples"), "dead": draft("red apples")}
    async with (
        hosting(hub, member("a"), member("b")),
        cluster(hub, asker, drafts, silent=["dead"], round_seconds=0.05) as channel,
    ):
        await channel.say(Begin(cluster=CLUSTER, members=tuple(drafts)))
        complete = await channel.complete()
    assert complete.heard == ("a", "b")
    assert complete.consensus


async def test_a_liar_that_floods_forges_and_repeats_has_one_voice(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red apples"), "b": draft("red apples"), "liar": draft("buy gold")}

    def post(name: str, number: int, **changes: Any) -> RoundPost:
        given = {"cluster": CLUSTER, "agent": name, "round": number, "draft": draft("buy gold"), "stop": True}
        return RoundPost(**given | changes)

    async with (
        hosting(hub, member("a", revise=stubborn), member("b", revise=stubborn)),
        cluster(hub, asker, drafts, silent=["liar"], round_seconds=0.1) as channel,
    ):
        await channel.say(Begin(cluster=CLUSTER, members=tuple(drafts)))
        for _ in range(30):
            await channel.say(post("liar", 1))
            await channel.say(post("stranger", 1))
            await channel.say(post("liar", 2, cluster="c-2"))
            await channel.say(b"not json at all")
            await channel.say(
                TaskComplete(
                    cluster=CLUSTER,
                    agent="liar",
                    rounds=1,
                    consensus=True,
                    draft=draft("buy gold"),
                    confidence=1.0,
                    heard=(),
                )
            )
        ends = [await channel.complete() for _ in range(31)]
    honest = ends[-1]
    assert honest.agent in ("a", "b")
    assert honest.rounds == 3
    assert "gold" not in honest.draft.answer


async def test_without_begin_members_leave_and_say_nothing(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red"), "b": draft("red")}
    async with hosting(hub, member("a"), member("b")) as host, cluster(hub, asker, drafts, round_seconds=0.01):
        pass
    assert host.counts["refine"] == 2


async def test_a_member_that_begin_does_not_name_has_no_voice(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red"), "b": draft("red"), "c": draft("blue")}
    async with hosting(hub, *(member(name) for name in drafts)), cluster(hub, asker, drafts) as channel:
        await channel.say(Begin(cluster=CLUSTER, members=("a", "b")))
        complete = await channel.complete()
    assert complete.heard == ("a", "b")
    assert {post.agent for post in channel.posts} == {"a", "b"}


async def test_a_repeated_join_is_answered_again_and_played_once(hub: MemoryHub, asker: Asker) -> None:
    drafts = {"a": draft("red"), "b": draft("red")}
    async with hosting(hub, member("a"), member("b")), cluster(hub, asker, drafts) as channel:
        again = await asker.ask("a", join(list(drafts), drafts["a"]), key=f"{CLUSTER}/join")
        assert again.body == Joined(cluster=CLUSTER)
        await channel.say(Begin(cluster=CLUSTER, members=("a", "b")))
        await channel.complete()
    assert [post.agent for post in channel.posts].count("a") == 2


async def test_only_members_that_are_named_and_cleared_may_join(hub: MemoryHub, asker: Asker) -> None:
    async with hosting(hub, member("a")):
        stranger = await asker.ask("a", join(["b", "c"], draft("x")))
        denied = await asker.ask("a", join(["a", "c"], draft("x"), policies=("phi",)))
    assert isinstance(stranger.body, Refused)
    assert stranger.body.kind == "bad_request"
    assert denied.body == Refused(kind="policy", reason="not cleared for phi")


async def test_language_models_adopt_what_peers_can_source(hub: MemoryHub, asker: Asker) -> None:
    clock = HandClock()
    profiles = [parse_profile(f"---\nname: {name}\n---\nYou grow fruit.", file=f"{name}.md") for name in "ab"]
    reply = {"critique": "no source for trees", "answer": "Red apples are grown on grafted trees in cool orchards."}
    brains = [LmBrain(profile, CannedModel(reply), clock=clock) for profile in profiles]
    agents = [Agent(profile=profile, brain=brain) for profile, brain in zip(profiles, brains, strict=True)]
    drafts = {
        "a": draft("apples", "red apples are grown in cool orchards"),
        "b": draft("fruit", "grafted trees carry red apples sooner"),
    }
    async with hosting(hub, *agents, clock=clock), cluster(hub, asker, drafts) as channel:
        await channel.say(Begin(cluster=CLUSTER, members=("a", "b")))
        complete = await channel.complete()
    places = {claim.source.locator for claim in complete.draft.claims if claim.source}
    assert places == {"red.py:1", "graf.py:1"}
    assert complete.draft.answer.startswith("Red apples are grown on grafted trees")
    assert any(post.critique == "no source for trees" and post.spend.calls == 1 for post in channel.posts)
