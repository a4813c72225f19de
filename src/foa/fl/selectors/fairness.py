"""Seats for those who have waited longest, around any rule.

Who waits is mostly slow, and a round lasts as long as its slowest client: so they get their seats together, every few
rounds, rather than one in each.

Source: Huang et al., "An efficiency-boosting client selection scheme for federated learning with fairness guarantee",
IEEE TPDS 2021: a virtual queue a client, fed by its guaranteed share, drained by its turns.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, Selector, best
from foa.values.ids import AgentId


def fair(selector: Selector, *, every: int = 5, share: float = 1.0, patience: float = 2.0) -> Selector:
    """A rule that gives up to `share` of the seats of every so-manieth round to those owed `patience` turns.

    `selector` fills the rest.
    """

    def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        owed = [candidate for candidate in candidates if candidate.waiting >= patience]
        seats = min(len(owed), int(ask.k * share)) if ask.round % every == 0 else 0
        first = best(owed, [candidate.waiting for candidate in owed], seats)
        rest = [candidate for candidate in candidates if candidate not in first]
        others = selector(rest, replace(ask, k=ask.k - len(first)), rng) if rest and ask.k > len(first) else ()
        return (*(candidate.id for candidate in first), *others)

    return choose
