"""A run's last round on disk, so that it goes on after a kill: the model, what was learned, and the strategy's momenta.

One file a run, replaced whole after each round. Flower itself does not resume. Needs numpy only.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from foa.errors import BadInput, StoreFailed
from foa.fl.blobs import write_whole
from foa.fl.memory import Memory
from foa.fl.rounds import RoundRow
from foa.values.ids import AgentId

FORMAT = 1
MAX_BYTES = 4_000_000_000


class StoredArray(msgspec.Struct, frozen=True):
    """One array as plain bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The last update of a client, as a change of the model that it was given."""

    round: int  #: in which it came
    content: bytes  #: of its reply, packed, with the change in the place of the model


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a run has learned; saved after each round and given back on resume."""

    memory: Memory = Memory()
    rows: tuple[RoundRow, ...] = ()
    losses: tuple[float, ...] = ()  #: of the models that were taken
    owed: Mapping[AgentId, float] = field(default_factory=dict[AgentId, float])  #: penalties not covered yet, US dollars
    kept: Mapping[AgentId, Kept] = field(default_factory=dict[AgentId, Kept])  #: last updates, to be counted again


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run after a round."""

    run: str
    round: int
    model: bytes  #: packed
    state: State
    strategy: Mapping[str, Mapping[str, StoredArray]] = field(default_factory=dict[str, dict[str, StoredArray]])


class _File(msgspec.Struct, frozen=True):
    format: int
    sha256: str
    checkpoint: bytes


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write, whole or not at all.

    Raises:
        StoreFailed: the disk says no.
    """
    body = msgspec.msgpack.encode(checkpoint)
    file = _File(format=FORMAT, sha256=hashlib.sha256(body).hexdigest(), checkpoint=body)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.msgpack.encode(file))
    except OSError as error:
        raise StoreFailed(f"checkpoint {path}: {error}") from error


def load(path: Path, *, run: str) -> Checkpoint | None:
    """The checkpoint of a run; None where there is none yet.

    Raises:
        BadInput: the file is damaged, of another format, or of another run.
        StoreFailed: it cannot be read.
    """
    try:
        if not path.exists():
            return None
        payload = path.read_bytes()
    except OSError as error:
        raise StoreFailed(f"checkpoint {path}: {error}") from error
    try:
        file = msgspec.msgpack.decode(payload, type=_File)
        if file.format != FORMAT:
            raise BadInput(f"checkpoint {path} has format {file.format}, this program reads {FORMAT}")
        if hashlib.sha256(file.checkpoint).hexdigest() != file.sha256:
            raise BadInput(f"checkpoint {path} is damaged: remove it to begin anew")
        found = msgspec.msgpack.decode(file.checkpoint, type=Checkpoint)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"checkpoint {path} cannot be read: {error}; remove it to begin anew") from error
    if found.run != run:
        raise BadInput(f"checkpoint {path} is of run {found.run!r}, not {run!r}: give each run its own folder")
    return found


def store_array(array: NDArray[np.generic]) -> StoredArray:
    """An array as plain bytes."""
    solid = np.ascontiguousarray(array)
    return StoredArray(dtype=solid.dtype.str, shape=solid.shape, data=solid.tobytes())


def restore_array(stored: StoredArray) -> NDArray[np.generic]:
    """The inverse of `store_array`.

    Raises:
        BadInput: the bytes do not fit the shape, or the type is no number.
    """
    try:
        kind = np.dtype(stored.dtype)
        if kind.kind not in "biuf":
            raise BadInput(f"a stored array has type {stored.dtype!r}, which is no number")
        return np.frombuffer(stored.data, dtype=kind).reshape(stored.shape).copy()
    except (TypeError, ValueError) as error:
        raise BadInput(f"a stored array does not fit itself: {error}") from error


def strategy_arrays(strategy: object) -> dict[str, dict[str, StoredArray]]:
    """A strategy's own arrays, such as the momenta of FedYogi: attributes that are dictionaries of arrays."""
    found = dict[str, dict[str, StoredArray]]()
    for name, value in vars(strategy).items():
        if isinstance(value, dict) and value and all(isinstance(array, np.ndarray) for array in value.values()):  # pyright: ignore
            found[name] = {str(key): store_array(array) for key, array in value.items()}  # pyright: ignore
    return found


def restore_strategy(strategy: object, stored: Mapping[str, Mapping[str, StoredArray]]) -> None:
    """Put them back; an attribute that the strategy no longer has is left out."""
    for name, arrays in stored.items():
        if name in vars(strategy):
            setattr(strategy, name, {key: restore_array(array) for key, array in arrays.items()})
