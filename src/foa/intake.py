"""Before the paper's phases: is this a task at all, may it be asked, can its budget do anything?"""

from foa.errors import BadInput, BudgetExceeded, PolicyDenied
from foa.policy.safety import SafetyFilter
from foa.values.task import MAX_TASK_CHARACTERS, Submission


def admit(submission: Submission, safety: SafetyFilter) -> None:
    """Let a submission in, or say why not.

    Args:
        submission: what came off the wire; its fields are within their bounds already.
        safety: the gate of known unsafe content; it sees the task and every turn of its transcript.

    Raises:
        BadInput: the task is empty or over-long.
        BudgetExceeded: no agent could answer anything with it.
        PolicyDenied: the safety gate knows the content.
    """
    task, budget = submission.task, submission.budget
    if not task.text.strip():
        raise BadInput("the task is empty: say what you want to know")
    if len(task.text) + sum(len(turn.content) for turn in task.transcript) > MAX_TASK_CHARACTERS:
        raise BadInput(
            f"the task with its transcript is over {MAX_TASK_CHARACTERS:,} characters: shorten it, or put the material "
            "into a folder and let agents look there (--over DIR)"
        )
    if budget.seconds <= 0 or budget.calls < 1 or budget.tokens < 1:
        raise BudgetExceeded(
            f"a budget of {budget.seconds:g} s, {budget.calls} calls and {budget.tokens} tokens buys no answer: "
            "give each at least 1"
        )
    for text in (task.text, task.spec, *(turn.content for turn in task.transcript)):
        found = safety.check(text)
        if found:
            raise PolicyDenied(f"the safety gate refuses the task: it contains {found!r}")
