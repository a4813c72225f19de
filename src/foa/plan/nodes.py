"""The nodes of a merged plan: from the subtasks that became one to a `Subtask`, and a task left whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foa.plan import graph
from foa.plan.validate import topological
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Edge, Plan, Subtask
from foa.values.task import Task

TEXT_CHARACTERS = 2_000  #: the wire's limit of a subtask's text
NOTES = 32  #: most notes of a plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One proposed subtask."""

    agent: AgentId
    share: float  #: its proposer's share of all voices, 0 to 1
    place: float  #: where its proposer put it, 0 first to 1 last
    text: str
    skills: tuple[str, ...]
    vector: NDArray[np.float64]  #: unit length, or zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Proposed subtasks that became one."""

    text: str  #: the medoid's
    skills: tuple[str, ...]
    proposers: tuple[AgentId, ...]
    support: float  #: share of the voices behind it, 0 to 1
    place: float  #: mean place in the proposals, weighted


def node_of(items: Sequence[Item]) -> Node:
    """Make the node of these subtasks.

    Its text is the medoid's: the one nearest to all by weight, of equals the weightier proposer's. A skill is asked for if
    more than half of the voices behind the node ask for it, so that one voice cannot make a subtask unstaffable.
    """
    vectors = np.stack([item.vector for item in items])
    weights = np.array([item.share for item in items])
    if not weights.any():
        weights = np.ones(len(items))
    nearness = np.round((vectors @ vectors.T) @ weights, 9)
    medoid = min(range(len(items)), key=lambda i: (-nearness[i], -weights[i], items[i].agent, items[i].place))
    voices = {item.agent: item.share for item in items}
    return Node(
        text=items[medoid].text[:TEXT_CHARACTERS],
        skills=_asked_for(items),
        proposers=tuple(sorted(voices)),
        support=sum(voices.values()),
        place=float(np.average([item.place for item in items], weights=weights)),
    )


def _asked_for(items: Sequence[Item]) -> tuple[str, ...]:
    voices = {item.agent: item.share for item in items}
    half = sum(voices.values()) / 2
    asking: dict[str, set[AgentId]] = {}
    for item in items:
        for skill in item.skills:
            asking.setdefault(skill, set()).add(item.agent)
    return tuple(
        sorted(
            skill
            for skill, agents in asking.items()
            if len(agents) == len(voices) or sum(voices[agent] for agent in agents) > half
        )
    )


def as_plan(
    nodes: Sequence[Node],
    edges: Mapping[graph.Pair, tuple[float, tuple[AgentId, ...]]],
    *,
    task: Task,
    notes: Sequence[str],
) -> Plan:
    """Name the nodes `s1` to `sn` in topological order, of free ones the earlier in the proposals first."""
    order = sorted(range(len(nodes)), key=lambda number: (round(nodes[number].place, 9), number))
    rough = _named(nodes, edges, order, task, notes)
    position = {SubtaskId(f"s{place}"): number for place, number in enumerate(order, 1)}
    return _named(nodes, edges, [position[subtask] for subtask in topological(rough)], task, notes)


def _named(
    nodes: Sequence[Node],
    edges: Mapping[graph.Pair, tuple[float, tuple[AgentId, ...]]],
    order: Sequence[int],
    task: Task,
    notes: Sequence[str],
) -> Plan:
    ids = {number: SubtaskId(f"s{place}") for place, number in enumerate(order, 1)}
    subtasks = tuple(
        Subtask(
            id=ids[number],
            text=nodes[number].text,
            skills=nodes[number].skills,
            policies=task.policies,
            proposers=nodes[number].proposers,
        )
        for number in order
    )
    drawn = tuple(
        Edge(before=ids[before], after=ids[after], weight=weight, proposers=agents)
        for (before, after), (weight, agents) in sorted(
            edges.items(), key=lambda one: (order.index(one[0][0]), order.index(one[0][1]))
        )
    )
    return Plan(subtasks=subtasks, edges=drawn, notes=bounded(notes))


def bounded(notes: Sequence[str]) -> tuple[str, ...]:
    """The first notes, and how many more there were."""
    if len(notes) <= NOTES:
        return tuple(notes)
    return (*notes[: NOTES - 1], f"and {len(notes) - NOTES + 1} more")


def single(task: Task, *, proposers: Sequence[AgentId] = (), notes: Sequence[str] = ()) -> Plan:
    """A task that needs no splitting: one node, `s1`, with the task's own text.

    A text over `TEXT_CHARACTERS` is shortened to its head; every request carries the whole task beside it.
    """
    text = task.text.strip() or "Answer the last message of the transcript."
    if len(text) > TEXT_CHARACTERS:
        text = text[: TEXT_CHARACTERS - 1] + "…"
    subtask = Subtask(id=SubtaskId("s1"), text=text, skills=task.skills, policies=task.policies, proposers=tuple(proposers))
    return Plan(subtasks=(subtask,), notes=bounded(notes))
