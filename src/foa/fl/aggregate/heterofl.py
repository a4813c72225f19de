"""Clients of different widths: each weight is averaged over those that hold it.

Source: Diao, Ding and Tarokh, "HeteroFL: computation and communication efficient federated learning for heterogeneous
clients", ICLR 2021. A client of width w holds the first w of every hidden axis.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foa.errors import BadInput
from foa.fl.aggregate.update import Arrays, Update, check_numbers, ordered


def cut(arrays: Arrays, width: float, hidden: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.floating]]:
    """The part of a model that a client of this width gets.

    Args:
        arrays: the whole model.
        width: share of every hidden axis, 0 < width ≤ 1; rounded up, so at least one unit remains.
        hidden: for each array the axes that may be cut; an array that is not named stays whole.
    """
    if not 0 < width <= 1:
        raise ValueError(f"width {width} must be above 0 and at most 1")
    found = dict[str, NDArray[np.floating]]()
    for name, array in arrays.items():
        axes = hidden.get(name, ())
        window = tuple(
            slice(0, int(np.ceil(size * width - 1e-9))) if axis in axes else slice(None)
            for axis, size in enumerate(array.shape)
        )
        found[name] = np.ascontiguousarray(array[window])
    return found


def heterofl(base: Arrays, updates: Sequence[Update]) -> dict[str, NDArray[np.floating]]:
    """Average every weight over the clients that hold it; one that nobody trained keeps its value.

    Raises:
        BadInput: an update holds an array the model lacks, one that is wider, or numbers that cannot be reckoned with.
    """
    total = {name: np.zeros(array.shape) for name, array in base.items()}
    weight = {name: np.zeros(array.shape) for name, array in base.items()}
    for update in ordered(updates):
        check_part(update, base)
        for name, array in update.arrays.items():
            window = tuple(slice(0, size) for size in array.shape)
            total[name][window] += max(1, update.samples) * array
            weight[name][window] += max(1, update.samples)
    return {
        name: np.where(weight[name] > 0, total[name] / np.maximum(weight[name], 1e-12), array).astype(array.dtype)
        for name, array in base.items()
    }


def check_part(update: Update, base: Arrays) -> None:
    """Let an update pass that is a part of the model.

    Raises:
        BadInput: it holds an array the model lacks, one that is wider, or numbers that cannot be reckoned with.
    """
    for name, array in update.arrays.items():
        whole = base.get(name)
        if whole is None or array.ndim != whole.ndim or any(a > b for a, b in zip(array.shape, whole.shape, strict=True)):
            raise BadInput(
                f"the update of {update.client} holds {name!r} in a shape that is no part of the model: screen it out"
            )
    check_numbers(update)
