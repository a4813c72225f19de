"""Krum and Multi-Krum, after each update was mixed with its nearest neighbours.

Sources: Blanchard et al., "Machine learning with adversaries", NeurIPS 2017; Allouah et al., "Fixing by mixing",
AISTATS 2023, where mixing first is what makes Krum hold when clients' data differ.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.update import Arrays, Update, differences, moved, ordered


def krum(base: Arrays, updates: Sequence[Update], *, bad: int | None = None) -> dict[str, NDArray[np.floating]]:
    """The one mixed update that is closest to its neighbours."""
    return multikrum(base, updates, bad=bad, keep=1)


def multikrum(
    base: Arrays, updates: Sequence[Update], *, bad: int | None = None, keep: int | None = None, mix: bool = True
) -> dict[str, NDArray[np.floating]]:
    """The mean of the `keep` updates closest to their neighbours.

    Args:
        base: the last model.
        updates: any number; with three or fewer nothing can be told apart and their median is taken.
        bad: how many may be poisoned; None: the most it can stand, (n − 3) / 2 rounded down.
        keep: how many to average; None: n − bad.
        mix: whether each update is averaged with its n − bad nearest first.
    """
    rows = differences(base, ordered(updates))
    n = len(rows)
    if n <= 3:
        return moved(base, np.median(rows, axis=0))
    bad = max(0, min((n - 3) // 2, n if bad is None else bad))
    if mix:
        rows = mix_nearest(rows, bad)
    distances = _distances(rows)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, : n - bad - 2].sum(axis=1)
    chosen = np.sort(np.argsort(scores, kind="stable")[: min(n, n - bad if keep is None else max(1, keep))])
    return moved(base, rows[chosen].mean(axis=0))


def mix_nearest(rows: NDArray[np.float64], bad: int) -> NDArray[np.float64]:
    """Each row replaced by the mean of itself and its nearest, n − bad in all."""
    order = np.argsort(_distances(rows), axis=1, kind="stable")[:, : len(rows) - bad]
    return rows[np.sort(order, axis=1)].mean(axis=1)


def _distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances, shape (n, n), a zero diagonal."""
    squares = (rows * rows).sum(axis=1)
    found = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    np.fill_diagonal(found, 0.0)
    return found
