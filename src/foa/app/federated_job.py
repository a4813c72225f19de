"""A federated run as a job in the journal: the same list, trace and bill as any other job, while it runs. Needs numpy only.

Each round is a chain of nodes, unrolled when its turn comes, so the graph stays acyclic:

    round-3/profile ─► select ─► negotiate ─► train ─► screen ─► aggregate ─► evaluate ─► credit ─► round-4/profile …

Every node's outcome is a saved step of that name. Steps record what was done; what a killed run needs to go on is in its
checkpoint and in the sites' ledgers. Agent-0 does not run these nodes: `foa.fl.training` does.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from foa.agents.tasks import owning_tasks
from foa.app.federated_lock import job_of
from foa.errors import FabricError, JobCancelled
from foa.fl.outcomes import outcomes
from foa.fl.rounds import NODES, NodeEvent, RoundRow
from foa.fl.story import Story, cost, said
from foa.job import Done, Steps, to_its_end
from foa.phases.synthesise import sources_of
from foa.phases.train import TrainedNode
from foa.ports import Clock, Journal
from foa.results import bill_of_steps, unrolled
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.ids import JobId
from foa.values.result import PlanNode, PlanView, Report, Result, Status
from foa.values.task import Submission, Task

KIND = "federated-learning"
NODE = "run"  #: the one subtask of the job, under which the rounds stand
_NO_LIMIT = Budget(usd=1e12, tokens=10**12, calls=10**12, seconds=1e12)


class RunJob:
    """The journal's side of one run. `tell` may be called from any thread; `story` says how it ended."""

    def __init__(self, journal: Journal, job: JobId, steps: Steps, clock: Clock, *, text: str, began: float) -> None:
        self.id = job
        self._text = text
        self._journal = journal
        self._steps = steps
        self._clock = clock
        self._began = began
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[NodeEvent | None] = asyncio.Queue()
        self._ended: tuple[Story, tuple[RoundRow, ...]] | None = None

    def tell(self, event: NodeEvent) -> None:
        """Put a node in line; it is written while the run goes on."""
        self._loop.call_soon_threadsafe(self._waiting.put_nowait, event)

    def story(self, story: Story, rows: Sequence[RoundRow]) -> None:
        """Say that it ended well, and with what."""
        self._ended = (story, tuple(rows))

    async def write(self) -> None:
        """Write what is told, until `finish`."""
        while (event := await self._waiting.get()) is not None:
            await to_its_end(self._write(event))

    def finish(self) -> None:
        """No more is told: `write` ends when it has written all."""
        self._loop.call_soon_threadsafe(self._waiting.put_nowait, None)  # in line, like what was told

    async def note(self, *told: events.AnyEvent) -> None:
        """Keep events."""
        await self._journal.note(self.id, *map(msgspec.json.encode, told))

    async def close(self, status: Status, error: str = "", exit_code: int = 0) -> None:
        """End the job."""
        now = self._clock.now()
        result = Result(job_id=self.id, status=status, answer="", error=error, exit_code=exit_code)
        if self._ended is not None:
            story, rows = self._ended
            result = self._result(story, rows)
            await self.note(
                events.Reported(at=now, subtask=NODE, by=self.id, confidence=story.draft.confidence),
                events.Spent(at=now, total=sum(self._steps.spends.values(), Spend())),
            )
        await self.note(events.Ended(at=now, status=status, error=error))
        result = msgspec.structs.replace(result, bill=bill_of_steps(self._steps, seconds=now - self._began))
        await self._journal.close_job(self.id, status=status, result=msgspec.json.encode(result))

    async def _write(self, event: NodeEvent) -> None:
        step = f"round-{event.round}/{event.node}"
        if self._steps.find(step, msgspec.Raw) is not None:
            return  # of a round that a killed run had begun
        spend = cost(event)
        if event.state == "ended":
            await self._steps.keep(step, Done(value=event.value, spends={self.id: spend}))
        await self.note(
            events.TrainNode(
                at=self._clock.now(),
                subtask=NODE,
                agent=self.id,
                round=event.round,
                node=event.node,
                state=event.state,
                said=said(event),
                spend=spend,
            )
        )

    def _nodes(self, rows: Sequence[RoundRow]) -> list[TrainedNode]:
        """Every node of these rounds, as the nodes of a training that Agent-0 leads."""
        found: list[TrainedNode] = []
        for row in rows:
            values = outcomes(row)
            for node in NODES:
                line = said(NodeEvent(round=row.round, node=node, state="ended", value=values[node]))
                found.append(TrainedNode(subtask=NODE, attempt=1, agent=self.id, round=row.round, node=node, said=line))
        return found

    def _result(self, story: Story, rows: Sequence[RoundRow]) -> Result:
        draft = story.draft
        clients = [client for row in rows for client in row.clients]
        report = Report(
            subtask=NODE,
            text=self._text,
            answer=draft.answer,
            claims=draft.claims,
            confidence=draft.confidence,
            by=self.id,
            figures=story.figures,
        )
        return Result(
            job_id=self.id,
            status="done",
            answer=draft.answer,
            sources=sources_of([report]),
            reports=(report,),
            plan=unrolled(PlanView(nodes=(PlanNode(id=NODE, text=self._text, proposers=()),)), self._nodes(rows)),
            lost={client.client: client.reason for client in clients if client.kind == "lost"},
            fallbacks=tuple(
                f"round-{row.round}: a rule decided for the model" for row in rows if row.model and row.verdict == "fallback"
            ),
        )


@asynccontextmanager
async def running_job(journal: Journal, run: str, text: str, clock: Clock) -> AsyncGenerator[RunJob]:
    """A run's job while the block lasts: it stands as running from the start, and ends with the block.

    One that was killed goes on in its job; one that had ended gets another. Its owner is the run, so that no Agent-0 on this
    journal takes it up as a question.

    Raises:
        StoreFailed: the journal cannot be written.
    """
    job, resumed = await _open(journal, run, text)
    (row,) = await journal.jobs(job=job)
    kept = RunJob(journal, job, Steps(journal, job, await journal.load(job)), clock, text=text, began=row.created_at)
    now = clock.now()
    view = PlanView(nodes=(PlanNode(id=NODE, text=text, proposers=()),))
    await kept.note(
        events.Admitted(at=now, orchestrator=job, text=text[:200], budget=_NO_LIMIT, resumed=resumed),
        events.Planned(at=now, plan=view, teams=()),
        events.TrainStarted(at=now, subtask=NODE, agent=job),
    )
    status, error, exit_code = "failed", "", 1
    try:
        async with owning_tasks() as group:
            group.create_task(kept.write(), name=f"journal[{job}]")
            try:
                yield kept
                status, exit_code = "done", 0
            except FabricError as failure:
                error, exit_code = str(failure), failure.exit_code
                raise
            except asyncio.CancelledError:
                status, error, exit_code = "cancelled", "interrupted", JobCancelled.exit_code
                raise
            finally:
                kept.finish()
    finally:
        await to_its_end(kept.close(status, error, exit_code))


async def _open(journal: Journal, run: str, text: str) -> tuple[JobId, bool]:
    """The job that the run writes to, and whether it was there."""
    submission = msgspec.json.encode(Submission(task=Task(text=text, kind=KIND), budget=_NO_LIMIT))
    number = 1
    while not await journal.open(job := job_of(run, number), submission, text=text[:200]):
        (row,) = await journal.jobs(job=job)
        if row.ended_at is None:
            return job, True
        number += 1
    return job, False
