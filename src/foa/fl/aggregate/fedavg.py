"""The mean, weighted by records.

Source: McMahan et al., AISTATS 2017, algorithm 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.update import Arrays, Update, differences, moved, ordered


def fedavg(base: Arrays, updates: Sequence[Update]) -> dict[str, NDArray[np.floating]]:
    """Average by capped sample counts. One lying client moves it anywhere."""
    found = ordered(updates)
    weights = np.array([max(1, update.samples) for update in found], dtype=np.float64)
    return moved(base, weights @ differences(base, found) / weights.sum())
