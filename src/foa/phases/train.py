"""Phase 2 where a subtask is a training: one agent of the kind "train" leads it, and its rounds are unrolled as they come.

    TrainRequest ─► the server agent ─► TrainProgress: round-1/profile … round-1/credit, round-2/profile … ─► Trained
                                          └► each node that ended is a saved step and charged, once, however often it is told

Agent-0 does not run the nodes; it saves, charges and shows them, and stops the training when it costs more than it may.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from foa.calls import Calls, about, or_lost
from foa.errors import AgentLost, AgentRefused, BadMessage, BudgetExceeded
from foa.job import Done, Job
from foa.messages import Input, Trained, TrainProgress, TrainRequest, decode
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.draft import AgentDraft
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.result import Report

log = logging.getLogger(__name__)

MAX_ROUNDS = 1_000  #: of one training that are unrolled; its own report has them all
MAX_NODES = 16 * MAX_ROUNDS  #: of one training that are kept
MAX_VALUE_BYTES = 64_000  #: of what one node gave, as it is saved
MAX_KEPT_BYTES = 64_000_000  #: of what all nodes of one training gave, since this process began
MAX_RETURNS = 5  #: how often a server agent may be lost and go on


class TrainedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a training's round as the journal keeps it."""

    subtask: str
    attempt: Annotated[int, msgspec.Meta(ge=1)]
    agent: str  #: who led
    round: int
    node: str
    said: str  #: what it gave, in words
    value: msgspec.Raw = msgspec.Raw(b"null")  #: what it gave
    credits: Mapping[str, float] = {}  #: site → what it brought
    spend: Spend = Spend()


async def gather_training(
    job: Job,
    calls: Calls,
    subtask: Subtask,
    team: Sequence[AgentId],
    *,
    inputs: Sequence[Input],
    attempt: int,
    budget: Budget,
) -> tuple[AgentDraft, ...]:
    """Have the first of the team train, and follow it to its end; it has as long as the job has.

    A server agent whose connection was lost is waited for as long as `FOA_RETURN_SECONDS` says, and asked the same again: it
    goes on where it was.

    Args:
        job: the running job.
        calls: the way to the agents.
        subtask: what is to be trained for.
        team: who leads it, best first.
        inputs: the reports of its predecessors.
        attempt: 1 for the first server agent, counted up for those that take over.
        budget: what it may spend.

    Returns:
        Its report; nothing where it was lost, and why is in the job's `lost`.
    """
    agent = team[0]
    rounds = _Rounds(job, subtask, agent, attempt, budget)
    rounds.retell()
    request = about(TrainRequest, job, subtask, inputs=inputs, attempt=attempt, budget=budget)

    async def ask() -> AgentDraft:
        step = f"draft/{subtask.id}/{attempt}/{agent}"
        if (saved := job.steps.find(step, AgentDraft)) is not None:
            return saved
        key = f"{job.id}/{subtask.id}/train/{attempt}"
        asking = calls.ask(job, agent, request, expects=Trained, key=key, seconds=job.seconds_left, parts=rounds)
        try:
            async with asking as answered:
                kept = _kept(agent, answered.body, rounds.whole(answered.spend))
                await job.steps.keep(step, Done(value=kept, spends={agent: answered.spend.beyond(rounds.now)}))
        except BudgetExceeded as short:
            if not rounds.over:
                raise
            await calls.stop(job, agent)
            raise AgentLost(agent, f"its training was stopped: {short}", asked=False) from short
        except AgentRefused as refusal:
            raise AgentRefused(agent, refusal.reason, spend=refusal.spend.beyond(rounds.now)) from refusal
        return kept

    async def ask_and_wait() -> AgentDraft:
        for _ in range(MAX_RETURNS):
            try:
                return await ask()
            except AgentLost as loss:
                if not loss.left or not await calls.returned(
                    agent, seconds=min(job.parameters.return_seconds, job.seconds_left)
                ):
                    raise
                job.fell_back(f"{agent} left while it trained for {subtask.id}, and goes on")
                rounds.again()
        return await ask()

    job.events.tell(events.TrainStarted(at=job.clock.now(), subtask=subtask.id, agent=agent))
    found = await or_lost(job, agent, ask_and_wait, subtask=subtask.id, attempt=attempt, what="a training")
    return () if found is None else (found,)


def report_training(subtask: Subtask, kept: AgentDraft, *, lost: Mapping[AgentId, str]) -> Report:
    """The report of a training: what its server agent says, with its figures."""
    return Report(
        subtask=subtask.id,
        text=subtask.text,
        answer=kept.draft.answer,
        claims=kept.draft.claims,
        confidence=kept.draft.confidence,
        by=kept.agent,
        agents=(kept.agent,),
        lost={str(agent): reason for agent, reason in lost.items()},
        figures=kept.figures,
    )


def _kept(agent: AgentId, trained: Trained, spend: Spend) -> AgentDraft:
    return AgentDraft(agent=agent, draft=trained.draft, spend=spend, figures=trained.figures)


class _Rounds:
    """The rounds of one training as they are told: each node is saved, charged and shown once."""

    def __init__(self, job: Job, subtask: Subtask, agent: AgentId, attempt: int, budget: Budget) -> None:
        self._job = job
        self._subtask = subtask.id
        self._agent = agent
        self._attempt = attempt
        self._budget = budget
        self._prefix = f"train/{subtask.id}/{attempt}/{agent}/"
        self._cut = False  #: whether it was said that more comes than is kept
        self._heard: set[tuple[int, str, str]] = set()  #: (round, node, state), since this process began
        self._bytes = 0
        self._settled = Spend()  #: of what was charged, what earlier requests have settled
        self.before = job.steps.spent_under(self._prefix)  #: what its nodes were charged before this process began
        self.charged = Spend()  #: and since then
        self.over = False  #: it would cost more than it may

    @property
    def now(self) -> Spend:
        """What its nodes were charged since the last request."""
        return self.charged.beyond(self._settled)

    def again(self) -> None:
        """The same is asked once more: what was charged is settled."""
        self._settled = self.charged

    def due(self, billed: Spend | None) -> Spend:
        """See `Parts`: the nodes, and what of the whole bill they do not cover."""
        return self.now if billed is None else self.now + billed.beyond(self.before + self.charged)

    def whole(self, spend: Spend) -> Spend:
        """What the training cost over all requests, where the last one was charged so much."""
        return self.before + self._settled + spend

    async def take(self, payload: bytes) -> None:
        """See `Parts`.

        Raises:
            BudgetExceeded: with this node it costs more than the request may.
            StoreFailed: it cannot be saved.
        """
        try:
            told = decode(payload, TrainProgress)
        except BadMessage as error:
            log.warning("progress of a training is passed over: %s", error, extra={"job": self._job.id})
            return
        if (told.agent, told.job, told.subtask) != (self._agent, self._job.id, self._subtask):
            log.warning("progress of another training came in the name of %s", told.agent, extra={"job": self._job.id})
        elif told.round > MAX_ROUNDS or len(self._heard) >= 2 * MAX_NODES:
            self._say_cut()
        elif (heard := (told.round, told.node, told.state)) not in self._heard:
            self._heard.add(heard)
            await self._take(told)

    async def _take(self, told: TrainProgress) -> None:
        if self._job.steps.find(step := f"{self._prefix}round-{told.round}/{told.node}", TrainedNode) is None:
            if told.state == "ended":
                await self._job.steps.keep(step, Done(value=self._node(told), spends=self._charge(told.spend)))
            self._tell(told.round, told.node, told.state, told.said, told.spend)

    def retell(self) -> None:
        """Tell of the nodes that were saved and not told when the process stopped."""
        for node in self._job.steps.under(self._prefix, TrainedNode):
            if (self._subtask, node.round, node.node) not in self._job.nodes_told:
                self._tell(node.round, node.node, "ended", node.said, node.spend)

    def _tell(self, number: int, node: str, state: Literal["began", "ended"], said: str, spend: Spend) -> None:
        job, at = self._job, self._job.clock.now()
        if state == "ended":
            job.nodes_told.add((self._subtask, number, node))
        told = events.TrainNode(
            at=at, subtask=self._subtask, agent=self._agent, round=number, node=node, state=state, said=said, spend=spend
        )
        job.events.tell(told)
        if spend != Spend():
            job.events.tell(events.Spent(at=at, total=job.spent))

    def _charge(self, spend: Spend) -> dict[str, Spend]:
        after, most = self.charged + spend, self._budget
        if after.usd > most.usd or after.tokens > most.tokens or after.calls > most.calls:
            self.over = True
            raise BudgetExceeded(
                f"it costs more than the US$ {most.usd:.6f}, {most.tokens} tokens and {most.calls} calls that it was given"
            )
        self.charged = after
        return {self._agent: spend}

    def _node(self, told: TrainProgress) -> TrainedNode:
        self._bytes += len(told.value)
        small = len(told.value) <= MAX_VALUE_BYTES and self._bytes <= MAX_KEPT_BYTES
        return TrainedNode(
            subtask=self._subtask,
            attempt=self._attempt,
            agent=self._agent,
            round=told.round,
            node=told.node,
            said=told.said,
            value=told.value if small else msgspec.Raw(b"null"),
            credits=told.credits if told.node == "credit" else {},
            spend=told.spend,
        )

    def _say_cut(self) -> None:
        if not self._cut:
            self._cut = True
            self._job.fell_back(f"only the first {MAX_ROUNDS:,} rounds of {self._subtask} are unrolled; its report has all")
