"""What a plan must be, and the questions one asks of it. Everything here is O(nodes + edges)."""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from foa.values.ids import SubtaskId
from foa.values.plan import Plan

NODES_MAX = 64  #: of one plan: more than any budget pays for


def validate(plan: Plan, *, nodes_max: int = NODES_MAX) -> Plan:
    """Give back the plan if it is a DAG over its own subtasks.

    Raises:
        ValueError: no subtask or too many, an id twice, an edge from or to nowhere, an edge twice, or a cycle; the message
            names it.
    """
    if not 1 <= len(plan.subtasks) <= nodes_max:
        raise ValueError(f"a plan has 1 to {nodes_max} subtasks, this one has {len(plan.subtasks)}")
    known: set[SubtaskId] = set()
    for subtask in plan.subtasks:
        if subtask.id in known:
            raise ValueError(f"two subtasks are called {subtask.id}")
        known.add(subtask.id)
    seen: set[tuple[SubtaskId, SubtaskId]] = set()
    for edge in plan.edges:
        pair = (edge.before, edge.after)
        unknown = [end for end in pair if end not in known]
        if unknown:
            raise ValueError(f"edge {edge.before} → {edge.after}: there is no subtask {unknown[0]}")
        if pair in seen:
            raise ValueError(f"edge {edge.before} → {edge.after} is there twice")
        seen.add(pair)
    topological(plan)
    return plan


def topological(plan: Plan) -> tuple[SubtaskId, ...]:
    """The subtasks' ids, each after all its predecessors; otherwise in the plan's own order.

    Raises:
        ValueError: there is a cycle; the message names who is on it.
    """
    place = {subtask.id: position for position, subtask in enumerate(plan.subtasks)}
    missing = {subtask.id: 0 for subtask in plan.subtasks}
    followers: dict[SubtaskId, list[SubtaskId]] = {subtask.id: [] for subtask in plan.subtasks}
    for edge in plan.edges:
        missing[edge.after] += 1
        followers[edge.before].append(edge.after)
    ready = [place[subtask] for subtask, count in missing.items() if count == 0]
    heapify(ready)
    order: list[SubtaskId] = []
    while ready:
        subtask = plan.subtasks[heappop(ready)].id
        order.append(subtask)
        for follower in followers[subtask]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heappush(ready, place[follower])
    if len(order) < len(plan.subtasks):
        stuck = ", ".join(sorted(set(missing) - set(order))[:10])
        raise ValueError(f"the plan has a cycle; no order exists for {stuck}")
    return tuple(order)


def predecessors(plan: Plan) -> Mapping[SubtaskId, tuple[SubtaskId, ...]]:
    """What each subtask waits for, in the plan's own order; every subtask has an entry."""
    place = {subtask.id: position for position, subtask in enumerate(plan.subtasks)}
    before: dict[SubtaskId, list[SubtaskId]] = {subtask.id: [] for subtask in plan.subtasks}
    for edge in plan.edges:
        before[edge.after].append(edge.before)
    return {subtask: tuple(sorted(found, key=place.__getitem__)) for subtask, found in before.items()}


def sinks(plan: Plan) -> tuple[SubtaskId, ...]:
    """The subtasks that nothing waits for, in the plan's own order: what the answer is made of."""
    waited_for = {edge.before for edge in plan.edges}
    return tuple(subtask.id for subtask in plan.subtasks if subtask.id not in waited_for)
