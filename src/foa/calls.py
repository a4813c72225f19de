"""Agent-0's requests to agents: one reservation, one key, one deadline each; a lost agent is an error with its name.

ask ─► reserve money ─► publish on foa/agents/{id}/tasks ─► wait ─► Reply ─► settle money ─► the caller saves ─► PUBACK
                                                         ├► parts before it ─► `Parts`, as they come
                                                         └► silence, last will, nonsense ─► AgentLost
"""

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from foa.errors import AgentLost, AgentRefused, BadMessage, BudgetExceeded, PublishRefused, StoreFailed
from foa.exchange import Exchange
from foa.job import Done, Job
from foa.messages import (
    Drafted,
    DraftRequest,
    Input,
    Join,
    Joined,
    Propose,
    Proposed,
    Refused,
    Reply,
    Stop,
    Trained,
    TrainRequest,
    decode,
    encode,
)
from foa.ports import Transport
from foa.values.budget import Budget, Spend
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Subtask
from foa.values.publication import Publication

B = TypeVar("B", Proposed, Drafted, Trained, Joined)
R = TypeVar("R", DraftRequest, TrainRequest)
T = TypeVar("T")
#: What an agent is asked and replies to.
Asked = Propose | DraftRequest | TrainRequest | Join

#: What a reply costs that only says yes.
NOTHING = Budget(usd=0.0, tokens=0, calls=0, seconds=0.0)
#: How much longer Agent-0 waits than the agent was given, so that a reply at the last moment still counts, seconds.
GRACE_SECONDS = 1.0
#: How many agents that left are remembered, so that a flood of last wills does not fill the memory.
MAX_GONE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Generic[B]):
    """An agent's usable reply. Save it before the `ask` block ends: that is what acknowledges it."""

    body: B
    spend: Spend  #: what the agent is paid: never more than was reserved


class Parts(Protocol):
    """Hears what an agent sends before its reply, and what that costs."""

    def due(self, billed: Spend | None) -> Spend:
        """What the request is charged where the reply bills so much in all; None: no reply came, the parts are due."""
        ...

    async def take(self, payload: bytes) -> None:
        """Take one; what it raises ends the request."""
        ...


class Calls:
    """Requests to agents over one Exchange."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        self._exchange = exchange
        self._transport = transport
        self._waiting: dict[AgentId, set[asyncio.Timeout]] = {}
        self._gone: OrderedDict[AgentId, None] = OrderedDict()
        self._back: dict[AgentId, asyncio.Event] = {}  #: of agents that somebody waits to have back

    @property
    def waiting(self) -> int:
        """How many agents are waited for."""
        return len(self._waiting)

    def agent_left(self, agent: AgentId) -> None:
        """End every wait for this agent now, and ask it nothing more: its last will arrived, nobody will answer."""
        self._gone[agent] = None
        while len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)
        for limit in self._waiting.get(agent, ()):
            if not limit.expired():  # its deadline may have come in this very turn of the loop
                limit.reschedule(asyncio.get_running_loop().time())

    def agent_is_here(self, agent: AgentId) -> None:
        """It was heard of again."""
        self._gone.pop(agent, None)
        if (waited := self._back.pop(agent, None)) is not None:
            waited.set()

    async def returned(self, agent: AgentId, *, seconds: float) -> bool:
        """Wait until an agent that left is heard of again; False: not in so many seconds."""
        if agent not in self._gone:
            return True
        waited = self._back.setdefault(agent, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await waited.wait()
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def ask(
        self,
        job: Job,
        agent: AgentId,
        request: Asked,
        *,
        expects: type[B],
        key: str,
        seconds: float,
        paid: bool = False,
        parts: Parts | None = None,
    ) -> AsyncGenerator[Answered[B]]:
        """Ask one agent; inside the block its reply is there but not acknowledged.

        Args:
            job: whose budget pays.
            agent: who is asked.
            request: the message; its `budget` is what is reserved.
            expects: what the reply must be.
            key: deduplication key: the same key again gets the stored reply and costs nothing.
            seconds: how long the agent has.
            paid: the request's budget is reserved by the caller, and the reply itself costs nothing.
            parts: hears what comes before the reply; None: nothing does.

        Raises:
            AgentLost: silence until the deadline, its last will (also before it was asked), a request that the broker does
                not take, or a reply that is not usable, which is not paid.
            AgentRefused: it declined; what that cost is paid.
            BudgetExceeded: the job cannot pay for it; nothing was sent.
        """
        if agent in self._gone:
            raise AgentLost(agent, "left before it was asked", asked=False, left=True)
        reservation = job.account.reserve(NOTHING if paid else request.budget)
        billed: Spend | None = None
        try:
            reply, acknowledge = await self._reply(job, agent, request, key=key, seconds=seconds, parts=parts)
            body = reply.body
            if not isinstance(body, expects | Refused):
                await acknowledge()
                raise AgentLost(agent, f"answered with {type(body).__name__}, not {expects.__name__}")
            billed = reply.spend
        finally:
            due = (billed or Spend()) if parts is None else parts.due(billed)
            settled = job.account.settle(reservation, due)
        if settled.over:
            job.fell_back(f"{agent} billed more than it was given for {key}: {settled.over}; the rest is not paid")
        if isinstance(body, Refused):
            await acknowledge()
            raise AgentRefused(agent, f"{body.kind}: {body.reason}", spend=settled.charged)
        try:
            yield Answered(body=body, spend=settled.charged)
        except StoreFailed:
            raise  # not saved: it comes again
        except BaseException:
            await acknowledge()  # one that is never acknowledged holds back all that come after it
            raise
        await acknowledge()

    async def _reply(
        self, job: Job, agent: AgentId, request: Asked, *, key: str, seconds: float, parts: Parts | None
    ) -> tuple[Reply, Callable[[], Awaitable[None]]]:
        limit = asyncio.timeout(seconds + GRACE_SECONDS)
        waiting = self._waiting.setdefault(agent, set())
        waiting.add(limit)
        job.asked.add(agent)
        began = job.clock.monotonic()
        try:
            async with limit:
                delivery = await self._exchange.request(
                    job.topics.tasks(agent),
                    encode(request),
                    key=key,
                    seconds=seconds + GRACE_SECONDS,
                    user_properties=_properties(request),
                    on_part=None if parts is None else parts.take,
                )
        except TimeoutError as error:
            if job.clock.monotonic() - began < seconds:
                raise AgentLost(agent, "left while it was working", left=True) from error
            raise AgentLost(agent, f"no reply in {math.ceil(seconds)} s") from error
        except PublishRefused as error:
            raise AgentLost(agent, f"could not be asked: {error}", asked=False) from error
        finally:
            waiting.discard(limit)
            if not waiting:
                self._waiting.pop(agent, None)
        try:
            reply = decode(delivery.publication.payload, Reply)
        except BadMessage as error:
            await delivery.acknowledge()
            raise AgentLost(agent, f"its reply is not usable: {error}") from error
        if reply.agent != agent:
            await delivery.acknowledge()
            raise AgentLost(agent, f"its reply came in the name of {reply.agent!r}")
        return reply, delivery.acknowledge

    async def stop(self, job: Job, *agents: AgentId) -> None:
        """Tell these agents, or everyone who was asked, that a job is over for them: they drop its work. QoS 0."""
        payload = encode(Stop(job=job.id))
        for agent in agents or sorted(job.asked):
            with contextlib.suppress(PublishRefused):
                await self._transport.publish(Publication(topic=job.topics.tasks(agent), payload=payload, qos=0))


def about(kind: type[R], job: Job, subtask: Subtask, *, inputs: Sequence[Input], attempt: int, budget: Budget) -> R:
    """The request of this kind about a subtask of a job, with the reports it stands on and what it may spend."""
    return kind(
        job=job.id,
        subtask=subtask.id,
        attempt=attempt,
        text=subtask.text,
        task=job.task,
        inputs=tuple(inputs),
        budget=budget,
    )


async def or_lost(
    job: Job, agent: AgentId, ask: Callable[[], Awaitable[T]], *, subtask: SubtaskId, attempt: int, what: str
) -> T | None:
    """What an agent gives when it is asked about a subtask; None: it is lost, and that is said.

    A refusal that cost something is kept, so that after a restart nobody is asked, or paid, again.

    Args:
        job: the running job.
        agent: who is asked.
        ask: asks it.
        subtask: what about.
        attempt: which team's turn it is.
        what: it is asked for, in words.
    """
    refused = f"refused/{subtask}/{attempt}/{agent}"
    try:
        if (before := job.steps.find(refused, str)) is not None:
            raise AgentRefused(agent, before)
        return await ask()
    except AgentLost as loss:
        job.lose(agent, loss.reason, subtask=subtask, asked=loss.asked)
    except AgentRefused as refusal:
        if refusal.spend != Spend():
            await job.steps.keep(refused, Done(value=refusal.reason, spends={agent: refusal.spend}))
        job.lose(agent, refusal.reason, subtask=subtask)
    except BudgetExceeded as short:
        job.lose(agent, f"not asked for {what}: {short}", subtask=subtask, asked=False)
    return None


def _properties(request: Asked) -> tuple[tuple[str, str], ...]:
    """What brokers, bridges and auditors can read without opening the payload."""
    shown = [("foa-job", request.job), ("foa-budget-usd", f"{request.budget.usd:.6f}")]
    if not isinstance(request, Propose):
        shown.append(("foa-subtask", request.subtask))
    if isinstance(request, DraftRequest | TrainRequest):
        shown.append(("foa-attempt", str(request.attempt)))
    return tuple(shown)
