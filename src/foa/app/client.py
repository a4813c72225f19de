"""The client's side of the fabric: submit a job, follow its events, await its result, cancel it."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import cast

from foa.errors import BadMessage, Unreachable
from foa.messages import Cancel, Submit, decode, encode
from foa.ports import Transport
from foa.values.events import AnyEvent
from foa.values.ids import JobId, new_job_id
from foa.values.publication import Filter, Publication
from foa.values.result import Result
from foa.values.task import Submission
from foa.values.topics import Topics

_EVENT = cast("type[AnyEvent]", AnyEvent)  # a union is no type to the type checker
MAX_EVENTS = 100_000  #: of one job that a follower keeps; the journal has them all


class JobHandle:
    """One submitted job as its client sees it."""

    def __init__(self, job: JobId) -> None:
        self.id = job
        self._events: list[AnyEvent] = []
        self._news = asyncio.Event()
        self._result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    async def result(self) -> Result:
        """The result, as soon as there is one.

        Raises:
            BadMessage: what arrived as the result is not one.
            Unreachable: the connection to the fabric was closed first.
        """
        return await asyncio.shield(self._result)

    async def events(self) -> AsyncIterator[AnyEvent]:
        """Every event from the first, as they come, until the job has ended."""
        seen = 0
        while True:
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._result.done():
                return
            self._news.clear()
            await self._news.wait()

    async def begun(self) -> None:
        """Return as soon as anything was heard of the job."""
        while not self._events and not self._result.done():
            self._news.clear()
            await self._news.wait()

    def hear(self, topic: str, payload: bytes, topics: Topics) -> bool:
        """Take one message about this job; True when it is over."""
        try:
            if topic == topics.result(self.id):
                self._settle(decode(payload, Result))
            elif len(self._events) < MAX_EVENTS:
                self._events.append(decode(payload, _EVENT))
        except BadMessage as error:
            if topic == topics.result(self.id):
                self._settle(error)
        self._news.set()
        return self._result.done()

    def close(self) -> None:
        """No more will be heard."""
        self._settle(Unreachable(f"the connection was closed before job {self.id} ended; `foa jobs show` may know more"))
        self._news.set()

    def _settle(self, outcome: Result | Exception) -> None:
        if self._result.done():
            return
        if isinstance(outcome, Result):
            self._result.set_result(outcome)
        else:
            self._result.set_exception(outcome)
            self._result.exception()  # nobody has to ask for it


class Client:
    """Submits jobs to any Agent-0 of one root. Use it as `async with`."""

    def __init__(self, transport: Transport, topics: Topics) -> None:
        self._transport = transport
        self._topics = topics
        self._tasks = asyncio.TaskGroup()
        self._followed: dict[JobHandle, asyncio.Task[None]] = {}

    @property
    def following(self) -> int:
        """How many jobs it listens to."""
        return len(self._followed)

    async def __aenter__(self) -> "Client":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in list(self._followed.values()):
            task.cancel()
        seen = (kind, error, trace) if isinstance(error, asyncio.CancelledError) else (None, None, None)
        await self._tasks.__aexit__(*seen)

    async def submit(self, submission: Submission, *, job: JobId | None = None, seconds: float = 30.0) -> JobHandle:
        """Hand a job in; returns as soon as an Agent-0 has taken it.

        Args:
            submission: the task and its budget.
            job: its id; a new one by default. The same id again is the same job.
            seconds: how long to wait for an Agent-0.

        Raises:
            Unreachable: no Agent-0 took it in time.
        """
        handle = await self.follow(job or new_job_id())
        try:
            await self._hand_in(handle, submission, seconds)
        except BaseException:
            if (following := self._followed.get(handle)) is not None:
                following.cancel()  # nobody has the handle, so nobody would ever listen
                await asyncio.wait([following])
            raise
        return handle

    async def _hand_in(self, handle: JobHandle, submission: Submission, seconds: float) -> None:
        payload = encode(Submit(job=handle.id, submission=submission))
        try:
            async with asyncio.timeout(seconds):
                await self._transport.publish(Publication(topic=self._topics.jobs(), payload=payload))
                await handle.begun()
        except TimeoutError as error:
            raise Unreachable(
                f"no orchestrator took the job in {seconds:.0f} s: start one with `foa orchestrator` on the same broker"
            ) from error

    async def follow(self, job: JobId) -> JobHandle:
        """Follow a job by its id, from now on; its result is there even if it ended earlier (retained)."""
        handle = JobHandle(job)
        ready = asyncio.Event()
        self._followed[handle] = self._tasks.create_task(self._follow(handle, ready), name=f"follow[{job}]")
        await ready.wait()
        return handle

    async def cancel(self, job: JobId, *, reason: str = "") -> None:
        """Ask for the end of a job; its result will say `cancelled`."""
        payload = encode(Cancel(job=job, reason=reason))
        await self._transport.publish(Publication(topic=self._topics.cancel(job), payload=payload))

    async def _follow(self, handle: JobHandle, ready: asyncio.Event) -> None:
        filters = (
            Filter(topic_filter=self._topics.meta(handle.id), qos=0),
            Filter(topic_filter=self._topics.result(handle.id)),
        )
        try:
            async with self._transport.subscribe(*filters, capacity=10_000) as inbox:
                ready.set()
                async for delivery in inbox:
                    await delivery.acknowledge()
                    if handle.hear(delivery.publication.topic, delivery.publication.payload, self._topics):
                        return
        finally:
            ready.set()
            handle.close()
            self._followed.pop(handle, None)
