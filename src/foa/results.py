"""A job's result, put together from what its phases left: what was asked, by whom, with which sources, at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec

from foa.errors import FabricError
from foa.job import Job, Steps
from foa.phases.assign import Staffed
from foa.phases.synthesise import sources_of
from foa.phases.train import TrainedNode
from foa.values.budget import Spend
from foa.values.ids import AgentId, JobId, SubtaskId
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

MAX_SHORT_SOURCES = 100  #: of a result that is too long for a message
MAX_NODES_SHOWN = 400  #: of one training, in the plan of a result


def plan_view(plan: Plan) -> PlanView:
    """The DAG as people read it."""
    return PlanView(
        nodes=tuple(PlanNode(id=s.id, text=s.text, proposers=s.proposers) for s in plan.subtasks),
        edges=tuple(PlanEdge(before=e.before, after=e.after, weight=e.weight, proposers=e.proposers) for e in plan.edges),
        notes=plan.notes,
    )


def unrolled(view: PlanView, nodes: Sequence[TrainedNode]) -> PlanView:
    """The DAG with the rounds of its trainings: the nodes of each stand in a chain that ends in its subtask.

    Of a long training only the last `MAX_NODES_SHOWN` nodes are shown, and that is noted.
    """
    chains: dict[tuple[str, int, str], list[TrainedNode]] = {}
    for node in nodes:
        chains.setdefault((node.subtask, node.attempt, node.agent), []).append(node)
    for (subtask, attempt, agent), told in chains.items():
        place = subtask if attempt == 1 else f"{subtask}/attempt-{attempt}"
        shown = told[-MAX_NODES_SHOWN:]
        names = [f"{place}/round-{node.round}/{node.node}" for node in shown]
        cut = f"{subtask}: {len(told) - len(shown)} earlier nodes of its training are not shown"
        view = PlanView(
            nodes=(
                *view.nodes,
                *(PlanNode(id=name, text=node.said, proposers=(agent,)) for name, node in zip(names, shown, strict=True)),
            ),
            edges=(
                *view.edges,
                *(PlanEdge(before=a, after=b, weight=1.0, proposers=()) for a, b in pairwise([*names, subtask])),
            ),
            notes=(*view.notes, *([cut] if len(shown) < len(told) else [])),
        )
    return view


def bill_of(job: Job) -> Bill:
    """What the saved steps paid, in all and by agent; seconds are wall clock since the job was admitted."""
    return bill_of_steps(job.steps, seconds=job.clock.now() - job.began)


def bill_of_steps(steps: Steps, *, seconds: float) -> Bill:
    """What saved steps paid, and how long it took, seconds."""
    spends = dict(steps.spends)
    total = sum(spends.values(), Spend())
    return Bill(usd=total.usd, tokens=total.tokens, calls=total.calls, seconds=seconds, by_agent=spends)


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
        plan=unrolled(plan_view(plan), job.steps.under("train/", TrainedNode)),
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


def refused(job: JobId, refusal: FabricError) -> Result:
    """The result of a submission that is no job."""
    return Result(job_id=job, status="failed", answer="", error=str(refusal), exit_code=refusal.exit_code)


def fitting(result: Result, limit: int) -> Result:
    """The result in at most `limit` bytes of JSON; what is left out for it is said, details before the answer.

    Args:
        result: of any size: agents decide how much they write.
        limit: at least 1,000,000.
    """
    for cut in (_as_it_is, _without_quotes, _without_reports, _answer_alone):
        short = cut(result, limit)
        if len(msgspec.json.encode(short)) <= limit:
            break
    return short


def _as_it_is(result: Result, _: int) -> Result:
    return result


def _without_quotes(result: Result, limit: int) -> Result:
    return msgspec.structs.replace(
        result,
        sources=tuple(replace(source, quote="") for source in result.sources[:MAX_SHORT_SOURCES]),
        reports=tuple(msgspec.structs.replace(report, claims=()) for report in result.reports),
        fallbacks=(_left_out(result, limit), *result.fallbacks),
    )


def _without_reports(result: Result, limit: int) -> Result:
    short = _without_quotes(result, limit)
    return msgspec.structs.replace(short, reports=(), refusals=(), plan=PlanView(), assignments=(), clusters=())


def _answer_alone(result: Result, limit: int) -> Result:
    short = _without_reports(result, limit)
    return msgspec.structs.replace(
        short,
        answer=short.answer[: limit // 12],  # a control character takes 6 bytes: half of the limit at most
        fallbacks=tuple(what[:500] for what in short.fallbacks[:20]),
        error=short.error[:2_000],
        lost={},
        bill=msgspec.structs.replace(short.bill, by_agent={}),
    )


def _left_out(result: Result, limit: int) -> str:
    return f"the result is over {limit:,} bytes, so parts were left out: `foa jobs show {result.job_id}` has what was kept"
