"""Coordinate-wise median and trimmed mean.

Source: Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.update import Arrays, Update, differences, moved, ordered


def median(base: Arrays, updates: Sequence[Update]) -> dict[str, NDArray[np.floating]]:
    """The median of every weight; sample counts do not matter."""
    return moved(base, np.median(differences(base, ordered(updates)), axis=0))


def trimmed_mean(base: Arrays, updates: Sequence[Update], *, share: float = 0.25) -> dict[str, NDArray[np.floating]]:
    """The mean of every weight without its highest and lowest `share` (under ½); at least one value remains."""
    if not 0 <= share < 0.5:
        raise ValueError(f"share {share} must be at least 0 and under 0.5")
    rows = np.sort(differences(base, ordered(updates)), axis=0)
    cut = min(int(np.ceil(share * len(rows))), (len(rows) - 1) // 2)
    return moved(base, rows[cut : len(rows) - cut].mean(axis=0))
