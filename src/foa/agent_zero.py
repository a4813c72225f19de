"""Agent-0 as a service: it takes jobs off the fabric when it has room, runs each, and answers every one it took.

foa/orchestrator/jobs ─► admit ─► journal ─► PUBACK ─► Orchestrator.run ─► journal ─► foa/result/{job} (retained)
foa/orchestrator/cancel/+ ─► stop the job, tell its agents
after a restart: every job that the journal calls running goes on
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import msgspec

from foa.errors import BadMessage, FabricError, JobCancelled, StoreFailed
from foa.intake import admit
from foa.job import EventLog, Job, Steps
from foa.messages import MAX_PAYLOAD_BYTES, Cancel, Submit, decode
from foa.orchestrator import Orchestrator
from foa.policy.account import Account
from foa.policy.safety import SafetyFilter
from foa.ports import Clock, Delivery, JobRow, Journal, Transport
from foa.results import stopped
from foa.values import events
from foa.values.budget import Spend
from foa.values.ids import AgentId, JobId, OrchestratorId, WireId
from foa.values.parameters import Parameters
from foa.values.publication import Filter, Publication
from foa.values.result import Result
from foa.values.task import Submission
from foa.values.topics import Topics

log = logging.getLogger(__name__)

#: How long a result stays on the broker for a client that was away, seconds.
RESULT_EXPIRY_SECONDS = 86_400


@dataclass(slots=True)
class _Running:
    """A job's task, and whether somebody asked for its end."""

    task: asyncio.Task[None]
    cancelled: str | None = None


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
            StoreFailed: the journal cannot be read at the start.
        """
        slots = asyncio.Semaphore(self.jobs_at_once)
        unfinished = await self._unfinished() if self.resume else []
        async with (
            self.transport.subscribe(Filter(topic_filter=self.topics.cancel())) as cancels,
            asyncio.TaskGroup() as group,
        ):
            for row in reversed(unfinished):
                await self._start(group, slots, row, resumed=True)
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
            if owner in (self.id, ""):
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
        text = submission.task.text[:200]
        if not await self.journal.open(job, msgspec.json.encode(submission), text=text):
            await self._answer_again(job)
            return
        (row,) = await self.journal.jobs(job=job)
        try:
            admit(submission, self.safety)
        except FabricError as refusal:
            await self._refuse(self._job(row, submission, {}), refusal)
            return
        await self._start(group, slots, row, resumed=False)

    async def _start(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore, row: JobRow, *, resumed: bool) -> None:
        submission = msgspec.json.decode(row.submission, type=Submission)
        job = self._job(row, submission, await self.journal.load(row.job) if resumed else {})
        if resumed:
            await _remember(job, self.journal)
        job.events.tell(
            events.Admitted(
                at=self.clock.now(), orchestrator=self.id, text=row.text, budget=submission.budget, resumed=resumed
            )
        )
        task = group.create_task(self._run_one(job, slots), name=f"job[{row.job}]")
        self._running[row.job] = _Running(task)

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

    async def _run_one(self, job: Job, slots: asyncio.Semaphore) -> None:
        try:
            async with slots, asyncio.TaskGroup() as group:
                group.create_task(job.events.run(), name=f"events[{job.id}]")
                try:
                    result = await self._answer(job)
                finally:
                    job.events.close()
            await self._publish(result)
            await self.journal.close_job(job.id, status=result.status, result=msgspec.json.encode(result))
        finally:
            self._running.pop(job.id, None)

    async def _answer(self, job: Job) -> Result:
        """The job's result, whatever happens to it; only a stopping process and a broken journal get past here."""
        try:
            result = await self.orchestrator.run(job)
        except asyncio.CancelledError:
            running = self._running[job.id]
            if running.cancelled is None:
                raise
            running.task.uncancel()
            await self.orchestrator.stop_agents(job)
            result = stopped(job, "cancelled", running.cancelled, JobCancelled.exit_code)
        except StoreFailed:
            raise
        except Exception as bug:  # the supervisor: a bug in one job must not end the others
            log.exception("job failed", extra={"job": job.id})
            result = stopped(job, "failed", f"a fault of Agent-0 itself ({type(bug).__name__}: {bug})", 1)
        job.events.tell(events.Ended(at=self.clock.now(), status=result.status, error=result.error))
        return result

    async def _publish(self, result: Result) -> None:
        payload = msgspec.json.encode(result)
        if len(payload) > MAX_PAYLOAD_BYTES:
            short = msgspec.structs.replace(result, reports=(), refusals=(), sources=result.sources[:100])
            payload = msgspec.json.encode(short)
        await self.transport.publish(
            Publication(
                topic=self.topics.result(JobId(result.job_id)),
                payload=payload,
                retain=True,
                message_expiry_interval=RESULT_EXPIRY_SECONDS,
                content_type="application/json",
            )
        )

    async def _answer_again(self, job: JobId) -> None:
        """A submission that came before: if it ended, its result is published again; else it is running."""
        for row in await self.journal.jobs(job=job):
            if row.result is not None:
                await self._publish(msgspec.json.decode(row.result, type=Result))

    async def _refuse(self, job: Job, refusal: FabricError) -> None:
        result = stopped(job, "failed", str(refusal), refusal.exit_code)
        await self.journal.note(
            job.id, msgspec.json.encode(events.Ended(at=self.clock.now(), status="failed", error=result.error))
        )
        await self._publish(result)
        await self.journal.close_job(job.id, status="failed", result=msgspec.json.encode(result))

    async def _refuse_unreadable(self, delivery: Delivery, error: BadMessage) -> None:
        """A submission that does not decode: if it at least says which job it is, its sender gets the reason."""
        log.warning("unreadable submission: %s", error)
        try:
            job = JobId(decode(delivery.publication.payload, _JobOnly).job)
        except BadMessage:
            return
        await self._publish(Result(job_id=job, status="failed", answer="", error=str(error), exit_code=error.exit_code))

    async def _hear_cancels(self, cancels: AsyncIterator[Delivery]) -> None:
        async for delivery in cancels:
            await delivery.acknowledge()
            try:
                cancel = decode(delivery.publication.payload, Cancel)
            except BadMessage as error:
                log.warning("unreadable cancel: %s", error)
                continue
            running = self._running.get(JobId(cancel.job))
            if running is not None and running.cancelled is None:
                running.cancelled = f"cancelled: {cancel.reason}" if cancel.reason else "cancelled"
                running.task.cancel()


class _JobOnly(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a submission as is needed to answer it."""

    job: WireId


async def owner_of(journal: Journal, job: JobId) -> str:
    """The Agent-0 that last took a job, by its events; "" where nobody said so."""
    owner = ""
    for _, raw in await journal.events(job):
        event = msgspec.json.decode(raw, type=events.AnyEvent)
        if isinstance(event, events.Admitted):
            owner = event.orchestrator
    return owner


async def _remember(job: Job, journal: Journal) -> None:
    """Take fallbacks and losses that were said before a restart back into the job."""
    for _, raw in await journal.events(job.id):
        match msgspec.json.decode(raw, type=events.AnyEvent):
            case events.FellBack(what=what):
                job.fallbacks.append(what)
            case events.AgentLost(subtask=subtask, agent=agent, reason=reason):
                job.losses[subtask, AgentId(agent)] = reason
            case _:
                pass
