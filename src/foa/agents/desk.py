"""What happens to a request to an agent, from its arrival to its acknowledgement.

    decode ─► seen before? ─► stored reply
           ─► policy p_s ⊆ p_a ─► slot ─► brain ─► keep the reply ─► publish ─► acknowledge
    Refused: bad_request │ policy │ load │ budget │ model │ spec

At least once on the wire, once in work: a repeated request gets the stored reply, one that comes while the first is being
worked on waits for it. Whoever asks for a training hears of all its progress first, however often it is asked.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from logging import getLogger
from typing import Literal, cast

import msgspec

from foa.agents.brain import Answer, Trainer
from foa.agents.feed import Feeds, Listener
from foa.agents.memberships import Memberships
from foa.agents.meter import metered
from foa.agents.seat import Seat
from foa.agents.tasks import owning_tasks
from foa.errors import (
    BadInput,
    BadMessage,
    BudgetExceeded,
    FabricError,
    ModelReplyInvalid,
    PolicyDenied,
    PublishRefused,
    StoreFailed,
)
from foa.exchange import KEY_PROPERTY, MAX_KEY, PART_PROPERTY, answer
from foa.messages import (
    DraftRequest,
    Join,
    Joined,
    Propose,
    Refused,
    Reply,
    Request,
    SoFar,
    Stop,
    TrainProgress,
    TrainRequest,
    decode,
    encode,
)
from foa.policy.gate import enforcement, may_dispatch
from foa.ports import Clock, Delivery, Replies, Transport
from foa.values.budget import Budget, Spend
from foa.values.ids import AgentId, JobId
from foa.values.publication import Publication
from foa.values.topics import Topics

log = getLogger(__name__)

_REQUEST = cast("type[Request]", Request)  # a union is a type to msgspec, not yet to `type[]`

#: Requests whose reply is worked out, once for each key.
Worked = Propose | DraftRequest | TrainRequest

MAX_REPEATS = 8  #: of a request that is being worked on; they wait for the same reply
MARGIN = 0.95  #: share of a request's time that the brain is given; the rest is for the way back
#: Refusals that another attempt under the same key may not meet again; they are not kept.
_PASSING = ("load", "bad_request", "budget")


class Desk:
    """Answers the requests to the agents of one host.

    Args:
        seats: the agents.
        transport: the host's connection.
        topics: topic names.
        replies: where replies are kept, by deduplication key.
        clock: for deadlines and latencies.
        group: owns the work.
    """

    def __init__(
        self,
        seats: Mapping[AgentId, Seat],
        *,
        transport: Transport,
        topics: Topics,
        replies: Replies,
        clock: Clock,
        group: asyncio.TaskGroup,
    ) -> None:
        self._seats = seats
        self._transport = transport
        self._topics = topics
        self._replies = replies
        self._clock = clock
        self._group = group
        self._memberships = Memberships(transport, topics, replies, group)
        self._working: dict[str, asyncio.Event] = {}  #: by agent and key, requests being answered
        self._feeds: Feeds[TrainProgress] = Feeds()  #: by agent and key, trainings
        self._jobs: dict[JobId, dict[asyncio.Task[None], tuple[AgentId, Delivery]]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.counts: Counter[str] = Counter()  #: requests by what became of them

    async def idle(self) -> None:
        """Return when nothing is being worked on."""
        await self._idle.wait()

    def drop(self) -> None:
        """Cancel what is still being worked on; its requests are not acknowledged, so they come again."""
        for tasks in self._jobs.values():
            for task in tasks:
                task.cancel()
        self._memberships.close()

    async def take(self, agent: AgentId, delivery: Delivery) -> None:
        """Take one request off an agent's topic; the work goes on in a task of its own."""
        seat = self._seats[agent]
        try:
            request = decode(delivery.publication.payload, _REQUEST)
        except BadMessage as error:
            await self._refuse(seat, delivery, Refused(kind="bad_request", reason=str(error)[:500]))
            return
        if isinstance(request, Stop):
            await self._stop(seat, JobId(request.job))
            await delivery.acknowledge()
            return
        if self._is_full(seat, request, delivery):
            await self._refuse(seat, delivery, Refused(kind="load", reason=f"{seat.pending} requests are here already"))
            return
        job = JobId(request.job)
        work = self._work_on(seat, request, delivery)
        task = self._group.create_task(self._contained(agent, work), name=f"{type(request).__name__}[{agent}]")
        self._idle.clear()
        self._jobs.setdefault(job, {})[task] = (agent, delivery)
        seat.pending += 1
        task.add_done_callback(lambda done: self._ended(job, done))

    def _is_full(self, seat: Seat, request: Worked | Join, delivery: Delivery) -> bool:
        if isinstance(request, TrainRequest) and 0 < self._feeds.listeners(_key(seat, request, delivery)) < MAX_REPEATS:
            return False  # who asks again while it trains takes nobody's place
        return seat.full or (isinstance(request, Join) and self._memberships.full)

    def _work_on(self, seat: Seat, request: Worked | Join, delivery: Delivery) -> Coroutine[object, object, None]:
        if isinstance(request, Join):
            return self._join(seat, request, delivery)
        if isinstance(request, TrainRequest):
            return self._train(seat, request, delivery)
        return self._answer(seat, request, delivery)

    async def _contained(self, agent: AgentId, work: Coroutine[object, object, None]) -> None:
        """Do one request's work. A request that fails here is not acknowledged: it comes again."""
        try:
            await work
        except FabricError as error:
            log.warning("agent %s could not answer: %s", agent, error)
        except Exception:  # the host supervises its agents: one's bug must not stop the others
            log.exception("agent %s failed", agent)

    # ── propose, draft and train ───────────────────────────────────────────────────────────────────────────────────────
    async def _answer(self, seat: Seat, request: Worked, delivery: Delivery) -> None:
        await self._send(delivery, await self._once(seat, request, _key(seat, request, delivery)))

    async def _once(self, seat: Seat, request: Worked, key: str) -> bytes:
        """The reply to a request; one of this key that is being worked on is waited for."""
        while (first := self._working.get(key)) is not None:
            await first.wait()
        done = self._working[key] = asyncio.Event()
        try:
            return await self._reply(seat, request, key)
        finally:
            del self._working[key]
            done.set()

    async def _train(self, seat: Seat, request: TrainRequest, delivery: Delivery) -> None:
        """Answer when the training has ended, after all of its progress."""
        key = _key(seat, request, delivery)
        async with self._feeds.listen(key, lambda: _told(seat, request)) as feed:
            async with owning_tasks() as group:
                group.create_task(self._relay(feed, delivery), name=f"progress[{key}]")
                reply = await self._once(seat, request, key)
                feed.close()
            await self._send(delivery, reply)

    async def _relay(self, feed: Listener[TrainProgress], delivery: Delivery) -> None:
        async for progress in feed.follow():
            try:
                await answer(self._transport, delivery, encode(progress), user_properties=(PART_PROPERTY,))
            except (BadMessage, PublishRefused) as error:
                log.warning("progress could not be told: %s", error)

    async def _reply(self, seat: Seat, request: Worked, key: str) -> bytes:
        """The stored reply, or a new one, stored. A store that fails is no reason to be silent."""
        agent = seat.profile.agent_id
        try:
            reply = await self._replies.find(key)
        except StoreFailed as error:  # it may have been answered and paid before: another agent should do it
            self.counts["load"] += 1
            return encode(Reply(agent=agent, body=Refused(kind="load", reason=str(error)[:2_000])))
        if reply is not None:
            self.counts["repeated"] += 1
            return reply
        found = await self._work(seat, request, key)
        reply = encode(Reply(agent=agent, body=found.body, spend=found.spend))
        if not (isinstance(found.body, Refused) and found.body.kind in _PASSING):
            try:
                await self._replies.keep(key, reply)
            except StoreFailed as error:
                log.warning("agent %s would have to think again if it were asked again: %s", agent, error)
        return reply

    async def _work(self, seat: Seat, request: Worked, key: str) -> Answer:
        """Ask the brain, in a slot and in time; whatever goes wrong becomes a refusal that says what, and what it cost."""
        kind = _KINDS[type(request)]
        if (refused := await self._gate(seat, kind, request.task.policies, job=request.job)) is not None:
            return Answer(body=refused)
        with metered() as spent:
            found = await self._think(seat, request, key, spent)
        self.counts[found.body.kind if isinstance(found.body, Refused) else kind] += 1
        return found

    async def _think(self, seat: Seat, request: Worked, key: str, spent: Callable[[], Spend]) -> Answer:
        came = self._clock.monotonic()
        try:
            async with asyncio.timeout(request.budget.seconds), seat.slot():
                began = self._clock.monotonic()
                asked = replace_budget(request, seconds=request.budget.seconds - (began - came))
                found = await self._ask(seat, asked, key)
                seat.took(self._clock.monotonic() - began)
        except TimeoutError:
            return _refused("budget", f"not ready in the {request.budget.seconds:g} s of the request", spent())
        except BudgetExceeded as error:
            return _refused("budget", str(error), spent())
        except PolicyDenied as error:
            return _refused("policy", str(error), spent())
        except ModelReplyInvalid as error:
            return _refused("model", str(error), error.spend)
        except FabricError as error:
            return _refused("model", str(error), spent())
        except Exception as error:  # as in `_contained`, and the asker is told
            log.exception("agent %s failed at %s", seat.profile.agent_id, _KINDS[type(request)])
            return _refused("model", f"an error in the agent itself: {type(error).__name__}", spent())
        return found

    async def _ask(self, seat: Seat, request: Worked, key: str) -> Answer:
        if not isinstance(request, TrainRequest):
            return await (seat.brain.propose(request) if isinstance(request, Propose) else seat.brain.draft(request))
        if not isinstance(seat.brain, Trainer):
            raise BadInput("it says that it trains, and has no `train`")
        return await seat.brain.train(request, lambda progress: self._feeds.add(key, progress))

    # ── refine ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _join(self, seat: Seat, join: Join, delivery: Delivery) -> None:
        agent = seat.profile.agent_id
        refused = await self._gate(seat, "refine", join.policies, job=join.job)
        if refused is None and agent not in {member.agent for member in join.members}:
            refused = Refused(kind="bad_request", reason=f"agent {agent} is not among the members of {join.cluster}")
        if refused is not None:
            await self._refuse(seat, delivery, refused)
            return

        async def joined(so_far: SoFar | None) -> None:
            body = Joined(cluster=join.cluster, so_far=so_far)
            await self._send(delivery, encode(Reply(agent=agent, body=body)))

        if await self._memberships.play(seat, join, joined):
            self.counts["refine"] += 1

    # ── policy, replies, jobs ──────────────────────────────────────────────────────────────────────────────────────────
    async def _gate(self, seat: Seat, kind: str, policies: tuple[str, ...], *, job: str) -> Refused | None:
        """Check p_s ⊆ p_a once more where the work is done; a denial is told to the auditors."""
        profile = seat.profile
        if kind not in profile.kinds:
            return Refused(
                kind="bad_request", reason=f"this agent does not answer {kind!r}, only {', '.join(profile.kinds)}"
            )
        verdict = may_dispatch(needs=policies, cleared=profile.policies)
        if verdict:
            return None
        event = enforcement(
            verdict,
            at=self._clock.now(),
            gate="dispatch",
            agent=profile.agent_id,
            job=job,
            request=kind,
            labels=policies,
        )
        try:
            await self._transport.publish(Publication(topic=self._topics.enforcement(), payload=encode(event)))
        except PublishRefused as error:
            log.warning("a denial could not be told to the auditors: %s", error)
        return Refused(kind="policy", reason=verdict.reason)

    async def _refuse(self, seat: Seat, delivery: Delivery, refused: Refused) -> None:
        self.counts[refused.kind] += 1
        await self._send(delivery, encode(Reply(agent=seat.profile.agent_id, body=refused)))

    async def _send(self, delivery: Delivery, reply: bytes) -> None:
        """Reply, then acknowledge; a reply that may not be sent is told in the log, and its request does not come again."""
        try:
            await answer(self._transport, delivery, reply)
        except (BadMessage, PublishRefused) as error:
            self.counts["unsent"] += 1
            log.warning("a reply could not be sent: %s", error)
        await delivery.acknowledge()

    def _ended(self, job: JobId, task: asyncio.Task[None]) -> None:
        tasks = self._jobs[job]
        agent, _ = tasks.pop(task)
        self._seats[agent].pending -= 1
        if not tasks:
            self._jobs.pop(job, None)
        if not self._jobs:
            self._idle.set()

    async def _stop(self, seat: Seat, job: JobId) -> None:
        """Drop the agent's work of a job; its requests are acknowledged, so that they do not come again."""
        agent = seat.profile.agent_id
        dropped = {task: delivery for task, (whose, delivery) in self._jobs.get(job, {}).items() if whose == agent}
        for task in dropped:
            task.cancel()
        for delivery in dropped.values():
            await delivery.acknowledge()
        self.counts["stopped"] += len(dropped)
        await seat.brain.forget(job)


_KINDS = {Propose: "propose", DraftRequest: "draft", TrainRequest: "train"}


def replace_budget(request: Worked, *, seconds: float) -> Worked:
    """Give the request with the time that is left for the work itself."""
    budget = request.budget
    left = Budget(usd=budget.usd, tokens=budget.tokens, calls=budget.calls, seconds=max(0.0, seconds * MARGIN))
    return msgspec.structs.replace(request, budget=left)


async def _told(seat: Seat, request: TrainRequest) -> Sequence[TrainProgress]:
    return await seat.brain.told(request) if isinstance(seat.brain, Trainer) else ()


def _refused(kind: Literal["policy", "budget", "model"], reason: str, spend: Spend) -> Answer:
    return Answer(body=Refused(kind=kind, reason=reason[:2_000]), spend=spend)


def _key(seat: Seat, request: Worked, delivery: Delivery) -> str:
    """The deduplication key, in the agent's own name space; made of the request's names where the sender gave none."""
    given = next((value for name, value in delivery.publication.user_properties if name == KEY_PROPERTY), "")
    if not given or len(given) > MAX_KEY:
        kind = _KINDS[type(request)]
        what = kind if isinstance(request, Propose) else f"{kind}/{request.subtask}/{request.attempt}"
        given = f"{request.job}/{what}"
    return f"{seat.profile.agent_id}/{given}"
