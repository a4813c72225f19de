"""Planning anew: an answer that did not come shows the plan wrong, so the subtask is split differently ("later phases adjust
subtasks based on intermediate outputs"), a bounded number of times.

Source: arXiv:2509.20175, Sec. 4; the bound is ours (`FOA_REVISIONS_MAX`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from foa.calls import Calls
from foa.errors import FabricError, StoreFailed
from foa.job import Done, Job, one_error
from foa.phases.assign import Staffed, joined, staff
from foa.phases.decompose import Kept, gather_proposals
from foa.plan.revise import revise
from foa.plan.validate import predecessors, topological
from foa.progress import Progress
from foa.route import Router
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Plan, Subtask
from foa.values.result import Candidate, Report


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
            with one_error():
                best = await _best(job, calls, reached.routed.candidates, subtask)
                revised = None if best is None else await _revised(job, router, reached, subtask, best)
        except StoreFailed:
            raise
        except FabricError as failure:
            job.fell_back(f"{subtask.id} is not split anew: {failure}")
            return False
        if best is None or revised is None:
            return False
        await job.steps.keep(f"revise/{number}", Done(value=revised))
        reached.plan, reached.staffed, reached.revisions = revised.plan, revised.staffed, number
        job.fell_back(f"{subtask.id} had no answer ({why}): {best.agent} split it anew")
        return True


async def _best(job: Job, calls: Calls, proposers: Sequence[Candidate], subtask: Subtask) -> Kept | None:
    """The weightiest split of a subtask; paid once, used or not. None: nobody splits it."""
    task = replace(job.task, text=subtask.text, transcript=())
    key = f"propose/{subtask.id}"  # not the number of the revision: one that comes to nothing leaves its number to the next
    kept = await job.steps.once(key, tuple[Kept, ...], lambda: gather_proposals(job, calls, proposers, task=task, key=key))
    usable = [one for one in kept if 1 < len(one.proposal.subtasks) <= job.parameters.decomp_subtasks_max]
    return max(usable, key=lambda one: (one.weight, one.agent), default=None)


async def _revised(job: Job, router: Router, reached: Progress, subtask: Subtask, best: Kept) -> Revised | None:
    """The plan with the split in the place of the subtask; None: the plan does not take it."""
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
    if known == {one.id for one in plan.subtasks}:
        job.fell_back(f"{subtask.id} is not split anew: {plan.notes[-1]}")
        return None
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
