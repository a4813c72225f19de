"""Memories that forget their oldest entry rather than grow."""

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(store: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value as the newest; the oldest goes where there are more than `most`."""
    store[key] = value
    store.move_to_end(key)
    if len(store) > most:
        store.popitem(last=False)
