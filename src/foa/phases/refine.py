"""Phase 4: a cluster refines its drafts in at most k rounds on its own channel; Agent-0 holds the clock (Alg. 4).

    Agent-0 ── Join ──► every member        (subscribe, then answer Joined)
    Agent-0 ── Begin ─► channel             (who is there: the others have no voice)
    members ◄─ RoundPost × rounds ─► members
    member  ── TaskComplete ─► channel      (the one that all members compute as the representative)

Whatever members do, it ends: after k rounds by their own count, or at the deadline by Agent-0's, which then takes the
representative of the posts it heard itself.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import msgspec

from foa.calls import Calls
from foa.errors import AgentLost, AgentRefused, BadMessage, BudgetExceeded
from foa.job import Done, Job
from foa.messages import Begin, ChannelMessage, Join, Joined, Member, RoundPost, TaskComplete, decode, encode
from foa.plan.consensus import representative
from foa.ports import Delivery, Transport
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.draft import AgentDraft, Draft
from foa.values.ids import AgentId, ClusterId
from foa.values.plan import Subtask
from foa.values.publication import Filter, Publication
from foa.values.result import ClusterView

_CHANNEL = cast("type[ChannelMessage]", ChannelMessage)  # a union is no type to the type checker


class Refined(msgspec.Struct, frozen=True, kw_only=True):
    """How a cluster ended."""

    view: ClusterView
    draft: Draft
    confidence: float


class Posts:
    """What Agent-0 heard on one channel: each member's latest voice, and what its rounds cost."""

    def __init__(self, cluster: ClusterId, members: Sequence[str], drafts: Mapping[AgentId, AgentDraft]) -> None:
        self.cluster = cluster
        self.members = frozenset(members)
        self.drafts: dict[AgentId, Draft] = {AgentId(m): drafts[AgentId(m)].draft for m in members}
        self.rounds: dict[AgentId, int] = {}
        self.spends: dict[AgentId, Spend] = {}

    def hear(self, post: RoundPost) -> bool:
        """Take a post; False where it has no voice here or repeats a round."""
        agent = AgentId(post.agent)
        if post.cluster != self.cluster or agent not in self.members or post.round <= self.rounds.get(agent, 0):
            return False
        self.rounds[agent] = post.round
        self.spends[agent] = self.spends.get(agent, Spend()) + post.spend
        if post.draft is not None:
            self.drafts[agent] = post.draft
        return True


def alone(cluster: ClusterId, subtask: Subtask, kept: AgentDraft) -> Done[Refined]:
    """A cluster of one has nobody to refine with: its draft stands."""
    view = ClusterView(
        id=cluster, subtask=subtask.id, members=(kept.agent,), rounds=0, consensus=True, representative=kept.agent
    )
    return Done(value=Refined(view=view, draft=kept.draft, confidence=kept.draft.confidence))


async def refine(
    job: Job,
    calls: Calls,
    transport: Transport,
    *,
    cluster: ClusterId,
    subtask: Subtask,
    drafts: Mapping[AgentId, AgentDraft],
    weights: Mapping[AgentId, float],
    budget: Budget,
) -> Done[Refined]:
    """Hold the rounds of one cluster of two or more.

    Args:
        job: the running job.
        calls: the way to the agents.
        transport: for the channel.
        cluster: its id; the channel is named for it.
        subtask: what is being refined.
        drafts: the members' drafts.
        weights: the members' reputations, 0 to 1.
        budget: what each member may spend on all rounds together.

    Returns:
        The representative draft, and what the rounds cost. Never an error: with nobody left the best draft stands.
    """
    seconds = min(job.parameters.refine_timeout, job.seconds_left)
    channel = Filter(topic_filter=job.topics.channel(cluster))
    async with transport.subscribe(channel) as inbox:
        there = await _join(job, calls, cluster, subtask, drafts, weights, budget, seconds)
        if len(there) < 2:
            return _stand_in(job, cluster, subtask, drafts, weights, Posts(cluster, sorted(drafts), drafts))
        await transport.publish(
            Publication(topic=channel.topic_filter, payload=encode(Begin(cluster=cluster, members=tuple(there))))
        )
        posts = Posts(cluster, there, drafts)
        try:
            async with asyncio.timeout(seconds):
                complete = await _listen(job, inbox, posts)
        except TimeoutError:
            job.fell_back(f"cluster {cluster} did not finish in {seconds:.0f} s: its best draft stands")
            return _stand_in(job, cluster, subtask, drafts, weights, posts)
    return _completed(subtask, posts, complete)


async def _join(
    job: Job,
    calls: Calls,
    cluster: ClusterId,
    subtask: Subtask,
    drafts: Mapping[AgentId, AgentDraft],
    weights: Mapping[AgentId, float],
    budget: Budget,
    seconds: float,
) -> list[str]:
    members = tuple(Member(agent=agent, weight=min(1.0, max(0.0, weights[agent]))) for agent in sorted(drafts))
    there: list[str] = []

    async def ask(agent: AgentId) -> None:
        request = Join(
            job=job.id,
            subtask=subtask.id,
            cluster=cluster,
            text=subtask.text,
            members=members,
            rounds=job.parameters.refine_rounds,
            round_seconds=min(job.parameters.round_seconds, seconds),
            quorum=job.parameters.quorum,
            gain=job.parameters.gain,
            policies=subtask.policies,
            draft=drafts[agent].draft,
            budget=budget,
        )
        try:
            wait = min(job.parameters.round_seconds, seconds)
            async with calls.ask(job, agent, request, key=f"{cluster}/join", seconds=wait) as answered:
                if isinstance(answered.body, Joined):
                    there.append(agent)
        except (AgentLost, AgentRefused) as loss:
            job.lose(agent, loss.reason, subtask=subtask.id)
        except BudgetExceeded as short:
            job.fell_back(f"{agent} does not refine {subtask.id}: {short}")

    async with asyncio.TaskGroup() as group:
        for agent in sorted(drafts):
            group.create_task(ask(agent), name=f"join[{cluster},{agent}]")
    return sorted(there)


async def _listen(job: Job, inbox: AsyncIterator[Delivery], posts: Posts) -> TaskComplete:
    """Hear the channel until a member of it says TASK_COMPLETE; what is not usable is passed over."""
    async for delivery in inbox:
        await delivery.acknowledge()
        try:
            message = decode(delivery.publication.payload, _CHANNEL)
        except BadMessage as error:
            job.fell_back(f"cluster {posts.cluster}: a message was passed over: {error}")
            continue
        match message:
            case RoundPost() if posts.hear(message):
                job.events.tell(
                    events.RoundPosted(
                        at=job.clock.now(),
                        cluster=posts.cluster,
                        agent=message.agent,
                        round=message.round,
                        stop=message.stop,
                    )
                )
            case TaskComplete() if message.cluster == posts.cluster and message.agent in posts.members:
                return message
            case _:
                pass
    raise TimeoutError


def _completed(subtask: Subtask, posts: Posts, complete: TaskComplete) -> Done[Refined]:
    view = ClusterView(
        id=posts.cluster,
        subtask=subtask.id,
        members=tuple(sorted(posts.members)),
        rounds=complete.rounds,
        consensus=complete.consensus,
        representative=complete.agent,
        heard=tuple(agent for agent in complete.heard if agent in posts.members),
    )
    refined = Refined(view=view, draft=complete.draft, confidence=complete.confidence)
    return Done(value=refined, spends={**posts.spends})


def _stand_in(
    job: Job,
    cluster: ClusterId,
    subtask: Subtask,
    drafts: Mapping[AgentId, AgentDraft],
    weights: Mapping[AgentId, float],
    posts: Posts,
) -> Done[Refined]:
    """No TASK_COMPLETE: Agent-0 takes the representative of what it heard, by the members' own function."""
    chosen = representative(posts.drafts, weights)
    view = ClusterView(
        id=cluster,
        subtask=subtask.id,
        members=tuple(sorted(drafts)),
        rounds=max(posts.rounds.values(), default=0),
        consensus=False,
        representative=chosen,
        heard=tuple(sorted(posts.rounds)),
    )
    draft = posts.drafts[chosen]
    return Done(value=Refined(view=view, draft=draft, confidence=draft.confidence), spends={**posts.spends})
