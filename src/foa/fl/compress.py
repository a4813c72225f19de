"""Smaller updates: the largest tenth of the changes, eight bits each; what was left out is sent later (error feedback).

Sources: Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018; QSGD's uniform quantisation (Alistarh et
al., NeurIPS 2017), here with a scale for each array and no randomness.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foa.errors import BadInput
from foa.fl.aggregate.update import Arrays

MAX_VALUES = 200_000_000  #: in one array, against a packet that asks for all memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """The kept changes of one array."""

    shape: tuple[int, ...]
    indices: NDArray[np.uint32]  #: positions in the flat array, increasing
    levels: NDArray[np.int8]  #: −127 to 127
    scale: float  #: one level; 0: all zero


class Compressor:
    """One client's compressor: it remembers what it left out, and adds it to the next change."""

    def __init__(self, *, share: float = 0.1) -> None:
        """Make one that keeps this share of the values, 0 < share ≤ 1."""
        if not 0 < share <= 1:
            raise ValueError(f"share {share} must be above 0 and at most 1")
        self._share = share
        self._left = dict[str, NDArray[np.float64]]()

    def pack(self, change: Arrays) -> dict[str, Packed]:
        """The largest changes of each array, at least one value each."""
        found = dict[str, Packed]()
        for name, array in change.items():
            wanted = np.asarray(array, dtype=np.float64)
            left = self._left.get(name)
            if left is not None and left.shape == wanted.shape:
                wanted = wanted + left
            packed = _pack(wanted, self._share)
            self._left[name] = wanted - unpack(packed)
            found[name] = packed
        return found

    @property
    def left(self) -> Mapping[str, NDArray[np.float64]]:
        """What was not sent yet, by array; save it with the client's state."""
        return dict(self._left)

    def restore(self, left: Arrays) -> None:
        """Go on from what was saved."""
        self._left = {name: np.asarray(array, dtype=np.float64) for name, array in left.items()}


def _pack(array: NDArray[np.float64], share: float) -> Packed:
    values = array.ravel()
    count = min(values.size, max(1, int(np.ceil(share * values.size))))
    chosen = np.sort(np.argsort(-np.abs(values), kind="stable")[:count]).astype(np.uint32)
    largest = float(np.abs(values[chosen]).max(initial=0.0))
    scale = largest / 127
    levels = np.zeros(len(chosen), np.int8) if scale == 0 else np.rint(values[chosen] / scale).astype(np.int8)
    return Packed(shape=array.shape, indices=chosen, levels=levels, scale=scale)


def unpack(packed: Packed) -> NDArray[np.float64]:
    """The changes, zeros where nothing was sent.

    Raises:
        BadInput: the packet does not fit its own shape.
    """
    size = 1
    for side in packed.shape:
        if side < 0:
            raise BadInput("a packed array has a negative side: drop it")
        size *= side
    if size > MAX_VALUES:
        raise BadInput(f"a packed array of {size:,} values is over the limit of {MAX_VALUES:,}")
    if len(packed.indices) != len(packed.levels) or not np.isfinite(packed.scale):
        raise BadInput("a packed array does not fit itself: drop it")
    if len(packed.indices) and int(packed.indices.max()) >= size:
        raise BadInput("a packed array points outside its shape: drop it")
    values = np.zeros(size)
    values[packed.indices] = packed.levels.astype(np.float64) * packed.scale
    return values.reshape(packed.shape)
