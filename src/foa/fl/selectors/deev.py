"""Those that the model serves below average, fewer every round.

Source: de Souza et al., "Dynamic client selection for efficient federated learning (DEEV)", Ad Hoc Networks 2024: clients
below the mean accuracy, of which a share (1 − decay)^t is kept.
"""

import math
from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, best, drawn
from foa.values.ids import AgentId

DECAY = 0.01


def deev(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Choose the worst served, k·(1 − 0.01)^round of them, at least one; those never measured come first, at random."""
    wanted = max(1, math.ceil(ask.k * (1 - DECAY) ** (ask.round - 1)))
    unknown = [candidate for candidate in candidates if candidate.accuracy is None]
    known = [candidate for candidate in candidates if candidate.accuracy is not None]
    chosen = drawn(unknown, wanted, rng)
    if known and len(chosen) < wanted:
        mean = sum(candidate.accuracy or 0.0 for candidate in known) / len(known)
        below = [candidate for candidate in known if (candidate.accuracy or 0.0) <= mean]
        chosen += best(below, [-(candidate.accuracy or 0.0) for candidate in below], wanted - len(chosen))
    return tuple(candidate.id for candidate in chosen)
