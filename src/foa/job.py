"""One running job as every phase sees it: its saved steps, its events, its money, its clock.

once("route", Routed, run)  ──►  saved already?  ── yes ──► the saved result, nothing is run or paid again
                                      │ no
                                      ▼
                                 run it ──► save result and spend together ──► the result
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from foa.errors import BadMessage, FabricError, PublishRefused, StoreFailed
from foa.messages import MAX_PAYLOAD_BYTES
from foa.policy.account import Account
from foa.ports import Clock, Journal, Transport
from foa.values.budget import Spend
from foa.values.events import AgentLost, AnyEvent, FellBack
from foa.values.ids import AgentId, JobId, SubtaskId
from foa.values.parameters import Parameters
from foa.values.publication import Publication
from foa.values.task import Submission, Task
from foa.values.topics import Topics

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a cancelled job waits for the save of a paid result, seconds.
SAVE_SECONDS = 5.0
MAX_EVENTS_WAITING = 10_000  #: of one job
#: Least time between two saves of events while a job runs: nobody sees the difference, and the store's thread does.
EVENTS_APART_SECONDS = 0.02
#: What each agent was paid for one step.
Spends = Mapping[str, Spend]


class _Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A step as the journal keeps it."""

    value: msgspec.Raw
    spends: Mapping[str, Spend] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T]):
    """What a step gives back: its value, and what it paid to whom."""

    value: T
    spends: Spends = field(default_factory=dict[str, Spend])


async def to_its_end(work: Coroutine[Any, Any, T], *, seconds: float = SAVE_SECONDS) -> T:
    """Do work that a cancellation must not cut short: it has so many seconds more, then the cancellation goes on."""
    task = asyncio.ensure_future(work)  # noqa: TID251
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            async with asyncio.timeout(seconds):
                await task
        except (TimeoutError, FabricError) as error:
            log.warning("cancelled, and the last save failed: %s", error or f"not done in {seconds:g} s")
        raise


class Steps:
    """The saved steps of one job. A step that is saved is never run or paid again.

    Raises:
        BadMessage: a saved step is not one.
    """

    def __init__(self, journal: Journal, job: JobId, saved: Mapping[str, bytes]) -> None:
        self._journal = journal
        self._job = job
        self._saved = {name: self._decode(name, raw, _Saved) for name, raw in saved.items()}

    @property
    def spends(self) -> Mapping[str, Spend]:
        """What the saved steps paid, by agent."""
        total: dict[str, Spend] = {}
        for step in self._saved.values():
            for agent, spend in step.spends.items():
                total[agent] = total.get(agent, Spend()) + spend
        return total

    def spent_under(self, prefix: str) -> Spend:
        """What the saved steps whose name begins so paid, to whomever."""
        spends = (step.spends.values() for name, step in self._saved.items() if name.startswith(prefix))
        return sum((spend for each in spends for spend in each), Spend())

    def find(self, name: str, kind: type[T]) -> T | None:
        """The saved value of a step, or None.

        Raises:
            BadMessage: what was saved is of another shape (a journal of another release).
        """
        step = self._saved.get(name)
        return None if step is None else self._decode(name, step.value, kind)

    def under(self, prefix: str, kind: type[T]) -> list[T]:
        """The saved values of every step whose name begins so, in the order of saving.

        Raises:
            BadMessage: one of them is of another shape.
        """
        return [self._decode(name, step.value, kind) for name, step in self._saved.items() if name.startswith(prefix)]

    def _decode(self, name: str, raw: bytes | msgspec.Raw, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise BadMessage(f"job {self._job}: the saved step {name!r} is not readable: {error}") from error

    async def once(self, name: str, kind: type[T], run: Callable[[], Awaitable[Done[T]]]) -> T:
        """Give the saved value of this step; if there is none, run it and save what it returns, spend included.

        The save is shielded: a job that is cancelled while a paid result is being saved still keeps it.

        Raises:
            BadMessage: what was saved is of another shape.
            StoreFailed: the journal could not save; the step will run again.
        """
        found = self.find(name, kind)
        if found is not None:
            return found
        done = await run()
        await self.keep(name, done)
        return done.value

    async def keep(self, name: str, done: Done[T]) -> None:
        """Save a step's value and spend together."""
        step = _Saved(value=msgspec.Raw(msgspec.json.encode(done.value)), spends=done.spends)
        self._saved[name] = step
        await to_its_end(self._journal.save(self._job, name, msgspec.json.encode(step)))


class EventLog:
    """Progress of one job, in order: kept by the journal, carried on `foa/meta/{job_id}`. Telling never waits."""

    def __init__(self, journal: Journal, transport: Transport, topic: str, job: JobId) -> None:
        self._journal = journal
        self._transport = transport
        self._topic = topic
        self._job = job
        self._waiting: deque[AnyEvent] = deque()
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._closed = False

    def tell(self, event: AnyEvent) -> None:
        """Put an event in line. One too many, or told after `close`, is dropped and logged: progress must not stop work."""
        if self._closed or len(self._waiting) >= MAX_EVENTS_WAITING:
            log.warning("event dropped: closed, or %d are waiting", MAX_EVENTS_WAITING, extra={"job": self._job})
            return
        self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """No more events; `run` ends when those in line are written."""
        self._closed = True
        self._closing.set()
        self._news.set()

    async def run(self) -> None:
        """Write events as they come, until `close`."""
        while self._waiting or not self._closed:
            self._news.clear()
            payloads = [
                payload for event in self._waiting if len(payload := msgspec.json.encode(event)) <= MAX_PAYLOAD_BYTES
            ]
            if len(payloads) < len(self._waiting):
                log.warning("event dropped: over %d bytes", MAX_PAYLOAD_BYTES, extra={"job": self._job})
            self._waiting.clear()
            if payloads:
                await self._journal.note(self._job, *payloads)
            for payload in payloads:
                await self._publish(payload)
            await self._pause()

    async def _pause(self) -> None:
        """Until there is news, and then a moment more: a burst of events is one save. Closing ends the moment."""
        if not self._waiting and not self._closed:
            await self._news.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVENTS_APART_SECONDS):
                await self._closing.wait()

    async def _publish(self, payload: bytes) -> None:
        try:
            await self._transport.publish(Publication(topic=self._topic, payload=payload, qos=0))
        except PublishRefused as refusal:
            log.warning("event not published, the journal has it: %s", refusal, extra={"job": self._job})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything about one running job that more than one phase needs."""

    id: JobId
    submission: Submission
    parameters: Parameters
    topics: Topics
    steps: Steps
    events: EventLog
    account: Account
    clock: Clock
    began: float  #: seconds since the epoch, when the job was admitted
    fallbacks: list[str] = field(default_factory=list[str])
    asked: set[AgentId] = field(default_factory=set[AgentId])  #: everyone who was sent a request since the (re)start
    #: (subtask or "", agent) → how it was lost
    losses: dict[tuple[str, AgentId], str] = field(default_factory=dict[tuple[str, AgentId], str])
    #: those of the lost that no request reached: that is not their failure
    unasked: set[tuple[str, AgentId]] = field(default_factory=set[tuple[str, AgentId]])

    #: nodes of trainings that were told to have ended: (subtask, round, node)
    nodes_told: set[tuple[str, int, str]] = field(default_factory=set[tuple[str, int, str]])

    @property
    def task(self) -> Task:
        """What was asked."""
        return self.submission.task

    @property
    def seconds_left(self) -> float:
        """Wall clock until the deadline, at least 0."""
        return max(0.0, self.began + self.submission.budget.seconds - self.clock.now())

    @property
    def spent(self) -> Spend:
        """What the saved steps paid."""
        return sum(self.steps.spends.values(), Spend())

    @property
    def lost(self) -> dict[AgentId, str]:
        """Every agent that was lost on something, with the last reason."""
        return {agent: reason for (_, agent), reason in self.losses.items()}

    def lost_on(self, subtask: SubtaskId) -> dict[AgentId, str]:
        """Who was lost on this subtask."""
        return {agent: reason for (of, agent), reason in self.losses.items() if of == subtask}

    def fell_back(self, what: str) -> None:
        """Say that something less than asked for was done: trace, result and exit all know."""
        self.fallbacks.append(what)
        self.events.tell(FellBack(at=self.clock.now(), what=what))

    def lose(self, agent: AgentId, reason: str, *, subtask: SubtaskId | str = "", asked: bool = True) -> None:
        """Say that an agent's voice is gone for this subtask; not `asked`: it could do nothing about it."""
        event = AgentLost(at=self.clock.now(), subtask=subtask, agent=agent, reason=reason, asked=asked)
        self.remember_loss(event)
        self.events.tell(event)

    def remember_loss(self, event: AgentLost) -> None:
        """Take in a loss that was said, before a restart too."""
        place = (event.subtask, AgentId(event.agent))
        self.losses[place] = event.reason
        if event.asked:
            self.unasked.discard(place)
        else:
            self.unasked.add(place)


@contextlib.contextmanager
def one_error() -> Generator[None]:
    """Turn a group of errors of ours from inside into one: a failed store before all others, else the first.

    A group with a bug in it goes on as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, bugs = group.split(FabricError)
        if bugs is not None:
            raise
        stores = group.subgroup(StoreFailed)
        raise first_of(stores or group) from group


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error of a group, however deep."""
    found = group.exceptions[0]
    return first_of(found) if isinstance(found, BaseExceptionGroup) else found
