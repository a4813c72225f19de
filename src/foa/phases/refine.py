"""Phase 4: a cluster refines its drafts in at most k rounds on its own channel; Agent-0 holds the clock (Alg. 4).

    Agent-0 ── Join ──► every member        (subscribe, then answer Joined)
    Agent-0 ── Begin ─► channel             (who is there: the others have no voice)
    members ◄─ RoundPost × rounds ─► members
    member  ── TaskComplete ─► channel      (the one that all members compute as the representative)

Whatever members do, it ends: after k rounds by their own count, or, when the channel falls silent or the deadline comes, by
Agent-0's, which then takes the representative of the posts it heard itself. A TASK_COMPLETE counts only where those posts
say the same. An Agent-0 that was away asks with the same Join; members tell where they stand, and nothing is done twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec

from foa.calls import Calls
from foa.errors import AgentLost, AgentRefused, BadMessage, BudgetExceeded
from foa.job import Done, Job
from foa.messages import Begin, ChannelMessage, Join, Joined, Member, RoundPost, SoFar, TaskComplete, decode, encode
from foa.plan.consensus import representative
from foa.ports import Delivery, Transport
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.draft import AgentDraft, Draft
from foa.values.ids import AgentId, ClusterId
from foa.values.plan import Subtask
from foa.values.publication import Filter, Publication
from foa.values.result import ClusterView

MAX_TROUBLES = 8  #: kinds of trouble on one channel that are said

_CHANNEL = cast("type[ChannelMessage]", ChannelMessage)  # a union is no type to the type checker


class Refined(msgspec.Struct, frozen=True, kw_only=True):
    """How a cluster ended."""

    view: ClusterView
    draft: Draft
    confidence: float


@dataclass(slots=True, kw_only=True)
class Cluster:
    """One cluster at work: who is in it, and what Agent-0 heard on its channel."""

    id: ClusterId
    subtask: Subtask
    weights: Mapping[AgentId, float]  #: reputation, 0 to 1
    drafts: dict[AgentId, Draft]  #: the last of each member
    most: int  #: k
    rounds: dict[AgentId, int] = field(default_factory=dict[AgentId, int])  #: the last round each posted in
    spends: dict[AgentId, Spend] = field(default_factory=dict[AgentId, Spend])  #: as each says
    troubles: set[str] = field(default_factory=set[str])  #: what was said about it already

    def take_up(self, agent: AgentId, so_far: SoFar) -> None:
        """Take what a member said while Agent-0 was away."""
        self.rounds[agent] = so_far.round
        self.drafts[agent] = so_far.draft
        self.spends[agent] = so_far.spend

    def hear(self, post: RoundPost) -> bool:
        """Take a post; False where it has no voice here or repeats a round."""
        agent = AgentId(post.agent)
        if post.cluster != self.id or agent not in self.drafts or not self.rounds.get(agent, 0) < post.round <= self.most:
            return False
        self.rounds[agent] = post.round
        self.spends[agent] = self.spends.get(agent, Spend()) + post.spend
        if post.draft is not None:
            self.drafts[agent] = post.draft
        return True

    def doubt(self, complete: TaskComplete) -> str:
        """Why a TASK_COMPLETE does not count, or nothing: it must follow from the posts that Agent-0 heard itself."""
        speaker, last = AgentId(complete.agent), complete.rounds
        if complete.cluster != self.id or speaker not in self.drafts:
            return f"{complete.agent} is no member"
        if not 1 <= last <= self.rounds.get(speaker, 0) or complete.draft != self.drafts[speaker]:
            return f"{speaker} says TASK_COMPLETE with what it never posted"
        posted = {agent for agent, number in self.rounds.items() if number >= last}
        voices = {agent: self.drafts[agent] for agent in posted & {AgentId(agent) for agent in complete.heard}}
        if 2 * len(voices) <= len(posted) or representative(voices, self.weights) != speaker:
            return f"{speaker} says TASK_COMPLETE and does not represent the others"
        return ""

    def ended(self, complete: TaskComplete | None = None) -> Refined:
        """How it ended: by TASK_COMPLETE, or without, by the members' own function over what was heard."""
        if complete is None:
            chosen = representative(self.drafts, self.weights)
            draft, rounds, heard = self.drafts[chosen], max(self.rounds.values(), default=0), sorted(self.rounds)
            return self._refined(chosen, draft, draft.confidence, rounds, heard, consensus=len(self.drafts) == 1)
        heard = [agent for agent in complete.heard if agent in self.drafts]
        return self._refined(
            complete.agent, complete.draft, complete.confidence, complete.rounds, heard, consensus=complete.consensus
        )

    def _refined(
        self, chosen: str, draft: Draft, confidence: float, rounds: int, heard: Iterable[str], *, consensus: bool
    ) -> Refined:
        view = ClusterView(
            id=self.id,
            subtask=self.subtask.id,
            members=tuple(sorted(self.drafts)),
            rounds=rounds,
            consensus=consensus,
            representative=chosen,
            heard=tuple(heard),
        )
        return Refined(view=view, draft=draft, confidence=confidence)


async def refine(
    job: Job,
    calls: Calls,
    transport: Transport,
    *,
    cluster: ClusterId,
    subtask: Subtask,
    drafts: Mapping[AgentId, AgentDraft],
    weights: Mapping[AgentId, float],
    parts: int,
) -> Done[Refined]:
    """Hold the rounds of one cluster; a cluster of one has nobody to refine with, its draft stands.

    Args:
        job: the running job.
        calls: the way to the agents.
        transport: for the channel.
        cluster: its id; the channel is named for it.
        subtask: what is being refined.
        drafts: the members' drafts, at least one.
        weights: the members' reputations, 0 to 1.
        parts: into how many shares the free budget is divided; each member may spend one on all its rounds.

    Returns:
        The representative draft, and what the rounds cost. Never an error: where no rounds can be held, or nobody is left,
        the best draft stands, and it is said.
    """
    at_work = Cluster(
        id=cluster,
        subtask=subtask,
        weights=weights,
        drafts={agent: kept.draft for agent, kept in drafts.items()},
        most=job.parameters.refine_rounds,
    )
    if len(drafts) == 1 or job.parameters.refine_rounds == 0:
        return Done(value=at_work.ended())
    seconds = min(job.parameters.refine_timeout, job.seconds_left)
    try:
        budget = job.account.share(parts, seconds=seconds)
        held = job.account.reserve_each(budget, drafts)
    except BudgetExceeded as short:
        job.fell_back(f"cluster {cluster} does not refine, its best draft stands: {short}")
        return Done(value=at_work.ended())
    try:
        ended = await _hold(job, calls, transport, at_work, budget, seconds)
    finally:
        settled = {agent: job.account.settle(hold, at_work.spends.get(agent, Spend())) for agent, hold in held.items()}
    for agent, one in settled.items():
        if one.over:
            job.fell_back(f"{agent} billed more than it was given for {cluster}: {one.over}; the rest is not paid")
    return Done(value=ended, spends={agent: one.charged for agent, one in settled.items()})


async def _hold(job: Job, calls: Calls, transport: Transport, cluster: Cluster, budget: Budget, seconds: float) -> Refined:
    channel = job.topics.channel(cluster.id)
    async with transport.subscribe(Filter(topic_filter=channel)) as inbox:
        there = await _join(job, calls, cluster, budget, seconds)
        if len(there) < 2:
            job.fell_back(f"cluster {cluster.id} does not refine, its best draft stands: fewer than two members joined")
            return cluster.ended()
        begun = {agent: so_far for agent, so_far in there.items() if so_far is not None}
        for agent, so_far in begun.items():
            cluster.take_up(agent, so_far)
        if (ended := _ended_before(cluster, begun)) is not None:
            return ended
        if begun:  # rounds that have begun take nobody in: a member that lost its own to a restart has no voice any more
            for agent in there.keys() - begun.keys():
                job.lose(agent, f"came back after the rounds of {cluster.id} had begun", subtask=cluster.subtask.id)
        begin = Begin(cluster=cluster.id, members=tuple(sorted(begun or there)))
        await transport.publish(Publication(topic=channel, payload=encode(begin)))
        try:
            async with asyncio.timeout(seconds):
                complete = await _listen(job, inbox, cluster)
        except TimeoutError:
            job.fell_back(f"cluster {cluster.id} did not finish in its time: its best draft stands")
            return cluster.ended()
        for agent in begin.members:
            if cluster.rounds.get(AgentId(agent), 0) < complete.rounds:
                job.lose(AgentId(agent), f"fell silent in the rounds of {cluster.id}", subtask=cluster.subtask.id)
        return cluster.ended(complete)


def _ended_before(cluster: Cluster, begun: Mapping[AgentId, SoFar]) -> Refined | None:
    """How the rounds ended while Agent-0 was away; None: they have not."""
    for so_far in begun.values():
        if so_far.complete is not None and not cluster.doubt(so_far.complete):
            return cluster.ended(so_far.complete)
    return cluster.ended() if begun and all(so_far.over for so_far in begun.values()) else None


async def _join(job: Job, calls: Calls, cluster: Cluster, budget: Budget, seconds: float) -> dict[AgentId, SoFar | None]:
    """Ask every member to the channel; gives those who came, and where they stand if the rounds have begun."""
    parameters, subtask = job.parameters, cluster.subtask
    members = tuple(
        Member(agent=agent, weight=min(1.0, max(0.0, cluster.weights.get(agent, 0.5)))) for agent in sorted(cluster.drafts)
    )
    wait = min(parameters.round_seconds, seconds)
    there: dict[AgentId, SoFar | None] = {}

    async def ask(agent: AgentId) -> None:
        request = Join(
            job=job.id,
            subtask=subtask.id,
            cluster=cluster.id,
            text=subtask.text,
            members=members,
            rounds=parameters.refine_rounds,
            round_seconds=wait,
            quorum=parameters.quorum,
            gain=parameters.gain,
            policies=subtask.policies,
            draft=cluster.drafts[agent],
            budget=budget,
        )
        try:
            key = f"{cluster.id}/join"
            async with calls.ask(job, agent, request, expects=Joined, key=key, seconds=wait, paid=True) as answered:
                if answered.body.cluster != cluster.id:
                    raise AgentLost(agent, f"joined the cluster {answered.body.cluster}, not {cluster.id}")
                there[agent] = answered.body.so_far
        except (AgentLost, AgentRefused) as loss:
            job.lose(agent, loss.reason, subtask=subtask.id)

    async with asyncio.TaskGroup() as group:
        for agent in sorted(cluster.drafts):
            group.create_task(ask(agent), name=f"join[{cluster.id},{agent}]")
    return there


async def _listen(job: Job, inbox: AsyncIterator[Delivery], cluster: Cluster) -> TaskComplete:
    """Hear the channel until its representative says TASK_COMPLETE; what is not usable is passed over.

    Raises:
        TimeoutError: no member was heard for two rounds' time: nobody is there any more, whoever else may be talking.
    """
    quiet = 2 * job.parameters.round_seconds
    async with asyncio.timeout(quiet) as patience:
        while True:
            delivery = await anext(inbox)
            await delivery.acknowledge()
            try:
                message = decode(delivery.publication.payload, _CHANNEL)
            except BadMessage as error:
                _trouble(job, cluster, "passed over", f"a message was passed over: {error}")
                continue
            match message:
                case RoundPost() if cluster.hear(message):
                    patience.reschedule(asyncio.get_running_loop().time() + quiet)
                    _tell(job, message)
                case TaskComplete():
                    if not (why := cluster.doubt(message)):
                        return message
                    _trouble(job, cluster, why, why)
                case _:
                    pass


def _trouble(job: Job, cluster: Cluster, kind: str, what: str) -> None:
    """Say what goes wrong on a channel, each kind of it once: a flood must not fill the trace."""
    if kind not in cluster.troubles and len(cluster.troubles) < MAX_TROUBLES:
        cluster.troubles.add(kind)
        job.fell_back(f"cluster {cluster.id}: {what}")


def _tell(job: Job, post: RoundPost) -> None:
    at = job.clock.now()
    job.events.tell(events.RoundPosted(at=at, cluster=post.cluster, agent=post.agent, round=post.round, stop=post.stop))
