"""Pace first, fairness later, around any rule.

A model gains most in its first rounds, and every slow client in one of them delays it; what is left to gain later lies with
those whose turns were put off. Both numbers were chosen on simulated runs (docs/explanation/federated-learning.md says
which), not derived.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, Selector
from foa.fl.selectors.fairness import fair
from foa.fl.selectors.pace import paced
from foa.values.ids import AgentId

EARLY = 0.6  #: share of the planned rounds
TURNS_LATER = 2  #: of every so-manieth later round, the seats go first to those who waited longest


def phased(selector: Selector, *, early: float = EARLY) -> Selector:
    """A rule that keeps slow clients to every fifth of the early rounds, and later pays the turns that are owed."""
    first, later = fair(paced(selector)), fair(selector, every=TURNS_LATER)

    def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        rule = first if ask.round <= early * ask.rounds else later
        return rule(candidates, ask, rng)

    return choose
