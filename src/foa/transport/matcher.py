"""Which values belong to a topic: MQTT topic filters as a table with a trie and a match cache."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from foa.transport.rules import inner_filter

T = TypeVar("T")

MAX_CACHED_TOPICS = 8_192


class _Node(Generic[T]):
    """One level of the wildcard filters."""

    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: dict[T, int] = {}


class FilterTable(Generic[T]):
    """Topic filters and whom they lead to.

    `match` is one dictionary look-up for a topic that was seen since the last change, whatever the number of filters.
    A value under several matching filters, or several times under one, is given once.

    Source: MQTT v5, 4.7 (topic names and topic filters) and 4.8.2 (shared subscriptions).
    """

    __slots__ = ("_cache", "_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, dict[T, int]] = {}
        self._root: _Node[T] = _Node()
        self._cache: dict[str, tuple[T, ...]] = {}

    def add(self, topic_filter: str, value: T) -> None:
        """Lead what matches the filter to the value too. Counted: as many `discard`s take it out again."""
        inner = inner_filter(topic_filter)
        levels = inner.split("/")
        if "+" not in levels and "#" not in levels:
            values = self._exact.setdefault(inner, {})
            self._cache.pop(inner, None)
        else:
            node = self._root
            for level in levels:
                node = node.children.setdefault(level, _Node())
            values = node.values
            self._cache.clear()
        values[value] = values.get(value, 0) + 1

    def discard(self, topic_filter: str, value: T) -> None:
        """Take one `add` back; one that was not there does nothing."""
        inner = inner_filter(topic_filter)
        levels = inner.split("/")
        if "+" not in levels and "#" not in levels:
            values = self._exact.get(inner, {})
            _count_down(values, value)
            if not values:
                self._exact.pop(inner, None)
            self._cache.pop(inner, None)
            return
        path = [self._root]
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return
            path.append(child)
        _count_down(path[-1].values, value)
        for depth in range(len(levels), 0, -1):  # prune what this filter alone kept alive
            if path[depth].values or path[depth].children:
                break
            del path[depth - 1].children[levels[depth - 1]]
        self._cache.clear()

    def match(self, topic: str) -> tuple[T, ...]:
        """Give every value that a filter leads to from this topic, each once."""
        found = self._cache.get(topic)
        if found is None:
            if len(self._cache) >= MAX_CACHED_TOPICS:
                self._cache.clear()
            found = self._cache[topic] = tuple(dict.fromkeys(self._search(topic)))
        return found

    def _search(self, topic: str) -> Iterator[T]:
        yield from self._exact.get(topic, ())
        if not self._root.children:
            return
        levels = topic.split("/")
        stack = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            # no wildcard at the first level matches a topic that begins with "$" (4.7.2)
            wild = depth > 0 or not topic.startswith("$")
            if wild and (rest := node.children.get("#")) is not None:
                yield from rest.values
            if depth == len(levels):
                yield from node.values
                continue
            if (child := node.children.get(levels[depth])) is not None:
                stack.append((child, depth + 1))
            if wild and (child := node.children.get("+")) is not None:
                stack.append((child, depth + 1))


def _count_down(values: dict[T, int], value: T) -> None:
    count = values.get(value, 0)
    if count > 1:
        values[value] = count - 1
    else:
        values.pop(value, None)


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether one filter matches one topic (MQTT v5, 4.7)."""
    table: FilterTable[bool] = FilterTable()
    table.add(topic_filter, True)
    return bool(table.match(topic))
