"""Seats for those who have waited longest, around any rule.

Source: Huang et al., "An efficiency-boosting client selection scheme for federated learning with fairness guarantee",
IEEE TPDS 2021: a virtual queue a client, fed by its guaranteed share, drained by its turns.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, Selector, best
from foa.values.ids import AgentId


def fair(selector: Selector, *, share: float = 0.25, patience: float = 1.5) -> Selector:
    """A rule that gives up to `share` of the seats to those owed `patience` turns; `selector` fills the rest."""

    def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        owed = [candidate for candidate in candidates if candidate.waiting >= patience]
        seats = min(len(owed), int(ask.k * share))
        first = best(owed, [candidate.waiting for candidate in owed], seats)
        rest = [candidate for candidate in candidates if candidate not in first]
        others = selector(rest, replace(ask, k=ask.k - len(first)), rng) if rest and ask.k > len(first) else ()
        return (*(candidate.id for candidate in first), *others)

    return choose
