"""Reading and writing the first records of a Flower message, whatever an app calls them. Needs the extra `fl`."""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord

from foa.fl.aggregate import Arrays


def arrays_of(message: Message) -> Arrays:
    """Its model; empty where it carries none."""
    for record in message.content.array_records.values():
        return {key: value.numpy() for key, value in record.items()}
    return {}


def put_arrays(message: Message, arrays: Arrays) -> None:
    """Put another model in the place of its own."""
    name = next(iter(message.content.array_records))
    message.content[name] = ArrayRecord({key: Array(np.ascontiguousarray(value)) for key, value in arrays.items()})


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
