"""Packed changes as flat values for a Flower record, and back, checked against the model they belong to. Needs numpy only.

For each array: a bitmap of which values are sent (deflated: with one value in ten it takes about half a bit a value), their
levels, one byte each, and the size of a level. Shapes are not sent: the receiver knows the model, and no packet makes it
allocate more than that model has values.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foa.errors import BadMessage
from foa.fl.aggregate.update import Arrays
from foa.fl.compress import Packed, unpack

FORMAT = 1

#: What a record may hold.
Flat = int | str | list[str] | list[float] | list[bytes]


def write_packed(packed: Mapping[str, Packed]) -> dict[str, Flat]:
    """Packed changes as flat values."""
    found = [packed[name] for name in packed]
    return {
        "format": FORMAT,
        "names": list(packed),
        "scales": [entry.scale for entry in found],
        "places": [_bitmap(entry) for entry in found],
        "levels": [entry.levels.tobytes() for entry in found],
    }


def _bitmap(entry: Packed) -> bytes:
    chosen = np.zeros(math.prod(entry.shape), np.bool_)
    chosen[entry.indices] = True
    return zlib.compress(np.packbits(chosen).tobytes(), 6)


def read_packed(values: Mapping[str, object], base: Arrays) -> dict[str, NDArray[np.float64]]:
    """The changes in a record, in the shapes of the model.

    Args:
        values: of the record, as they came off the wire.
        base: the model that the changes belong to.

    Raises:
        BadMessage: another format, an array the model lacks or named twice, or a packet that does not fit its array.
    """
    if values.get("format") != FORMAT:
        raise BadMessage(f"a packed update of format {values.get('format')!r}, this end reads {FORMAT}: update both ends")
    names = _column(values, "names", str)
    scales, places, levels = (_column(values, key, kind) for key, kind in _COLUMNS)
    if not len(names) == len(scales) == len(places) == len(levels) <= len(base):
        raise BadMessage("a packed update names more arrays than it holds, or than the model has: drop it")
    found = dict[str, NDArray[np.float64]]()
    for name, scale, place, level in zip(names, scales, places, levels, strict=True):
        if name in found or name not in base:
            raise BadMessage(f"a packed update holds {str(name)[:60]!r} twice, or the model has no such array: drop it")
        found[name] = _read_one(base[name].shape, float(scale), place, level)
    return found


_COLUMNS: Sequence[tuple[str, type]] = (("scales", float), ("places", bytes), ("levels", bytes))


def _column(values: Mapping[str, object], key: str, kind: type) -> list:  # type: ignore[type-arg]
    found = values.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, kind) for entry in found):
        raise BadMessage(f"{key} of a packed update is no list of {kind.__name__}: drop it")
    return found


def _read_one(shape: tuple[int, ...], scale: float, place: bytes, level: bytes) -> NDArray[np.float64]:
    if not (math.isfinite(scale) and scale >= 0):
        raise BadMessage("a packed array has levels of no finite size: drop it")
    size = math.prod(shape)
    bits = np.unpackbits(np.frombuffer(_inflated(place, -(-size // 8)), np.uint8), count=size)
    indices = np.flatnonzero(bits).astype(np.uint32)
    if len(indices) != len(level):
        raise BadMessage(f"a packed array marks {len(indices):,} values and brings {len(level):,}: drop it")
    return unpack(Packed(shape=shape, indices=indices, levels=np.frombuffer(level, np.int8), scale=scale))


def _inflated(content: bytes, size: int) -> bytes:
    """Exactly so many bytes out of a deflated bitmap; never more are made."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, size + 1)
    except zlib.error as error:
        raise BadMessage(f"the bitmap of a packed array is damaged: {error}") from error
    if len(found) != size or not stream.eof or stream.unused_data:
        raise BadMessage("the bitmap of a packed array does not fit its array: drop it")
    return found
