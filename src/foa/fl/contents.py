"""Reading and writing the first records of a Flower message, whatever an app calls them. Needs the extra `fl`."""

import io
import math
import tokenize
from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from numpy.lib import format as npy

from foa.errors import BadMessage
from foa.fl.aggregate import Arrays
from foa.fl.flower import HEADER

_KINDS = "fiub"  #: of numbers that can be weights: floats, integers, booleans


def arrays_of(message: Message) -> Arrays:
    """Its model; empty where it carries none.

    Raises:
        BadMessage: an array's bytes are not what Flower's numpy format says, or hold no numbers.
    """
    for record in message.content.array_records.values():
        return {key: _numpy(key, value) for key, value in record.items()}
    return {}


def _numpy(name: str, array: Array) -> np.ndarray:
    _check_header(name, array.data)
    try:
        return array.numpy()
    except (ValueError, TypeError, EOFError) as error:
        raise BadMessage(f"array {name[:60]!r} cannot be read: {str(error)[:200]}") from error


def _check_header(name: str, data: bytes) -> None:
    """Compare what an array's header promises with the bytes that came, before anything is allocated for it."""
    stream = io.BytesIO(data)
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        with HEADER:
            shape, _, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise BadMessage(f"array {name[:60]!r} has no usable header: {str(error)[:200]}") from error
    if dtype.kind not in _KINDS or min(shape, default=0) < 0:
        raise BadMessage(f"array {name[:60]!r} holds no numbers: send floats, integers or booleans")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise BadMessage(f"array {name[:60]!r} has another length than its header says")


def put_arrays(message: Message, arrays: Arrays) -> None:
    """Put another model in the place of its own."""
    name = next(iter(message.content.array_records))
    message.content[name] = ArrayRecord({key: Array(np.ascontiguousarray(value)) for key, value in arrays.items()})


def build_of(message: Message) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of its records with arrays and with metrics: Flower's strategies want the same in every reply."""
    return tuple(sorted(message.content.array_records)), tuple(sorted(message.content.metric_records))


def keep_common_metrics(messages: Sequence[Message]) -> None:
    """Take away each metric that not all of these have: Flower's strategies would use none of the replies."""
    for name in {name for message in messages for name in message.content.metric_records}:
        records = [message.content.metric_records[name] for message in messages if name in message.content.metric_records]
        common = set[str].intersection(*(set(record) for record in records))
        for record in records:
            for key in set(record) - common:
                del record[key]


def size_of(message: Message) -> int:
    """Bytes of the values in its records; names and envelope, some hundred bytes, are left out. 0 for an error."""
    if message.has_error():
        return 0
    arrays = sum(len(array.data) for record in message.content.array_records.values() for array in record.values())
    plain = (*message.content.config_records.values(), *message.content.metric_records.values())
    return arrays + sum(_size(value) for record in plain for value in record.values())


def _size(value: object) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str | bytes) else 8


def first_metrics(message: Message) -> MetricRecord | None:
    """Its metrics, where it has some."""
    return next(iter(message.content.metric_records.values()), None)


def metric(message: Message, key: str) -> float | None:
    """A client's metric, where it is a finite number."""
    metrics = first_metrics(message)
    found = None if metrics is None else metrics.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not np.isfinite(found):
        return None
    return float(found)
