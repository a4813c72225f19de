"""Of a few drawn by data size, those that the model serves worst.

Source: Cho, Wang and Joshi, "Towards understanding biased client selection in federated learning", AISTATS 2022 (π_pow-d,
with the stale losses of their π_rpow-d).
"""

import math
from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, best, drawn
from foa.values.ids import AgentId

FACTOR = 3  #: d / k; with d = k it would be plain sampling


def power_of_choice(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Draw d = 3·k in proportion to their data, keep the k with the highest loss; one never seen counts as worst."""
    polled = drawn(candidates, FACTOR * ask.k, rng, [max(1, candidate.samples) for candidate in candidates])
    losses = [math.inf if candidate.loss is None else candidate.loss for candidate in polled]
    return tuple(candidate.id for candidate in best(polled, losses, ask.k))
