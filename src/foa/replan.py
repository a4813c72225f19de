"""Planning anew: an answer that did not come shows the plan wrong, so the subtask is split differently ("later phases adjust
subtasks based on intermediate outputs"), a bounded number of times.

Source: arXiv:2509.20175, Sec. 4; the bound is ours (`FOA_REVISIONS_MAX`).
"""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from foa.calls import Calls
from foa.errors import BudgetExceeded
from foa.job import Done, Job
from foa.phases.assign import Staffed, joined, staff
from foa.phases.decompose import Kept, gather_proposals
from foa.plan.revise import revise
from foa.plan.validate import predecessors, topological
from foa.progress import Progress
from foa.route import Router
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Plan, Subtask
from foa.values.result import Report


class Revised(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that took another's place."""

    plan: Plan
    staffed: Staffed


def restore(job: Job, reached: Progress) -> None:
    """Take the revisions that were saved before a restart."""
    while (again := job.steps.find(f"revise/{reached.revisions + 1}", Revised)) is not None:
        reached.plan, reached.staffed, reached.revisions = again.plan, again.staffed, reached.revisions + 1


async def plan_anew(job: Job, calls: Calls, router: Router, reached: Progress, subtask: Subtask, why: str) -> bool:
    """Put a new split in the place of a subtask that has no answer.

    Args:
        job: the running job.
        calls: the way to the proposers.
        router: staffs what is new.
        reached: its plan and staffing are replaced.
        subtask: what failed.
        why: how.

    Returns:
        Whether the plan is another now. False where revisions or money are used up, or nobody splits it.
    """
    async with reached.revising:  # one revision at a time: each starts from the plan as the last one left it
        number = reached.revisions + 1
        if number > job.parameters.revisions_max or reached.routed is None:
            return False
        try:
            task = replace(job.task, text=subtask.text, transcript=())
            proposals = await gather_proposals(job, calls, reached.routed.candidates, task=task, key=f"revise/{number}")
        except BudgetExceeded as short:
            job.fell_back(f"{subtask.id} is not split anew: {short}")
            return False
        usable = [kept for kept in proposals.value if len(kept.proposal.subtasks) > 1]
        if not usable:
            return False
        best = max(usable, key=lambda kept: (kept.weight, kept.agent))
        revised = await _revised(job, router, reached, subtask, best)
        await job.steps.keep(f"revise/{number}", Done(value=revised, spends=proposals.spends))
        reached.plan, reached.staffed, reached.revisions = revised.plan, revised.staffed, number
        job.fell_back(f"{subtask.id} had no answer ({why}): {best.agent} split it anew")
        return True


async def _revised(job: Job, router: Router, reached: Progress, subtask: Subtask, best: Kept) -> Revised:
    parameters = job.parameters
    plan = revise(
        reached.plan,
        _done(reached.plan, reached.reports),
        best.proposal,
        task=job.task,
        by=AgentId(best.agent),
        used=reached.revisions,
        replaced={subtask.id},
        revisions_max=parameters.revisions_max,
        nodes_max=parameters.nodes_max + parameters.decomp_subtasks_max,
    )
    known = {one.id for one in reached.plan.subtasks}
    more = await staff(job, router, [one for one in plan.subtasks if one.id not in known])
    return Revised(plan=plan, staffed=joined(reached.staffed, more.value))


def _done(plan: Plan, reports: Mapping[SubtaskId, Report]) -> set[SubtaskId]:
    """Subtasks that are answered and stay, with everything before them."""
    before = predecessors(plan)
    done: set[SubtaskId] = set()
    for node in topological(plan):
        if node in reports and reports[node].answer and done.issuperset(before[node]):
            done.add(node)
    return done
