"""Topic names and topic filters (MQTT v5, 4.7): what is valid, and what matches what."""

from dataclasses import dataclass

from foa.broker.codec import decode_text
from foa.broker.reason import PacketError, Reason, malformed, violation

LEVELS = 128  #: levels a name or filter may have: deeper ones only cost memory


def check_name(raw: bytes) -> str:
    """A topic name off the wire (4.7.3, [MQTT-3.3.2-2]).

    Raises:
        PacketError: not UTF-8, empty, with wildcards, or deeper than 128 levels.
    """
    name = decode_text(raw)
    if not name or "+" in name or "#" in name or name.count("/") >= LEVELS:
        raise PacketError(Reason.TOPIC_NAME_INVALID, "a topic name is empty, has wildcards or over 128 levels")
    return name


def valid_filter(text: str) -> bool:
    """Whether wildcards stand only where they may [MQTT-4.7.1-1, MQTT-4.7.1-2]."""
    levels = text.split("/")
    if not text or len(levels) > LEVELS:
        return False
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return False
    return not any("+" in level and level != "+" for level in levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter (not a shared one) matches a topic name (4.7.1, 4.7.2)."""
    if topic[:1] == "$" and topic_filter[:1] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True  # also the parent: a/# matches a (4.7.1.2)
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def overlap(one: str, other: str) -> bool:
    """Whether some topic name could match both filters; what it says may be yes by mistake only for `$` topics."""
    mine, theirs = one.split("/"), other.split("/")
    for index in range(max(len(mine), len(theirs))):
        left = mine[index] if index < len(mine) else None
        right = theirs[index] if index < len(theirs) else None
        if "#" in (left, right):
            return True
        if left is None or right is None or (left != right and "+" not in (left, right)):
            return False
    return True


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic name that `narrow` matches is matched by `wide` too."""
    mine, theirs = wide.split("/"), narrow.split("/")
    for index, level in enumerate(mine):
        if level == "#":
            return True
        if index >= len(theirs) or theirs[index] == "#" or level not in ("+", theirs[index]):
            return False
    return len(mine) == len(theirs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One line of a SUBSCRIBE (3.8.3)."""

    filter: str  #: as the client wrote it: with `$share/…/`
    topic_filter: str  #: without
    share: str  #: share name; empty: not shared
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int  #: 0 send retained, 1 only if the subscription is new, 2 never
    identifier: int = 0  #: 0: none


def read_subscription(text: str, options: int, identifier: int) -> Subscription:
    """Check a topic filter and its options.

    Raises:
        PacketError: options out of range, no-local on a shared filter [MQTT-3.8.3-4], wrong wildcards or share name
            [MQTT-4.8.2-1, MQTT-4.8.2-2].
    """
    qos, handling = options & 3, options >> 4 & 3
    if options & 0xC0:
        raise malformed("reserved subscription options are set")  # [MQTT-3.8.3-5]
    if qos > 2 or handling > 2:
        raise violation("a subscription asks for QoS 3 or retain handling 3")
    share, topic_filter = "", text
    if text.startswith("$share/"):
        if options & 4:
            raise violation("no-local is set on a shared subscription")
        share, _, topic_filter = text[7:].partition("/")
        if not share or "+" in share or "#" in share:
            raise PacketError(Reason.TOPIC_FILTER_INVALID, f"{text[:200]!r} has no valid share name")
    if not valid_filter(topic_filter):
        raise PacketError(Reason.TOPIC_FILTER_INVALID, f"{text[:200]!r} is not a topic filter")
    return Subscription(
        filter=text,
        topic_filter=topic_filter,
        share=share,
        qos=qos,
        no_local=bool(options & 4),
        retain_as_published=bool(options & 8),
        retain_handling=handling,
        identifier=identifier,
    )


def options_of(subscription: Subscription) -> int:
    """The options byte that `read_subscription` read."""
    flags = subscription.no_local << 2 | subscription.retain_as_published << 3
    return subscription.qos | flags | subscription.retain_handling << 4
