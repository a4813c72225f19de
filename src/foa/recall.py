"""What the journal has of a job that this run had no time to look at: it was paid, so it belongs into the result."""

from foa.job import Job
from foa.phases.assign import Staffed
from foa.phases.refine import Refined
from foa.progress import Progress
from foa.replan import restore
from foa.values.draft import AgentDraft
from foa.values.ids import SubtaskId
from foa.values.plan import Plan
from foa.values.result import Report, Routed


def recall(job: Job, reached: Progress) -> None:
    """Fill in what an earlier run of the job saved and this one did not get to.

    Raises:
        BadMessage: a saved step is of another shape.
    """
    reached.routed = reached.routed or job.steps.find("route", Routed)
    plan, staffed = job.steps.find("plan", Plan), job.steps.find("staff", Staffed)
    if plan is not None and staffed is not None and not reached.plan.subtasks:
        reached.plan, reached.staffed = plan, staffed
        restore(job, reached)
    for subtask in reached.plan.subtasks:
        saved = job.steps.find(f"report/{subtask.id}", Report)
        if saved is not None and subtask.id not in reached.reports:
            _recall_node(job, reached, subtask.id, saved)


def _recall_node(job: Job, reached: Progress, subtask: SubtaskId, report: Report) -> None:
    reached.reports[subtask] = report
    reached.drafts[subtask] = tuple(job.steps.under(f"draft/{subtask}/", AgentDraft))
    known = {view.id for view in reached.clusters}
    views = [refined.view for refined in job.steps.under("refine/", Refined)]
    reached.clusters += [view for view in views if view.subtask == subtask and view.id not in known]
