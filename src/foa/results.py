"""A job's result, put together from what its phases left: what was asked, by whom, with which sources, at what cost."""

from collections.abc import Mapping, Sequence

from foa.job import Job
from foa.phases.assign import Staffed
from foa.phases.synthesise import sources_of
from foa.values.budget import Spend
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Plan
from foa.values.result import (
    Bill,
    ClusterView,
    PlanEdge,
    PlanNode,
    PlanView,
    Refusal,
    Report,
    Result,
    Routed,
    Status,
)


def plan_view(plan: Plan) -> PlanView:
    """The DAG as people read it."""
    return PlanView(
        nodes=tuple(PlanNode(id=s.id, text=s.text, proposers=s.proposers) for s in plan.subtasks),
        edges=tuple(PlanEdge(before=e.before, after=e.after, weight=e.weight, proposers=e.proposers) for e in plan.edges),
        notes=plan.notes,
    )


def bill_of(job: Job) -> Bill:
    """What the saved steps paid, in all and by agent; seconds are wall clock since the job was admitted."""
    total = sum(job.steps.spends.values(), Spend())
    return Bill(
        usd=total.usd,
        tokens=total.tokens,
        calls=total.calls,
        seconds=job.clock.now() - job.began,
        by_agent=dict(job.steps.spends),
    )


def finished(
    job: Job,
    *,
    routed: Routed | None,
    plan: Plan,
    staffed: Staffed,
    reports: Mapping[SubtaskId, Report],
    clusters: Sequence[ClusterView],
    answer: str,
    error: str,
    exit_code: int,
) -> Result:
    """Put the result together; its status follows from the reports: done, partial or failed."""
    nodes = plan.subtasks
    ordered = [reports[s.id] for s in nodes if s.id in reports]
    answered = [report for report in ordered if report.answer]
    troubles = [f"{r.subtask} has no answer: {r.error}" for r in ordered if r.error]
    troubles += [f"{s.id} was not reached" for s in nodes if s.id not in reports]
    status: Status = "failed" if not answered else "partial" if troubles or error else "done"
    return Result(
        job_id=job.id,
        status=status,
        answer=answer,
        sources=sources_of(answered),
        reports=tuple(ordered),
        plan=plan_view(plan),
        assignments=tuple(m for s in nodes for m in staffed.teams.get(s.id, ())),
        refusals=(*_task_refusals(routed), *staffed.refusals),
        clusters=tuple(sorted(clusters, key=lambda view: view.id)),
        rounds=sum(view.rounds for view in clusters),
        lost={str(agent): reason for agent, reason in job.lost.items()},
        fallbacks=tuple(dict.fromkeys(job.fallbacks)),
        bill=bill_of(job),
        error="; ".join([*([error] if error else []), *troubles]),
        exit_code=0 if status == "done" else exit_code or 1,
    )


def stopped(job: Job, status: Status, error: str, exit_code: int) -> Result:
    """The result of a job that was cancelled or never began."""
    return Result(
        job_id=job.id,
        status=status,
        answer="",
        lost={str(AgentId(agent)): reason for agent, reason in job.lost.items()},
        fallbacks=tuple(dict.fromkeys(job.fallbacks)),
        bill=bill_of(job),
        error=error,
        exit_code=exit_code,
    )


def _task_refusals(routed: Routed | None) -> tuple[Refusal, ...]:
    if routed is None:
        return ()
    return tuple(Refusal(subtask="", agent=agent, reason=reason) for agent, reason in routed.refusals.items())
