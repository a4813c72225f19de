"""Who trains this round: one rule a file, each with its paper, each a pure function of what is remembered.

Every rule gives distinct ids of the candidates it was shown, at most `ask.k`; they differ in whom. All are deterministic
for one random generator, so a repeated round chooses the same clients.
"""

from collections.abc import Mapping

from foa.fl.selectors.ask import Ask, Selector
from foa.fl.selectors.bandit import bandit
from foa.fl.selectors.coverage import covering
from foa.fl.selectors.deev import deev
from foa.fl.selectors.fairness import fair
from foa.fl.selectors.fedcs import fedcs
from foa.fl.selectors.ocean import ocean
from foa.fl.selectors.oort import oort, oort_per_turn
from foa.fl.selectors.pace import paced
from foa.fl.selectors.phases import phased
from foa.fl.selectors.power_of_choice import power_of_choice
from foa.fl.selectors.uniform import uniform

#: Every rule by the name a user, a file or a language model calls it.
SELECTORS: Mapping[str, Selector] = {
    "random": uniform,
    "fedcs": fedcs,
    "power-of-choice": power_of_choice,
    "oort": oort,
    "oort-per-turn": oort_per_turn,
    "deev": deev,
    "ocean": ocean,
    "bandit": bandit,
}

__all__ = ["SELECTORS", "Ask", "Selector", "covering", "fair", "paced", "phased"]
