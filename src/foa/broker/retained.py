"""Retained messages (MQTT v5, 3.3.1.3): the last one of each topic, found by filter."""

from collections.abc import Iterator

from foa.broker.message import Message


class Leaf:
    """One topic level."""

    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, Leaf] = {}
        self.message: Message | None = None


class Retained:
    """The retained message of every topic, bounded in bytes."""

    def __init__(self, *, limit: int) -> None:
        self._root = Leaf()
        self._limit = limit  #: bytes
        self.bytes = 0
        self.count = 0

    def set(self, topic: str, message: Message) -> bool:
        """Keep a message as its topic's; an empty payload takes the topic's away [MQTT-3.3.1-6].

        Returns:
            False when there is no room for it; the one before stays.
        """
        if not message.payload:
            self.remove(topic)
            return True
        leaf = self._find(topic)
        before = leaf.message.size if leaf is not None and leaf.message is not None else 0
        if self.bytes - before + message.size > self._limit:
            return False
        leaf = self._root
        for level in topic.split("/"):
            leaf = leaf.children.setdefault(level, Leaf())
        self.count += leaf.message is None
        self.bytes += message.size - before
        leaf.message = message
        return True

    def get(self, topic: str) -> Message | None:
        """The message of one topic."""
        leaf = self._find(topic)
        return leaf.message if leaf is not None else None

    def _find(self, topic: str) -> Leaf | None:
        leaf: Leaf | None = self._root
        for level in topic.split("/"):
            leaf = leaf.children.get(level) if leaf is not None else None
        return leaf

    def remove(self, topic: str) -> bool:
        """Forget a topic's message; returns whether there was one."""
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return False
            path.append(child)
        message, path[-1].message = path[-1].message, None
        if message is None:
            return False
        self.bytes -= message.size
        self.count -= 1
        for level, parent, leaf in zip(reversed(levels), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if leaf.children or leaf.message is not None:
                break
            del parent.children[level]
        return True

    def match(self, topic_filter: str) -> Iterator[Message]:
        """Every message whose topic a filter matches; wildcards at the root skip `$…` [MQTT-4.7.2-1]."""
        levels = topic_filter.split("/")
        stack = [(self._root, 0)]
        while stack:
            leaf, depth = stack.pop()
            if depth == len(levels):
                if leaf.message is not None:
                    yield leaf.message
                continue
            level = levels[depth]
            if level == "#":
                yield from self._below(leaf, hidden=depth == 0)
            elif level == "+":
                stack.extend((child, depth + 1) for name, child in leaf.children.items() if depth or name[:1] != "$")
            elif (child := leaf.children.get(level)) is not None:
                stack.append((child, depth + 1))

    @staticmethod
    def _below(leaf: Leaf, *, hidden: bool) -> Iterator[Message]:
        """A leaf and all under it; `hidden`: without what is under `$…`."""
        stack = [leaf]
        while stack:
            here = stack.pop()
            if here.message is not None:
                yield here.message
            stack.extend(child for name, child in here.children.items() if not (hidden and here is leaf and name[:1] == "$"))

    def expired(self, now: float) -> list[str]:
        """Topics whose message has expired; `now` in monotonic seconds."""
        return [message.topic.decode() for message in self._below(self._root, hidden=False) if message.expired(now)]
