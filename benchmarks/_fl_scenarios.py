"""What happens to the simulated devices while they train, and what their owner wishes.

steady   nothing changes
shift    from round 6 on half of the devices are ten times slower (their owners come home and use them), and what was
         remembered of them is wrong
policy   the owner's wishes come as plain words, which only a model can read; rounds are five hours apart
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLIENTS, K, ROUNDS, ALPHA, TARGET = 50, 8, 40, 0.2, 0.80
SHIFT_AFTER, SLOWER = 5, 10.0  #: rounds; a factor
HOURS_APART = 5  #: from one round to the next, in `policy`
FEW = 4  #: clients that `policy` allows from Monday to Friday


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a round begins."""

    hour: int = 12
    weekday: int = 0  #: 0 for Monday

    @property
    def night(self) -> bool:
        """From 22 to 6."""
        return self.hour >= 22 or self.hour < 6

    @property
    def weekend(self) -> bool:
        """Saturday or Sunday."""
        return self.weekday >= 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One course of events."""

    policy: str  #: the owner's wishes
    k_min: int = K  #: equal mean k: the agent chooses exactly K, but where wishes are about k
    groups: tuple[str, ...] = ()
    shifts: bool = False
    days: bool = False  #: rounds are hours apart

    def moment(self, number: int) -> Moment:
        """When this round begins."""
        if not self.days:
            return Moment()
        hours = 8 + HOURS_APART * (number - 1)
        return Moment(hour=hours % 24, weekday=hours // 24 % 7)

    def slowdown(self, number: int) -> NDArray[np.float64]:
        """A factor on each client's computing time."""
        slow = self.shifts and number > SHIFT_AFTER
        return np.where((np.arange(CLIENTS) % 2 == 0) & slow, SLOWER, 1.0)

    def group(self, client: int) -> str:
        """Of this client."""
        return self.groups[client % len(self.groups)] if self.groups else ""

    def broken(self, moment: Moment, chosen: Sequence[int]) -> tuple[bool, bool]:
        """Whether a round breaks the first wish, and the second."""
        if not self.groups:
            return False, False
        north = any(self.group(client) == "north" for client in chosen)
        return north and moment.night, len(chosen) > FEW and not moment.weekend


PLAIN = "Reach 80 % accuracy soon; do not starve anybody."
SCENARIOS = {
    "steady": Scenario(policy=PLAIN),
    "shift": Scenario(policy=PLAIN, shifts=True),
    "policy": Scenario(
        policy="Clients of region north must not train at night, from 22 to 6. "
        f"Save batteries: at most {FEW} clients a round from Monday to Friday, {K} on Saturday and Sunday.",
        k_min=2,
        groups=("north", "south"),
        days=True,
    ),
}


def speeds(data: str, seed: int) -> tuple[NDArray[np.float64], str]:
    """A relative speed a client (median 1), and where it is from."""
    rng, path = np.random.default_rng(seed + 999), Path(data) / "device_speeds" / "flash_scores.json"
    if data and path.exists():
        known = [value for value in json.loads(path.read_text()).values() if isinstance(value, int | float)]
        return rng.choice(known, CLIENTS) / np.median(known), "real phone scores"
    return rng.lognormal(0, 0.8, CLIENTS), "log-normal draw"
