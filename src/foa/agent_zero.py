"""Agent-0 as a service: it takes jobs off the fabric when it has room, runs each, and answers every one it took.

foa/orchestrator/jobs ─► admit ─► journal ─► PUBACK ─► Orchestrator.run ─► journal ─► foa/result/{job} (retained)
foa/orchestrator/cancel/+ ─► stop the job, tell its agents
after a restart: every job that the journal calls running goes on
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from foa.errors import BadMessage, FabricError, JobCancelled, PublishRefused, StoreFailed
from foa.intake import admit
from foa.job import EventLog, Job, Steps, to_its_end
from foa.messages import MAX_PAYLOAD_BYTES, Cancel, Submit, decode
from foa.orchestrator import Orchestrator
from foa.policy.account import Account
from foa.policy.safety import SafetyFilter
from foa.ports import Clock, Delivery, JobRow, Journal, Transport
from foa.results import fitting, refused, stopped
from foa.values import events
from foa.values.budget import Spend
from foa.values.ids import RUN_PREFIX, JobId, OrchestratorId, WireId
from foa.values.parameters import Parameters
from foa.values.publication import Filter, Publication
from foa.values.result import Result
from foa.values.task import Submission
from foa.values.topics import Topics

log = logging.getLogger(__name__)

#: How long a result stays on the broker for a client that was away, seconds.
RESULT_EXPIRY_SECONDS = 86_400
#: Of a result in the journal: its own limit is a little above.
MAX_KEPT_BYTES = 16_000_000


@dataclass(slots=True)
class _Running:
    """A job that was taken: its work, and whether somebody asked for its end."""

    work: asyncio.Task[Result] | None = None
    cancelled: str | None = None  #: why
    begun: asyncio.Event = field(default_factory=asyncio.Event)  #: it has its slot, or is over

    def cancel(self, why: str) -> None:
        """End the work, not what follows it: an answer that is there already is still saved and published."""
        if self.cancelled is None:
            self.cancelled = why
            if self.work is not None:
                self.work.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentZero:
    """One orchestrator process. Any number of them share the jobs of one root."""

    id: OrchestratorId
    orchestrator: Orchestrator
    transport: Transport
    journal: Journal
    safety: SafetyFilter
    clock: Clock
    topics: Topics
    parameters: Parameters
    jobs_at_once: int = 8  #: more than these wait at the broker
    resume: bool = True  #: whether to go on with this id's unfinished jobs
    _running: dict[JobId, _Running] = field(default_factory=dict[JobId, _Running])

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. What is running then stays `running` in the journal and goes on at the next start.

        Args:
            ready: set when jobs can be submitted.

        Raises:
            StoreFailed: the journal cannot be read or written; what runs goes on at the next start.
        """
        slots = asyncio.Semaphore(self.jobs_at_once)
        unfinished = await self._unfinished() if self.resume else []
        async with (
            self.transport.subscribe(Filter(topic_filter=self.topics.cancel())) as cancels,
            asyncio.TaskGroup() as group,
        ):
            for row in reversed(unfinished):
                await self._resume(group, slots, row)
            group.create_task(self._hear_cancels(cancels), name="cancels")
            async with self.transport.subscribe(Filter(topic_filter=self.topics.shared_jobs())) as inbox:
                if ready is not None:
                    ready.set()
                await self._take(group, slots, inbox)

    async def _unfinished(self) -> list[JobRow]:
        """Jobs that this Agent-0 took and did not end: the last that admitted them has its id."""
        found: list[JobRow] = []
        for row in await self.journal.jobs(status="running", limit=100_000):
            owner = await owner_of(self.journal, row.job)
            if owner == self.id or (not owner and not row.job.startswith(RUN_PREFIX)):
                found.append(row)
        return found

    async def _take(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, inbox: AsyncIterator[Delivery]) -> None:
        async for delivery in inbox:
            async with slots:  # take work only when there is room for it
                pass
            try:
                submit = decode(delivery.publication.payload, Submit)
            except BadMessage as error:
                await self._refuse_unreadable(delivery, error)
            else:
                await self._admit(group, slots, JobId(submit.job), submit.submission)
            await delivery.acknowledge()

    async def _admit(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, job: JobId, submission: Submission) -> None:
        if not await self.journal.open(job, msgspec.json.encode(submission), text=submission.task.text[:200]):
            await self._answer_again(job)
            return
        (row,) = await self.journal.jobs(job=job)
        running = await self._begin(group, slots, self._job(row, submission, {}), row.text)
        if running is not None:
            await running.begun.wait()  # it has taken the slot that was free: the next one waits at the broker

    async def _begin(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, job: Job, text: str) -> _Running | None:
        """Start a job that may be done; None: it was refused."""
        try:
            admit(job.submission, self.safety)
        except FabricError as refusal:
            await self._refuse(job.id, refusal)
            return None
        return self._start(group, slots, job, text, resumed=False)

    async def _resume(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, row: JobRow) -> None:
        """Go on with a job; one that cannot be read any more fails alone."""
        try:
            submission = msgspec.json.decode(row.submission, type=Submission)
            job = self._job(row, submission, await self.journal.load(row.job))
        except (msgspec.MsgspecError, BadMessage) as error:
            await self._refuse(row.job, BadMessage(f"what the journal keeps of the job is not readable: {error}"))
            return
        told = await _told(self.journal, row.job)
        if _owner(told) == "":  # opened, and the process died before it was admitted
            await self._begin(group, slots, job, row.text)
            return
        _remember(job, told)
        self._start(group, slots, job, row.text, resumed=True)

    def _start(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, job: Job, text: str, *, resumed: bool) -> _Running:
        budget, at = job.submission.budget, self.clock.now()
        job.events.tell(events.Admitted(at=at, orchestrator=self.id, text=text, budget=budget, resumed=resumed))
        running = self._running[job.id] = _Running()
        group.create_task(self._run_one(job, running, slots), name=f"job[{job.id}]")
        return running

    def _job(self, row: JobRow, submission: Submission, saved: Mapping[str, bytes]) -> Job:
        steps = Steps(self.journal, row.job, saved)
        return Job(
            id=row.job,
            submission=submission,
            parameters=self.parameters,
            topics=self.topics,
            steps=steps,
            events=EventLog(self.journal, self.transport, self.topics.meta(row.job), row.job),
            account=Account(submission.budget, spent=sum(steps.spends.values(), Spend())),
            clock=self.clock,
            began=row.created_at,
        )

    async def _run_one(self, job: Job, running: _Running, slots: asyncio.Semaphore) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(job.events.run(), name=f"events[{job.id}]")
                try:
                    result = await self._answer(job, running, slots)
                finally:
                    job.events.close()
            await to_its_end(self._end(result))
        finally:
            running.begun.set()
            self._running.pop(job.id, None)

    async def _answer(self, job: Job, running: _Running, slots: asyncio.Semaphore) -> Result:
        """The job's result, whatever happens to it; only a stopping process and a broken journal get past here."""
        async with asyncio.TaskGroup() as group:
            running.work = group.create_task(self._work(job, running, slots), name=f"work[{job.id}]")
            if running.cancelled is not None:
                running.work.cancel()
        if not running.work.cancelled():
            result = running.work.result()
        elif running.cancelled is None:
            raise asyncio.CancelledError
        else:
            await self.orchestrator.stop_agents(job)
            result = stopped(job, "cancelled", running.cancelled, JobCancelled.exit_code)
        job.events.tell(events.Ended(at=self.clock.now(), status=result.status, error=result.error))
        return result

    async def _work(self, job: Job, running: _Running, slots: asyncio.Semaphore) -> Result:
        async with slots:
            running.begun.set()
            try:
                return await self.orchestrator.run(job)
            except StoreFailed:
                raise
            except Exception as bug:  # the supervisor: a bug in one job must not end the others
                log.exception("job failed", extra={"job": job.id})
                return stopped(job, "failed", f"a fault of Agent-0 itself ({type(bug).__name__}: {bug})", 1)

    async def _end(self, result: Result) -> None:
        """Publish, then close: a process that dies between the two publishes again."""
        await self._publish(result)
        kept = msgspec.json.encode(fitting(result, MAX_KEPT_BYTES))
        await self.journal.close_job(JobId(result.job_id), status=result.status, result=kept)

    async def _publish(self, result: Result) -> None:
        publication = Publication(
            topic=self.topics.result(JobId(result.job_id)),
            payload=msgspec.json.encode(fitting(result, MAX_PAYLOAD_BYTES)),
            retain=True,
            message_expiry_interval=RESULT_EXPIRY_SECONDS,
            content_type="application/json",
        )
        try:
            await self.transport.publish(publication)
        except PublishRefused:
            log.exception("the result cannot be published; the journal has it", extra={"job": result.job_id})

    async def _answer_again(self, job: JobId) -> None:
        """A submission that came before: if it ended, its result is published again; else it is running."""
        for row in await self.journal.jobs(job=job):
            if row.result is not None:
                await self._publish(msgspec.json.decode(row.result, type=Result))

    async def _refuse(self, job: JobId, refusal: FabricError) -> None:
        """End a job that does not begin."""
        result = refused(job, refusal)
        await self.journal.note(
            job, msgspec.json.encode(events.Ended(at=self.clock.now(), status="failed", error=result.error))
        )
        await self._end(result)

    async def _refuse_unreadable(self, delivery: Delivery, error: BadMessage) -> None:
        """A submission that does not decode: if it at least says which job it is, and it is no other's, it is answered."""
        log.warning("unreadable submission: %s", error)
        try:
            job = JobId(decode(delivery.publication.payload, _JobOnly).job)
        except BadMessage:
            return
        if not await self.journal.jobs(job=job):
            await self._publish(refused(job, error))

    async def _hear_cancels(self, cancels: AsyncIterator[Delivery]) -> None:
        async for delivery in cancels:
            await delivery.acknowledge()
            try:
                cancel = decode(delivery.publication.payload, Cancel)
            except BadMessage as error:
                log.warning("unreadable cancel: %s", error)
                continue
            running = self._running.get(JobId(cancel.job))
            if running is not None:
                running.cancel(f"cancelled: {cancel.reason}" if cancel.reason else "cancelled")


class _JobOnly(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a submission as is needed to answer it."""

    job: WireId


async def _told(journal: Journal, job: JobId) -> list[events.AnyEvent]:
    """What was said of a job so far; an event of another release is passed over."""
    told: list[events.AnyEvent] = []
    for number, raw in await journal.events(job):
        try:
            told.append(msgspec.json.decode(raw, type=events.AnyEvent))
        except msgspec.MsgspecError as error:
            log.warning("event %d of job %s is not readable: %s", number, job, error)
    return told


async def owner_of(journal: Journal, job: JobId) -> str:
    """The Agent-0 that last took a job, by its events; "" where nobody said so."""
    return _owner(await _told(journal, job))


def _owner(told: Iterable[events.AnyEvent]) -> str:
    """The Agent-0 that last took the job; "" where nobody said so."""
    owners = [event.orchestrator for event in told if isinstance(event, events.Admitted)]
    return owners[-1] if owners else ""


def _remember(job: Job, told: Iterable[events.AnyEvent]) -> None:
    """Take what was said before a restart back into the job: fallbacks, losses, nodes of its trainings."""
    for event in told:
        match event:
            case events.FellBack(what=what):
                job.fallbacks.append(what)
            case events.AgentLost():
                job.remember_loss(event)
            case events.TrainNode(state="ended"):
                job.nodes_told.add((event.subtask, event.round, event.node))
            case _:
                pass
