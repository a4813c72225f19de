"""From updates to the next model: one rule a file, each with its paper, each a pure function.

Every rule gives the same whatever order the updates come in, and takes sample counts only after they were capped by what
the client's VCV says. Which rules can be used with what: SecAgg+ hides single updates, so with it only `fedavg` is left;
local noise inflates the distances that Krum looks at; `multikrum` and `median` need equal shapes, HeteroFL does not.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foa.fl.aggregate.clip import clipped_mean
from foa.fl.aggregate.fedavg import fedavg
from foa.fl.aggregate.fltrust import fltrust
from foa.fl.aggregate.heterofl import cut, heterofl
from foa.fl.aggregate.krum import krum, mix_nearest, multikrum
from foa.fl.aggregate.median import median, trimmed_mean
from foa.fl.aggregate.update import Arrays, Update, capped


class Aggregation(Protocol):
    """A rule that needs nothing but the last model and the updates."""

    def __call__(self, base: Arrays, updates: Sequence[Update]) -> dict[str, NDArray[np.floating]]:
        """The next model: same names, shapes and types as the base."""
        ...


#: Rules a server agent may name; each takes (base, updates). FLTrust and HeteroFL need more and are called by name.
AGGREGATIONS: Mapping[str, Aggregation] = {
    "fedavg": fedavg,
    "clipped": clipped_mean,
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "multikrum": multikrum,
}

#: Every rule that a plan may name. FLTrust is there only where the server trains on clean data of its own.
RULES: tuple[str, ...] = (*AGGREGATIONS, "fltrust")

__all__ = [
    "AGGREGATIONS",
    "RULES",
    "Aggregation",
    "Arrays",
    "Update",
    "capped",
    "clipped_mean",
    "cut",
    "fedavg",
    "fltrust",
    "heterofl",
    "krum",
    "median",
    "mix_nearest",
    "multikrum",
    "trimmed_mean",
]
