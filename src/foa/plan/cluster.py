"""Who refines with whom (Alg. 3): clusters of a subtask's team, a pure function of vectors.

Source: arXiv:2509.20175, Alg. 3. The main text has three terms and Alg. 3 four; we take four, and w2 = 0.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from foa.plan.linkage import agglomerate, branches_below
from foa.values.vcv import Matrix

Clusters = tuple[tuple[int, ...], ...]


def similarity(
    capability: Matrix,
    resources: Matrix,
    drafts: Matrix,
    specs: Matrix,
    weights: Sequence[float] = (0.3, 0.0, 0.5, 0.2),
) -> Matrix:
    """How well each two agents go together for a subtask: S_ij = Σ w cos.

    Args:
        capability: c, shape (n, d).
        resources: r as numbers of like size, shape (n, k); not looked at where its weight is 0.
        drafts: ψ of each draft, shape (n, d).
        specs: e, shape (n, d).
        weights: w1 to w4, not negative. The cut of `form_clusters` means what it says if they sum to 1.

    Returns:
        Shape (n, n), float32, symmetric. The cosine of a zero row with anything is 0.

    Raises:
        ValueError: row counts differ, a weight is negative, or there are not four.
    """
    terms = (capability, resources, drafts, specs)
    if len(weights) != len(terms) or min(weights) < 0:
        raise ValueError(f"four weights that are not negative are needed, got {tuple(weights)}")
    used = [(weight, term) for weight, term in zip(weights, terms, strict=True) if weight > 0]
    if len({len(term) for _, term in used}) > 1:
        raise ValueError(f"row counts differ: {[len(term) for term in terms]}")
    total = np.zeros((len(capability), len(capability)))
    for weight, term in used:
        total += weight * _cosines(term)
    return ((total + total.T) / 2).astype(np.float32)


def _cosines(rows: Matrix) -> NDArray[np.float64]:
    wide = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit @ unit.T


def form_clusters(
    alike: Matrix,
    *,
    threshold: float = 0.2,
    members_max: int = 4,
    members_min: int = 1,
    also_at: float | None = None,
) -> Clusters:
    """Cut the average-linkage tree of S into clusters.

    A cluster over `members_max` is split where its tree last joined. One under `members_min` joins the cluster it is most
    similar to, or takes a member from it, as long as nobody is put below the threshold; otherwise it stays small.

    Args:
        alike: S, shape (n, n), symmetric, from `similarity`.
        threshold: least average similarity inside a cluster (`FOE_CLUSTER_SIM_THRESHOLD`).
        members_max: most members of a cluster.
        members_min: wished-for least members.
        also_at: an agent at least this similar on average to another cluster with room is in that one too; None: a
            partition.

    Returns:
        Members of each cluster, ascending; clusters by their lowest member. Every agent is in at least one.

    Raises:
        ValueError: S is not square, symmetric and finite, or the sizes contradict each other.
    """
    _check(alike, members_max, members_min)
    clusters: list[tuple[int, ...]] = []
    for branch in agglomerate(alike, threshold=threshold):
        clusters.extend(branches_below(branch, members_max=members_max, threshold=threshold))
    clusters = _fill(clusters, alike, threshold=threshold, members_max=members_max, members_min=members_min)
    if also_at is not None:
        clusters = _share(clusters, alike, least=max(also_at, threshold), members_max=members_max)
    return tuple(sorted(clusters))


def _check(alike: Matrix, members_max: int, members_min: int) -> None:
    if (
        alike.ndim != 2
        or alike.shape[0] != alike.shape[1]
        or not np.isfinite(alike).all()
        or not np.allclose(alike, alike.T, atol=1e-5)
    ):
        raise ValueError(f"S must be square, symmetric and finite, got shape {alike.shape}")
    if not 1 <= members_min <= members_max:
        raise ValueError(f"members_min {members_min} to members_max {members_max} is no range of sizes")


def _average(alike: Matrix, agents: Sequence[int], cluster: Sequence[int]) -> float:
    return float(alike[np.ix_(agents, cluster)].mean())


def _fill(
    clusters: list[tuple[int, ...]],
    alike: Matrix,
    *,
    threshold: float,
    members_max: int,
    members_min: int,
) -> list[tuple[int, ...]]:
    settled: list[tuple[int, ...]] = []
    waiting = sorted(clusters, key=lambda cluster: (len(cluster), cluster))
    while waiting:
        small = waiting.pop(0)
        if len(small) >= members_min:
            settled.append(small)
            continue
        others = sorted(
            chain(waiting, settled),
            key=lambda other: (-_average(alike, small, other), other),
        )
        changed = _grow(small, others, alike, threshold, members_max, members_min)
        if changed is None:
            settled.append(small)
            continue
        taken, made = changed
        waiting = sorted([c for c in waiting if c != taken] + made, key=lambda cluster: (len(cluster), cluster))
        settled = [c for c in settled if c != taken]
    return settled


def _grow(
    small: tuple[int, ...],
    others: Sequence[tuple[int, ...]],
    alike: Matrix,
    threshold: float,
    members_max: int,
    members_min: int,
) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    """The cluster that changes and what it and `small` become; None where nothing helps."""
    for other in others:
        if len(other) + len(small) <= members_max and _average(alike, small, other) >= threshold:
            return other, [tuple(sorted(other + small))]
    for other in others:
        if len(other) <= members_min:
            continue
        best = max(other, key=lambda agent: (_average(alike, small, [agent]), -agent))
        if _average(alike, small, [best]) >= threshold:
            return other, [tuple(a for a in other if a != best), tuple(sorted((*small, best)))]
    return None


def _share(
    clusters: list[tuple[int, ...]],
    alike: Matrix,
    *,
    least: float,
    members_max: int,
) -> list[tuple[int, ...]]:
    grown = [list(cluster) for cluster in clusters]
    offers = sorted(
        (-_average(alike, [agent], cluster), agent, position)
        for position, cluster in enumerate(clusters)
        for agent in range(len(alike))
        if agent not in cluster and _average(alike, [agent], cluster) >= least
    )
    for _, agent, position in offers:
        if len(grown[position]) < members_max:
            grown[position].append(agent)
    return [tuple(sorted(cluster)) for cluster in grown]
