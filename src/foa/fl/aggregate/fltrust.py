"""Trust what points the way of a small clean set that the server holds.

Source: Cao et al., "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS 2021.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.update import Arrays, Update, differences, flat, moved, ordered


def fltrust(base: Arrays, updates: Sequence[Update], *, trusted: Arrays) -> dict[str, NDArray[np.floating]]:
    """Weigh each update by its cosine to the server's own (negative: 0) and cut it to the length of that.

    Args:
        base: the last model.
        updates: of the clients.
        trusted: the model after the server trained it on its clean set. If no client agrees with it at all, the base stays.
    """
    rows = differences(base, ordered(updates))
    own = flat(trusted) - flat(base)
    length = float(np.linalg.norm(own))
    lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    trust = np.maximum(0.0, rows @ own / (lengths * max(length, 1e-12)))
    if trust.sum() <= 0:
        return moved(base, np.zeros_like(own))
    return moved(base, (trust * length / lengths) @ rows / trust.sum())
