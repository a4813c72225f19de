"""A member of a cluster: at most k rounds with its peers, on their own channel (Alg. 4).

    Begin ─► round 1: post the own draft
             round r: read the posts of round r-1 ─► revise ─► post what changed, with a vote ─► hear the others
             stop: quorum │ marginal gain │ k │ budget │ nobody else left
         ─► everyone computes the representative of the same posts; that one posts TASK_COMPLETE

Every wait has the round's deadline. A lost message or a dead member costs its voice, not the cluster; what floods, forges
or comes twice is counted and ignored.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from logging import getLogger

import msgspec

from foa.agents.brain import Brain, Peer, Revised, Revision
from foa.agents.rounds import Rounds, Verdict
from foa.agents.rules import revise_by_rule
from foa.errors import FabricError
from foa.messages import Begin, ChannelMessage, Join, RoundPost, SoFar, TaskComplete, encode
from foa.plan.consensus import agreement, moved, representative
from foa.ports import Transport
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, ClusterId, JobId
from foa.values.publication import Publication

log = getLogger(__name__)

THINKING = 0.7  #: share of a round in which the brain may revise; the rest is for hearing the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the rounds ended for one member."""

    rounds: int  #: how many it took part in; 0: Begin never came, or named it not
    reason: str  #: quorum, gain, rounds, budget, alone, or why there were none
    consensus: bool = False
    representative: AgentId | None = None
    spend: Spend = Spend()
    ignored: Counter[str]  #: posts that did not count, by reason


class Member:
    """One agent's part in one cluster. `hear` takes what the channel brings; `run` plays the rounds."""

    def __init__(self, agent: AgentId, join: Join, brain: Brain, *, transport: Transport, topic: str) -> None:
        self._agent = agent
        self._join = join
        self._brain = brain
        self._transport = transport
        self._topic = topic
        self._weights = {AgentId(member.agent): member.weight for member in join.members}
        self._rounds: Rounds | None = None
        self._early: list[RoundPost] = []  #: posts that overtook Begin
        self._news = asyncio.Event()
        self._own = join.draft
        self._spend = Spend()
        self._began = 0.0
        self._so_far = SoFar(round=0, draft=join.draft)

    @property
    def so_far(self) -> SoFar | None:
        """What it has said; None before Begin."""
        return self._so_far if self._rounds is not None else None

    # ── hearing ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def hear(self, message: ChannelMessage) -> None:
        """Take one message of the channel. Never waits."""
        match message:
            case Begin() if self._rounds is None and self._is_mine(message):
                self._open(message)
            case RoundPost() if self._rounds is not None:
                if not self._rounds.accept(message) and self._rounds.complete(self._rounds.current):
                    self._news.set()
            case RoundPost() if len(self._early) < 4 * len(self._weights):
                self._early.append(message)
            case _:
                pass  # TASK_COMPLETE is for Agent-0: a member ends by its own count, whoever claims to speak for all

    def _is_mine(self, begin: Begin) -> bool:
        """Whether it names members of the Join alone: whoever does not know them is not the Agent-0 that sent it."""
        return begin.cluster == self._join.cluster and self._weights.keys() >= set(begin.members)

    def _open(self, begin: Begin) -> None:
        named = frozenset(AgentId(agent) for agent in begin.members)
        self._rounds = Rounds(
            cluster=ClusterId(self._join.cluster),
            own=self._agent,
            members=named,
            weights=self._weights,
            rounds=self._join.rounds,
            quorum=self._join.quorum,
            gain=self._join.gain,
        )
        for post in self._early:
            self._rounds.accept(post)
        self._early.clear()
        self._news.set()

    # ── playing ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def run(self, *, begin_seconds: float) -> Outcome:
        """Play the rounds; ends after at most `begin_seconds` + k × `round_seconds`.

        Args:
            begin_seconds: how long to wait for Begin.

        Raises:
            PublishRefused: the broker does not let this member post.
        """
        try:
            async with asyncio.timeout(begin_seconds):
                await self._news.wait()
        except TimeoutError:
            return Outcome(rounds=0, reason="Begin did not come", ignored=Counter())
        rounds = self._rounds
        if rounds is None or self._agent not in rounds.members:
            return Outcome(rounds=0, reason="Begin does not name this agent", ignored=Counter())
        self._began = _now()
        number, verdict = 0, Verdict(stop=False, consensus=False, reason="")
        while not verdict.stop:
            number += 1
            await self._round(rounds, number)
            verdict = rounds.verdict(number)
            if not verdict.stop and (short := self._short()):
                verdict = Verdict(stop=True, consensus=False, reason=f"budget: {short}")
        chosen = await self._complete(rounds, number, verdict)
        self._so_far = msgspec.structs.replace(self._so_far, over=True)
        return Outcome(
            rounds=number,
            reason=verdict.reason,
            consensus=verdict.consensus,
            representative=chosen,
            spend=self._spend,
            ignored=rounds.ignored,
        )

    async def _round(self, rounds: Rounds, number: int) -> None:
        """Revise, post, and hear the others until all have posted or the round's deadline."""
        rounds.current = number
        self._news.clear()
        deadline = _now() + max(0.001, self._join.round_seconds)
        before = self._own
        revised = Revised(draft=before) if number == 1 else await self._revise(rounds, number, deadline)
        self._own = revised.draft
        self._spend = self._spend + revised.spend
        post = RoundPost(
            cluster=self._join.cluster,
            agent=self._agent,
            round=number,
            draft=revised.draft if number == 1 or revised.draft != before else None,
            critique=revised.critique[:2_000],
            stop=revised.stop,
            moved=1.0 if number == 1 else moved(before, revised.draft),
            spend=revised.spend,
        )
        rounds.own_post(post)
        # before it is posted: who asks now and hears the post too counts it once, by its round
        self._so_far = SoFar(round=number, draft=self._own, spend=self._spend)
        try:
            async with asyncio.timeout_at(deadline):
                await self._transport.publish(Publication(topic=self._topic, payload=encode(post)))
                while not rounds.complete(number):
                    await self._news.wait()
                    self._news.clear()
        except TimeoutError:
            pass  # who is silent loses its voice in this round

    async def _revise(self, rounds: Rounds, number: int, deadline: float) -> Revised:
        known = rounds.drafts(number - 1)
        peers = tuple(
            Peer(
                agent=agent,
                weight=self._weights[agent],
                draft=draft,
                critique=rounds.critique(number - 1, agent),
            )
            for agent, draft in known.items()
            if agent != self._agent
        )
        seconds = max(0.001, (deadline - _now()) * THINKING)
        revision = Revision(
            job=JobId(self._join.job),
            cluster=ClusterId(self._join.cluster),
            text=self._join.text,
            round=number,
            own=self._own,
            own_weight=self._weights[self._agent],
            peers=peers,
            budget=self._left(seconds),
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._brain.revise(revision)
        except TimeoutError:
            why = "not ready in time"
        except FabricError as error:
            why = str(error)[:300]
        log.info("agent %s revises by rule: %s", self._agent, why)
        voted = revise_by_rule(revision)
        return replace(voted, critique=f"{voted.critique} (by rule: {why})".strip())

    async def _complete(self, rounds: Rounds, number: int, verdict: Verdict) -> AgentId:
        """Compute the representative as every member does; if it is this one, say TASK_COMPLETE."""
        drafts: dict[AgentId, Draft] = rounds.drafts(number)
        chosen = representative(drafts, self._weights)
        if chosen == self._agent:
            draft = drafts[chosen]
            share = agreement(drafts, self._weights)[chosen]
            complete = TaskComplete(
                cluster=self._join.cluster,
                agent=self._agent,
                rounds=number,
                consensus=verdict.consensus,
                draft=draft,
                confidence=round(min(1.0, draft.confidence * (0.5 + 0.5 * share)), 4),
                heard=rounds.ever_heard(),
            )
            self._so_far = msgspec.structs.replace(self._so_far, complete=complete)
            await self._transport.publish(Publication(topic=self._topic, payload=encode(complete)))
        return chosen

    # ── budget ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _left(self, seconds: float) -> Budget:
        given, spent = self._join.budget, self._spend
        return Budget(
            usd=max(0.0, given.usd - spent.usd),
            tokens=max(0, given.tokens - spent.tokens),
            calls=max(0, given.calls - spent.calls),
            seconds=seconds,
        )

    def _short(self) -> str:
        """Name the part of the budget that is used up; a part that was never given is not used up."""
        given, spent = self._join.budget, self._spend
        if 0 < given.calls <= spent.calls:
            return "calls"
        if 0 < given.tokens <= spent.tokens:
            return "tokens"
        if spent.usd > 0.0 and spent.usd >= given.usd:
            return "money"
        if 0.0 < given.seconds <= _now() - self._began:
            return "time"
        return ""


def _now() -> float:
    """Seconds of the event loop's clock, the one that `asyncio.timeout` reads."""
    return asyncio.get_running_loop().time()
