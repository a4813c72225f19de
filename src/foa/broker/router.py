"""Who gets a message: subscriptions in a tree of topic levels, and a cache of what each topic name matched.

A session with several matching subscriptions gets one copy, with the highest QoS and every subscription identifier
[MQTT-3.3.4-2, MQTT-3.3.4-4].
"""

from collections.abc import Iterator
from dataclasses import dataclass

from foa.broker.session import Session
from foa.broker.shared import Group, encode_identifier
from foa.broker.topics import Subscription, check_name, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One session that gets a message, and how."""

    session: Session
    qos: int
    identifiers: bytes  #: encoded as properties
    retain_as_published: bool
    own: "Target | None"  #: how it gets what it published itself; None: not at all (no-local)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """All that one topic name leads to."""

    topic: str
    targets: tuple[Target, ...]
    groups: tuple[Group, ...]


class Node:
    """One level of the tree."""

    __slots__ = ("children", "groups", "subscriptions")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.subscriptions: dict[Session, Subscription] = {}
        self.groups: dict[str, Group] = {}  #: by share name

    @property
    def empty(self) -> bool:
        return not (self.children or self.subscriptions or self.groups)


class Router:
    """Subscriptions of every session."""

    def __init__(self, *, cache: int) -> None:
        self._root = Node()
        self._routes: dict[bytes, Route] = {}
        self._cache = cache  #: topics remembered
        self.count = 0  #: subscriptions

    def route(self, topic: bytes) -> Route:
        """Where a message goes.

        Raises:
            PacketError: not a topic name.
        """
        found = self._routes.get(topic)
        if found is None:
            found = self._find(check_name(topic))
            if len(self._routes) >= self._cache:
                self._routes.clear()
            self._routes[topic] = found
        return found

    def subscribe(self, session: Session, subscription: Subscription) -> None:
        """Add a subscription or replace the one with the same filter [MQTT-3.8.4-3]."""
        node = self._root
        for level in subscription.topic_filter.split("/"):
            node = node.children.setdefault(level, Node())
        self.count += subscription.filter not in session.subscriptions
        session.subscriptions[subscription.filter] = subscription
        self._forget(subscription.topic_filter)
        if not subscription.share:
            node.subscriptions[session] = subscription
            return
        group = node.groups.setdefault(subscription.share, Group(subscription.filter, subscription.topic_filter))
        group.members[session] = subscription

    def unsubscribe(self, session: Session, filter_: str) -> bool:
        """Remove a subscription; returns whether there was one."""
        subscription = session.subscriptions.pop(filter_, None)
        if subscription is None:
            return False
        self.count -= 1
        self._forget(subscription.topic_filter)
        path = [self._root]
        levels = subscription.topic_filter.split("/")
        for level in levels:
            path.append(path[-1].children[level])
        self._remove(path[-1], session, subscription)
        for level, parent, node in zip(reversed(levels), reversed(path[:-1]), reversed(path[1:]), strict=True):
            if not node.empty:
                break
            del parent.children[level]
        return True

    def group(self, filter_: str, topic_filter: str, share: str) -> Group | None:
        """The group of a shared subscription, if it has members."""
        node: Node | None = self._root
        for level in topic_filter.split("/"):
            node = node.children.get(level) if node else None
        found = node.groups.get(share) if node else None
        return found if found is not None and found.filter == filter_ else None

    @staticmethod
    def _remove(node: Node, session: Session, subscription: Subscription) -> None:
        if not subscription.share:
            node.subscriptions.pop(session, None)
            return
        group = node.groups[subscription.share]
        group.members.pop(session, None)
        if not group.members:
            del node.groups[subscription.share]

    def _forget(self, topic_filter: str) -> None:
        """Drop the routes that a change of this filter touches: one, or with wildcards all."""
        if "+" in topic_filter or "#" in topic_filter:
            if len(self._routes) > 64:
                self._routes.clear()
                return
            for name in [name for name, route in self._routes.items() if matches(topic_filter, route.topic)]:
                del self._routes[name]
        else:
            self._routes.pop(topic_filter.encode(), None)

    def _find(self, topic: str) -> Route:
        subscriptions: dict[Session, list[Subscription]] = {}
        groups: list[Group] = []
        for node in self._nodes(topic):
            groups.extend(node.groups.values())
            for session, subscription in node.subscriptions.items():
                subscriptions.setdefault(session, []).append(subscription)
        targets = [
            merge(session, found)
            for session, found in subscriptions.items()
            if session.readable is None or session.readable(topic)
        ]
        return Route(topic=topic, targets=tuple(targets), groups=tuple(groups))

    def _nodes(self, topic: str) -> Iterator[Node]:
        """Every node whose filter matches; wildcards at the root do not match `$…` [MQTT-4.7.2-1]."""
        levels = topic.split("/")
        hidden = topic[:1] == "$"
        stack = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            wild = not (hidden and depth == 0)
            if wild and (rest := node.children.get("#")) is not None:
                yield rest
            if depth == len(levels):
                yield node
                continue
            if wild and (one := node.children.get("+")) is not None:
                stack.append((one, depth + 1))
            if (child := node.children.get(levels[depth])) is not None:
                stack.append((child, depth + 1))


def merge(session: Session, subscriptions: list[Subscription]) -> Target:
    """One target out of all the subscriptions of a session that match."""
    local = [subscription for subscription in subscriptions if not subscription.no_local]
    own = target(session, local, None) if local else None
    return target(session, subscriptions, own)


def target(session: Session, subscriptions: list[Subscription], own: Target | None) -> Target:
    """How a session gets a message that these subscriptions match."""
    return Target(
        session=session,
        qos=max(subscription.qos for subscription in subscriptions),
        identifiers=b"".join(encode_identifier(subscription.identifier) for subscription in subscriptions),
        retain_as_published=any(subscription.retain_as_published for subscription in subscriptions),
        own=own,
    )
