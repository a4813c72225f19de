"""Several agents' proposals become one consensual DAG (Alg. 1).

    proposals ─► clean ─► cluster subtasks ─► draw edges ─► cap nodes ─► break cycles ─► reduce ─► Plan
                  │         (average linkage)   (shares)     (support)    (weakest)       │
                  └──────────────── what was dropped or changed is said in the notes ────┘

The result does not depend on the order of the proposals.

Source: arXiv:2509.20175, Alg. 1; the paper says "merge" and leaves how to its reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foa.plan import graph
from foa.plan.linkage import agglomerate
from foa.plan.nodes import Item, Node, as_plan, node_of, single
from foa.plan.validate import validate
from foa.values.ids import AgentId
from foa.values.plan import Plan, Proposal
from foa.values.task import Task
from foa.values.vcv import Matrix

SIMILARITY = 0.5  #: FOE_DECOMP_MERGE_SIM
NEAR_IDENTICAL = 0.97  #: two subtasks of one proposer are one only from here on
NODES = 8  #: most subtasks of a merged plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentProposal:
    """One agent's proposal with the weight of its voice."""

    agent: AgentId
    proposal: Proposal
    weight: float  #: reputation, not negative
    vectors: Matrix  #: embeddings of its subtasks' texts, shape (len(subtasks), d)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clean:
    """A proposal without its faults; edges join positions in `items`."""

    agent: AgentId
    share: float  #: of all voices, 0 to 1
    items: tuple[Item, ...]
    edges: tuple[tuple[int, int], ...]


def merge(
    proposals: Sequence[AgentProposal],
    *,
    task: Task,
    similarity: float = SIMILARITY,
    nodes_max: int = NODES,
) -> Plan:
    """Merge proposals into one plan; who proposed each node and edge stays with it.

    Subtasks with an average cosine of at least `similarity` become one node, never two of the same proposer unless they say
    nearly the same. An edge weighs the share of the voices that drew it. Where no two proposers share a node, they
    disagree entirely, and the plan of the proposer with the highest weight stands.

    Args:
        proposals: at most one of each agent; faulty indexes, self-loops and repeated edges in them are dropped.
        task: its policies are copied to every subtask; with nothing to merge it stays whole.
        similarity: least cosine, −1 to 1 (`FOE_DECOMP_MERGE_SIM`).
        nodes_max: most nodes; the ones with the least support go first.

    Returns:
        A plan that `validate` accepts, ids `s1` to `sn` in topological order.

    Raises:
        ValueError: misuse: an agent twice, vectors of the wrong shape or not finite, a negative weight, no room for a node.
    """
    _check(proposals, nodes_max)
    notes: list[str] = []
    cleaned = _clean(proposals, notes)
    if not cleaned:
        return single(task, notes=(*notes, "nobody proposed a usable subtask: the task stays whole"))
    groups = _group(cleaned, similarity)
    if len(cleaned) > 1 and all(len({item.agent for item in group}) == 1 for group in groups):
        best = max(cleaned, key=lambda one: one.share)  # of equals the first by name
        notes.append(f"the {len(cleaned)} proposals share no subtask: the plan of {best.agent}, weighed highest, stands")
        cleaned = [best]
        groups = _group(cleaned, similarity)
    nodes = [node_of(group) for group in groups]
    drawn = _draw(cleaned, groups)
    nodes, drawn = _cap(nodes, drawn, nodes_max, notes)
    if len(nodes) == 1:
        return single(task, proposers=nodes[0].proposers, notes=tuple(notes))
    stay, out = graph.acyclic({pair: edge.share for pair, edge in drawn.items()})
    for before, after in out:
        notes.append(
            f"left out {nodes[before].text[:60]!r} → {nodes[after].text[:60]!r} "
            f"(weight {drawn[before, after].share:.2f}): it closed a cycle"
        )
    edges = {pair: (drawn[pair].share, drawn[pair].agents) for pair in graph.reduced(stay)}
    return validate(as_plan(nodes, edges, task=task, notes=notes), nodes_max=nodes_max)


def _check(proposals: Sequence[AgentProposal], nodes_max: int) -> None:
    if nodes_max < 1:
        raise ValueError(f"a plan needs room for a node, got nodes_max {nodes_max}")
    if len({one.agent for one in proposals}) < len(proposals):
        raise ValueError("an agent has more than one proposal")
    for one in proposals:
        if not (np.isfinite(one.weight) and one.weight >= 0):
            raise ValueError(f"the weight of {one.agent} must be finite and not negative, got {one.weight}")
        if one.vectors.ndim != 2 or len(one.vectors) != len(one.proposal.subtasks) or not np.isfinite(one.vectors).all():
            raise ValueError(f"{one.agent}: one finite vector a subtask is needed, got shape {one.vectors.shape}")
    if len({one.vectors.shape[1] for one in proposals if len(one.vectors)}) > 1:
        raise ValueError("the vectors of the proposals have different widths")


def _clean(proposals: Sequence[AgentProposal], notes: list[str]) -> list[_Clean]:
    able = sorted((one for one in proposals if one.proposal.subtasks), key=lambda one: one.agent)
    notes.extend(f"{one.agent} proposed no subtask" for one in proposals if not one.proposal.subtasks)
    total = sum(one.weight for one in able)
    return [
        clean
        for one in able
        if (clean := _clean_one(one, one.weight / total if total > 0 else 1 / len(able), notes)) is not None
    ]


def _clean_one(one: AgentProposal, share: float, notes: list[str]) -> _Clean | None:
    usable = [index for index, subtask in enumerate(one.proposal.subtasks) if subtask.text.strip()]
    if len(usable) < len(one.proposal.subtasks):
        notes.append(f"{one.agent}: dropped {len(one.proposal.subtasks) - len(usable)} subtasks without a text")
    if not usable:
        return None
    position = {index: place for place, index in enumerate(usable)}
    edges = {
        (position[before], position[after]): None
        for before, after in one.proposal.edges
        if before != after and before in position and after in position
    }
    if len(edges) < len(one.proposal.edges):
        dropped = len(one.proposal.edges) - len(edges)
        notes.append(f"{one.agent}: dropped {dropped} edges that were repeated, led nowhere or to themselves")
    items = tuple(
        Item(
            agent=one.agent,
            share=share,
            place=place / max(len(usable) - 1, 1),
            text=one.proposal.subtasks[index].text.strip(),
            skills=one.proposal.subtasks[index].skills,
            vector=_unit(one.vectors[index]),
        )
        for place, index in enumerate(usable)
    )
    return _Clean(agent=one.agent, share=share, items=items, edges=tuple(edges))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(wide))
    return wide / length if length > 0 else wide


def _group(cleaned: Sequence[_Clean], similarity: float) -> list[tuple[Item, ...]]:
    items = [item for one in cleaned for item in one.items]
    vectors = np.stack([item.vector for item in items])
    cosines = vectors @ vectors.T
    agents = np.array([item.agent for item in items])
    forbidden = (agents[:, None] == agents[None, :]) & (cosines < NEAR_IDENTICAL)
    np.fill_diagonal(forbidden, False)
    branches = agglomerate(cosines, threshold=similarity, forbidden=forbidden)
    return [tuple(items[member] for member in branch.members) for branch in branches]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    share: float  #: of the voices that drew it, 0 to 1
    agents: tuple[AgentId, ...]


def _draw(cleaned: Sequence[_Clean], groups: Sequence[tuple[Item, ...]]) -> dict[graph.Pair, _Drawn]:
    node_of_item = {id(item): number for number, group in enumerate(groups) for item in group}
    voices: dict[graph.Pair, list[_Clean]] = {}
    for one in cleaned:
        pairs = {(node_of_item[id(one.items[b])], node_of_item[id(one.items[a])]) for b, a in one.edges}
        for before, after in sorted(pairs):
            if before != after:
                voices.setdefault((before, after), []).append(one)
    total = sum(one.share for one in cleaned)
    return {
        pair: _Drawn(
            share=min(1.0, sum(one.share for one in drew) / total) if total > 0 else len(drew) / len(cleaned),
            agents=tuple(one.agent for one in drew),
        )
        for pair, drew in voices.items()
    }


def _cap(
    nodes: list[Node],
    drawn: Mapping[graph.Pair, _Drawn],
    nodes_max: int,
    notes: list[str],
) -> tuple[list[Node], dict[graph.Pair, _Drawn]]:
    """Drop the nodes with the least support; what a dropped one joined stays in order."""
    ranked = sorted(range(len(nodes)), key=lambda number: (-nodes[number].support, nodes[number].place, number))
    edges = dict(drawn)
    for number in reversed(ranked[nodes_max:]):
        notes.append(f"left out {nodes[number].text[:60]!r}: over the limit of {nodes_max} subtasks and least supported")
        edges = _without(edges, number)
    kept = sorted(ranked[:nodes_max])
    renumbered = {number: place for place, number in enumerate(kept)}
    return (
        [nodes[number] for number in kept],
        {(renumbered[before], renumbered[after]): edge for (before, after), edge in edges.items()},
    )


def _without(edges: Mapping[graph.Pair, _Drawn], node: int) -> dict[graph.Pair, _Drawn]:
    shares = graph.without({pair: edge.share for pair, edge in edges.items()}, node)
    return {
        (before, after): edges[before, after]
        if (before, after) in edges and edges[before, after].share >= share
        else _Drawn(
            share=share,
            agents=tuple(sorted({*edges[before, node].agents, *edges[node, after].agents})),
        )
        for (before, after), share in shares.items()
    }
