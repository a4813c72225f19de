"""Average-linkage clustering, with pairs that may not meet: the merge of proposals and the clusters of Alg. 3 stand on it.

`scipy.cluster.hierarchy` gives the same tree where nothing is forbidden (a test compares); it knows no forbidden pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A cluster of the tree: one item, or two branches joined at the average similarity of their pairs."""

    members: tuple[int, ...]  #: items, ascending
    similarity: float = np.inf  #: at which its two parts joined; infinite for one item
    parts: "tuple[Branch, Branch] | None" = None


def agglomerate(
    similarity: NDArray[np.floating],
    *,
    threshold: float = -np.inf,
    forbidden: NDArray[np.bool_] | None = None,
) -> tuple[Branch, ...]:
    """Join the two most similar clusters, again and again.

    Args:
        similarity: shape (n, n), symmetric.
        threshold: clusters less similar than this are not joined.
        forbidden: shape (n, n), symmetric; a pair that is True never shares a cluster.

    Returns:
        What could not be joined any more, ordered by lowest item. Ties join the lowest items first.

    Source: average linkage by the Lance-Williams update, Sokal and Michener (1958).
    """
    count = len(similarity)
    branches: dict[int, Branch] = {item: Branch(members=(item,)) for item in range(count)}
    between = np.array(similarity, dtype=np.float64)
    apart = np.zeros((count, count), dtype=bool) if forbidden is None else np.array(forbidden, dtype=bool)
    between[apart | np.eye(count, dtype=bool)] = -np.inf
    sums = np.array(similarity, dtype=np.float64)  # of the similarities of all pairs between two clusters
    while len(branches) > 1:
        # rounding: sums of the same pairs in another order must tie
        first, second = divmod(int(np.argmax(np.round(between, 12))), count)
        level = between[first, second]
        if level == -np.inf or level < threshold:
            break
        _join(branches, sums, apart, first, second, float(level))
        _refresh(branches, between, sums, apart, first, second)
    return tuple(branches[item] for item in sorted(branches))


def _join(
    branches: dict[int, Branch],
    sums: NDArray[np.float64],
    apart: NDArray[np.bool_],
    first: int,
    second: int,
    level: float,
) -> None:
    left, right = branches[first], branches.pop(second)
    branches[first] = Branch(members=tuple(sorted(left.members + right.members)), similarity=level, parts=(left, right))
    sums[first] += sums[second]
    sums[:, first] += sums[:, second]
    apart[first] |= apart[second]
    apart[:, first] |= apart[:, second]


def _refresh(
    branches: dict[int, Branch],
    between: NDArray[np.float64],
    sums: NDArray[np.float64],
    apart: NDArray[np.bool_],
    first: int,
    second: int,
) -> None:
    between[second] = between[:, second] = -np.inf
    size = len(branches[first].members)
    for other, branch in branches.items():
        if other == first:
            continue
        free = not apart[first, other]
        average = sums[first, other] / (size * len(branch.members)) if free else -np.inf
        between[first, other] = between[other, first] = average


def branches_below(branch: Branch, *, members_max: int, threshold: float) -> Iterator[tuple[int, ...]]:
    """Cut a tree into clusters: none joined below the threshold, none with more than `members_max` members."""
    if branch.parts is None or (branch.similarity >= threshold and len(branch.members) <= members_max):
        yield branch.members
        return
    for part in branch.parts:
        yield from branches_below(part, members_max=members_max, threshold=threshold)
