"""A federated run as a job in the journal: the same list, trace and bill as any other job. Needs numpy only.

Each round is a chain of nodes, unrolled when its turn comes, so the graph stays acyclic:

    round-3/profile ─► select ─► negotiate ─► train ─► screen ─► aggregate ─► evaluate ─► credit ─► round-4/profile …

Every node's outcome is a saved step of that name. Steps record what was done; what a killed run needs to go on is in its
checkpoint and in the sites' ledgers. Agent-0 does not run these nodes: `foa.fl.training` does.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from foa.fl.outcomes import outcomes
from foa.fl.rounds import NODES, RoundRow
from foa.job import Done, Steps
from foa.ports import Clock, Journal
from foa.values.budget import Budget
from foa.values.events import AgentLost, AnyEvent, Ended, FellBack, Reported
from foa.values.ids import JobId, check_id
from foa.values.result import Bill, PlanEdge, PlanNode, PlanView, Result
from foa.values.task import Submission, Task

_NO_LIMIT = Budget(usd=1e12, tokens=10**12, calls=10**12, seconds=1e12)


def job_of(run: str) -> JobId:
    """The job id of a run."""
    return JobId(check_id(f"fl-{run}"[:64], what="job"))


def graph(rounds: Sequence[int]) -> PlanView:
    """The unrolled graph of these rounds."""
    names = [f"round-{number}/{node}" for number in rounds for node in NODES]
    return PlanView(
        nodes=tuple(PlanNode(id=name, text=name, proposers=()) for name in names),
        edges=tuple(PlanEdge(before=before, after=after, weight=1.0, proposers=()) for before, after in pairwise(names)),
    )


async def record(journal: Journal, run: str, text: str, rows: Sequence[RoundRow], clock: Clock) -> JobId:
    """Write a run that has ended into the journal; one that is there already stays as it is.

    It is written when it has ended, not before: a job that stands as running is one that any Agent-0 on this journal would
    take up as a question.

    Raises:
        StoreFailed: the journal cannot be written.
    """
    job = job_of(run)
    result = _result(job, rows)
    task = Task(text=text, kind="federated-learning")
    if not await journal.open(job, msgspec.json.encode(Submission(task=task, budget=_NO_LIMIT)), text=text[:200]):
        return job
    await journal.close_job(job, status=result.status, result=msgspec.json.encode(result))
    steps = Steps(journal, job, {})
    for row in rows:
        for node, outcome in outcomes(row).items():
            await steps.keep(f"round-{row.round}/{node}", Done(value=outcome))
        await journal.note(job, *(msgspec.json.encode(event) for event in _events(row, clock.now())))
    await journal.note(job, msgspec.json.encode(Ended(at=clock.now(), status=result.status)))
    return job


def _events(row: RoundRow, now: float) -> list[AnyEvent]:
    name = f"round-{row.round}"
    found: list[AnyEvent] = [
        AgentLost(at=now, subtask=name, agent=client.client, reason=f"{client.kind}: {client.reason}")
        for client in row.clients
        if client.kind != "trained"
    ]
    if _replaced(row):
        found.append(FellBack(at=now, what=f"{name}: a rule decided for the model: {'; '.join(row.faults)[:300]}"))
    who = row.model if row.model and row.verdict != "fallback" else "rule"
    error = "" if row.taken else "the new model was not taken"
    return [*found, Reported(at=now, subtask=name, by=who, confidence=row.accuracy or 0.0, error=error)]


def _replaced(row: RoundRow) -> bool:
    return bool(row.model) and row.verdict == "fallback"


def _result(job: JobId, rows: Sequence[RoundRow]) -> Result:
    clients = [client for row in rows for client in row.clients]
    answer = f"{len(rows)} rounds"
    if rows and rows[-1].accuracy is not None and rows[-1].worst10 is not None:
        answer += f", accuracy {rows[-1].accuracy:.4f}, worst tenth of clients {rows[-1].worst10:.4f}"
    return Result(
        job_id=job,
        status="done",
        answer=answer,
        plan=graph([row.round for row in rows]),
        lost={client.client: client.reason for client in clients if client.kind == "lost"},
        fallbacks=tuple(f"round-{row.round}: a rule decided for the model" for row in rows if _replaced(row)),
        bill=Bill(
            usd=sum(client.usd for client in clients),
            tokens=sum(row.tokens for row in rows),
            calls=sum(bool(row.model) for row in rows),
            seconds=sum(row.seconds + row.decision_seconds for row in rows),
        ),
    )
