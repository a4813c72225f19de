"""Within a long-term energy allowance, with more clients later than sooner.

Source: Xu and Wang, "Client selection and bandwidth allocation in wireless federated learning networks: a long-term
perspective", IEEE TWC 2021 (OCEAN): Lyapunov virtual energy queues and "later is better". The division of bandwidth is left
out: transfers here do not share one channel.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, best
from foa.values.ids import AgentId

EARLY_SHARE = 0.6  #: of k in the first round, growing to all of k at half time and 1.4 k at the end, cut at k


def ocean(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Choose those with the least energy debt times energy of a round; k is reached at half time."""
    progress = min(1.0, ask.round / max(1, ask.rounds))
    wanted = max(1, min(ask.k, round(ask.k * (EARLY_SHARE + 2 * (1 - EARLY_SHARE) * progress))))
    # ties (nobody owes anything at first) are broken at random, or registry order would decide
    order = rng.permutation(len(candidates))
    shuffled = [candidates[i] for i in order]
    drift = [-candidate.energy_debt * max(candidate.joules, 1e-9) for candidate in shuffled]
    return tuple(candidate.id for candidate in best(shuffled, drift, wanted))
