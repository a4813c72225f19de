"""Changing a plan while it runs, when an intermediate result shows it wrong: "later phases adjust subtasks".

What is done stays as it is, ids are never used twice (an id is half of every deduplication key), and the number of
revisions is bounded, so that a plan cannot be revised for ever.

Source: arXiv:2509.20175, Sec. 4; the bound is ours.
"""

from collections.abc import Collection

from foa.plan import graph
from foa.plan.nodes import TEXT_CHARACTERS, bounded
from foa.plan.validate import NODES_MAX, predecessors, sinks, topological, validate
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Edge, Plan, Proposal, Subtask
from foa.values.task import Task

REVISIONS = 2  #: most revisions of one plan


def revise(
    plan: Plan,
    done: Collection[SubtaskId],
    addition: Proposal,
    *,
    task: Task,
    by: AgentId,
    used: int,
    replaced: Collection[SubtaskId] | None = None,
    revisions_max: int = REVISIONS,
    nodes_max: int = NODES_MAX,
) -> Plan:
    """Put an addition in the place of subtasks that are not done.

    The addition starts after everything that is done; what waited for a replaced subtask waits for the addition's end.
    Cycles in the addition are broken, faulty edges dropped.

    Args:
        done: subtasks with a report, closed under predecessors; they and their edges stay.
        addition: the new subtasks; without a usable one the plan stays as it is.
        by: who proposed it.
        used: how many revisions this job has had.
        replaced: which to take out; None: all that are not done.

    Returns:
        A plan that `validate` accepts. The plan as it was, with a note that says why, where the revisions are used up, the
        addition is empty, or the result would be over `nodes_max`.

    Raises:
        ValueError: `done` or `replaced` names an unknown subtask, they overlap, or `done` lacks a predecessor.
    """
    known = {subtask.id for subtask in plan.subtasks}
    gone = frozenset(known - set(done) if replaced is None else replaced)
    _check(plan, known, frozenset(done), gone)
    new = [subtask for subtask in addition.subtasks if subtask.text.strip()]
    refusal = ""
    if used >= revisions_max:
        refusal = f"{by} wished to revise the plan: refused, {used} of {revisions_max} revisions are used"
    elif not new:
        refusal = f"{by} wished to revise the plan and proposed no subtask: it stays as it is"
    elif len(known - gone) + len(new) > nodes_max:
        refusal = f"{by} wished to revise the plan to more than {nodes_max} subtasks: it stays as it is"
    if refusal:
        return Plan(subtasks=plan.subtasks, edges=plan.edges, notes=bounded((*plan.notes, refusal)))
    return validate(_revised(plan, frozenset(done), gone, addition, task, by), nodes_max=nodes_max)


def _check(plan: Plan, known: set[SubtaskId], done: frozenset[SubtaskId], gone: frozenset[SubtaskId]) -> None:
    unknown = sorted((done | gone) - known)
    if unknown:
        raise ValueError(f"there is no subtask {unknown[0]} in the plan")
    if done & gone:
        raise ValueError(f"{min(done & gone)} is done and cannot be replaced")
    before = predecessors(plan)
    for subtask in done:
        if not done.issuperset(before[subtask]):
            raise ValueError(f"{subtask} cannot be done: something before it is not")


def _revised(
    plan: Plan, done: frozenset[SubtaskId], gone: frozenset[SubtaskId], addition: Proposal, task: Task, by: AgentId
) -> Plan:
    part = _part_of(addition, first=_highest(plan) + 1, task=task, by=by)
    subtasks = tuple(subtask for subtask in plan.subtasks if subtask.id not in gone) + part.subtasks
    kept = [edge for edge in plan.edges if not gone & {edge.before, edge.after}]
    drawn = {(edge.before, edge.after): edge for edge in (*kept, *part.edges)}
    fresh = {pair: Edge(before=pair[0], after=pair[1], proposers=(by,)) for pair in _joints(plan, done, gone, part)}
    number = {subtask.id: place for place, subtask in enumerate(subtasks)}
    least = set(graph.reduced([(number[before], number[after]) for before, after in {**fresh, **drawn}]))
    edges = [
        edge for pair, edge in {**fresh, **drawn}.items() if pair in drawn or (number[pair[0]], number[pair[1]]) in least
    ]
    note = f"{by} revised the plan: {len(gone)} subtasks replaced by {len(part.subtasks)}"
    rough = Plan(subtasks=subtasks, edges=tuple(edges), notes=bounded((*plan.notes, note)))
    place = {subtask: position for position, subtask in enumerate(topological(rough))}
    return Plan(
        subtasks=tuple(sorted(rough.subtasks, key=lambda subtask: place[subtask.id])),
        edges=tuple(sorted(rough.edges, key=lambda edge: (place[edge.before], place[edge.after]))),
        notes=rough.notes,
    )


def _joints(
    plan: Plan, done: frozenset[SubtaskId], gone: frozenset[SubtaskId], part: Plan
) -> list[tuple[SubtaskId, SubtaskId]]:
    """What the addition waits for, what waits for it, and what waited across a replaced subtask."""
    later = _after(plan, gone)
    before_gone = {edge.before for edge in plan.edges if edge.after in gone} - gone
    # a kept subtask after one replaced and before another would have to wait for itself
    waited_for = sorted(done | (before_gone - later))
    waiting = sorted({edge.after for edge in plan.edges if edge.before in gone} - gone)
    starts = [subtask for subtask, before in predecessors(part).items() if not before]
    joints = [(end, start) for end in waited_for for start in starts]
    joints += [(end, subtask) for end in sinks(part) for subtask in waiting]
    across = [(start, end) for start in sorted(before_gone & later) for end in waiting if end in _after(plan, {start})]
    return joints + across


def _after(plan: Plan, starts: Collection[SubtaskId]) -> frozenset[SubtaskId]:
    """Everything that waits for any of these, however far."""
    found: set[SubtaskId] = set()
    for subtask in topological(plan):
        if any(e.after == subtask and (e.before in starts or e.before in found) for e in plan.edges):
            found.add(subtask)
    return frozenset(found)


def _highest(plan: Plan) -> int:
    numbers = [int(subtask.id[1:]) for subtask in plan.subtasks if subtask.id[:1] == "s" and subtask.id[1:].isdecimal()]
    return max(numbers, default=0)


def _part_of(addition: Proposal, *, first: int, task: Task, by: AgentId) -> Plan:
    usable = [index for index, subtask in enumerate(addition.subtasks) if subtask.text.strip()]
    place = {index: position for position, index in enumerate(usable)}
    pairs = {
        (place[before], place[after]): 1.0
        for before, after in addition.edges
        if before != after and before in place and after in place
    }
    stay, _ = graph.acyclic(pairs)
    ids = [SubtaskId(f"s{first + position}") for position in range(len(usable))]
    return Plan(
        subtasks=tuple(
            Subtask(
                id=ids[place[index]],
                text=addition.subtasks[index].text.strip()[:TEXT_CHARACTERS],
                skills=addition.subtasks[index].skills,
                policies=task.policies,
                proposers=(by,),
            )
            for index in usable
        ),
        edges=tuple(Edge(before=ids[b], after=ids[a], proposers=(by,)) for b, a in graph.reduced(stay)),
    )
