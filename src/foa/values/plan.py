"""The consensual DAG G = (S, E): subtasks and the edges between them, each with who proposed it."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from foa.values.ids import AgentId, SubtaskId
from foa.values.resources import Name
from foa.values.task import Label

SubtaskText = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedSubtask:
    """One subtask of one agent's proposal; its index in the proposal is its name there."""

    text: SubtaskText
    skills: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """How one agent would split a task (Alg. 1)."""

    subtasks: Annotated[tuple[ProposedSubtask, ...], msgspec.Meta(max_length=16)]
    #: (before, after): indexes into `subtasks`
    edges: Annotated[tuple[tuple[int, int], ...], msgspec.Meta(max_length=240)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """A node of the merged DAG."""

    id: SubtaskId
    text: SubtaskText
    skills: tuple[Name, ...] = ()
    policies: tuple[Label, ...] = ()  #: the task's own, never fewer
    proposers: tuple[AgentId, ...] = ()  #: who proposed it; empty: Agent-0 itself (a task left whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`before` must be reported before `after` is drafted."""

    before: SubtaskId
    after: SubtaskId
    weight: float = 1.0  #: reputation-weighted share of proposers that drew it, 0 to 1
    proposers: tuple[AgentId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A validated DAG: ids are unique, edges join known nodes, no cycle. `foa.plan.validate` makes it so."""

    subtasks: tuple[Subtask, ...]
    edges: tuple[Edge, ...] = ()
    notes: tuple[str, ...] = ()  #: what merging dropped or changed, said out loud
