"""Upper confidence bound on a client's discounted loss.

Source: Cho, Gupta, Joshi and Yağan, "Bandit-based communication-efficient client selection strategies for federated
learning", Asilomar 2020 (UCB-CS), equations 5 and 6.
"""

import math
from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, best
from foa.values.ids import AgentId


def bandit(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Choose the k highest of data share × (mean discounted loss + confidence width); the untried come first."""
    order = rng.permutation(len(candidates))
    shuffled = [candidates[i] for i in order]
    total = sum(candidate.discounted_rounds for candidate in shuffled)
    spread = max((candidate.loss or 0.0 for candidate in shuffled), default=0.0)
    data = sum(candidate.samples for candidate in shuffled) or 1

    def index(candidate: Candidate) -> float:
        if candidate.rounds == 0 or candidate.discounted_rounds <= 0:
            return math.inf
        mean = candidate.discounted_loss / candidate.discounted_rounds
        width = math.sqrt(2 * spread**2 * math.log(max(total, 1.0) + 1) / candidate.discounted_rounds)
        return candidate.samples / data * (mean + width)

    return tuple(candidate.id for candidate in best(shuffled, [index(candidate) for candidate in shuffled], ask.k))
