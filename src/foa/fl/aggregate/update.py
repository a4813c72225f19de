"""A client's update, and the matrix form that the robust rules look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foa.errors import BadInput
from foa.values.ids import AgentId

#: A model: its arrays by name, float32 or float64.
Arrays = Mapping[str, NDArray[np.floating]]


#: A weight beyond this is no weight; squares of it still add up in float64, and it fits float32.
LARGEST = 1e18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Update:
    """What one client sends back: its model after training."""

    client: AgentId
    arrays: Arrays  #: whole weights, not differences
    samples: int  #: training records, as it says; cap it before use


def capped(updates: Sequence[Update], limits: Mapping[AgentId, int]) -> tuple[Update, ...]:
    """The updates with sample counts at least 1 and at most what each client's VCV said; unknown clients count 1."""
    return tuple(replace(update, samples=max(1, min(update.samples, limits.get(update.client, 1)))) for update in updates)


def ordered(updates: Sequence[Update]) -> list[Update]:
    """By client id, so that no sum depends on who answered first.

    Raises:
        BadInput: there is no update, or two of one client.
    """
    found = sorted(updates, key=lambda update: update.client)
    if not found:
        raise BadInput("there is no update to aggregate: keep the last model")
    if len({update.client for update in found}) != len(found):
        raise BadInput("two updates of one client in one round: keep the first and drop the other")
    return found


def flat(arrays: Arrays) -> NDArray[np.float64]:
    """All weights in one row, by name."""
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in sorted(arrays)])


def shaped(row: NDArray[np.float64], like: Arrays) -> dict[str, NDArray[np.floating]]:
    """The inverse of `flat`, with the shapes and types of `like`."""
    found, at = dict[str, NDArray[np.floating]](), 0
    for name in sorted(like):
        size = like[name].size
        found[name] = row[at : at + size].reshape(like[name].shape).astype(like[name].dtype)
        at += size
    return found


def differences(base: Arrays, updates: Sequence[Update]) -> NDArray[np.float64]:
    """One row a client, in the order given: its weights less the base.

    Raises:
        BadInput: an update has other arrays or shapes than the base, or holds numbers that cannot be reckoned with.
    """
    for update in updates:
        if {name: array.shape for name, array in update.arrays.items()} != {name: base[name].shape for name in base}:
            raise BadInput(f"the update of {update.client} has other arrays than the model: screen it out")
        check_numbers(update)
    start = flat(base)
    return np.stack([flat(update.arrays) - start for update in updates])


def check_numbers(update: Update) -> None:
    """Let an update pass whose numbers can be reckoned with.

    Raises:
        BadInput: one is not finite, or so large that its square would spoil a distance.
    """
    for array in update.arrays.values():
        # also false for what is not a number
        if array.size and not np.abs(np.asarray(array, np.float64)).max() <= LARGEST:
            raise BadInput(
                f"the update of {update.client} holds numbers that are not finite, or over {LARGEST:g}: screen it out"
            )


def moved(base: Arrays, step: NDArray[np.float64]) -> dict[str, NDArray[np.floating]]:
    """The base after a step."""
    return shaped(flat(base) + step, base)
