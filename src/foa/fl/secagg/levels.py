"""Weighted changes as whole numbers whose sum fits 32 bits, and the mean out of their sum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foa.errors import BadMessage
from foa.fl.secagg.masks import Levels

MODULUS = 2**32
REACH = 32.0  #: a weight that changes by more in one round is cut to this


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How numbers become levels; the same at every member."""

    members: int  #: that may add up, from 1
    weight_max: int  #: most that one member may count, from 1
    reach: float = REACH

    def __post_init__(self) -> None:
        if not (1 <= self.members <= 65_535 and self.weight_max >= 1 and self.members * self.weight_max < MODULUS):
            raise BadMessage("secure aggregation needs 1 to 65,535 members whose weights add up to less than 2³²")
        if not 0 < self.reach <= 1e6:
            raise BadMessage("secure aggregation needs a reach above 0 and at most a million")

    @property
    def levels(self) -> int:
        """Levels of one member, so that the sum of all fits."""
        return (MODULUS - 1) // self.members

    @property
    def error(self) -> float:
        """Most that the mean of one weight may be off by, where every member counts `weight_max`."""
        return self.reach / self.levels


def to_levels(change: NDArray[np.float64], weight: int, scale: Scale) -> Levels:
    """One member's vector: its weight, then its weighted change.

    Args:
        change: shape (d,), finite.
        weight: from 1 to `weight_max`; outside it is brought within.
        scale: of the round.
    """
    counted = min(max(1, weight), scale.weight_max)
    share = np.clip(change, -scale.reach, scale.reach) * (counted / scale.weight_max)
    steps = np.rint((share + scale.reach) / (2 * scale.reach) * scale.levels)
    return np.concatenate([[counted], steps]).astype(np.uint32)


def from_levels(total: Levels, members: int, scale: Scale) -> NDArray[np.float64]:
    """The weighted mean change, shape (d,), out of the sum of so many members' vectors.

    Raises:
        BadMessage: the weights in it are impossible: somebody sent something else.
    """
    weight = int(total[0])
    if not members <= weight <= members * scale.weight_max:
        raise BadMessage("the sum of the masked updates has impossible weights: this round has no model")
    shares = total[1:].astype(np.float64) * (2 * scale.reach / scale.levels) - members * scale.reach
    return shares / (weight / scale.weight_max)
