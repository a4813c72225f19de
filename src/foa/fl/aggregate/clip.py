"""The mean of updates that are no longer than most.

Source: Sun et al., "Can you really backdoor federated learning?", 2019 (norm bounding), with the median norm as the bound.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.update import Arrays, Update, differences, moved, ordered


def clipped_mean(base: Arrays, updates: Sequence[Update], *, norm: float | None = None) -> dict[str, NDArray[np.floating]]:
    """Cut every update to `norm` (None: the median length of them), then average by samples."""
    found = ordered(updates)
    rows = differences(base, found)
    lengths = np.linalg.norm(rows, axis=1)
    bound = float(np.median(lengths)) if norm is None else norm
    rows *= np.minimum(1.0, bound / np.maximum(lengths, 1e-12))[:, None]
    weights = np.array([max(1, update.samples) for update in found], dtype=np.float64)
    return moved(base, weights @ rows / weights.sum())
