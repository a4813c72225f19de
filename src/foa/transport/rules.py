"""The portable subset: what every MQTT v5 broker does alike (docs/reference/wire.md), checked before a packet leaves."""

from functools import lru_cache

from foa.errors import PublishRefused
from foa.messages import MAX_PAYLOAD_BYTES
from foa.values.publication import Filter, Publication

MAX_TOPIC_BYTES = 1_024  #: clustered brokers cap it; the standard allows 65,535
MAX_LEVELS = 32  #: of a topic or filter
MAX_PROPERTY_BYTES = 32_768  #: user properties, response topic and correlation data together
MAX_EXPIRY_SECONDS = 4_294_967_295  #: a four byte integer (3.3.2.3.3)


@lru_cache(maxsize=8_192)
def topic_fault(topic: str) -> str:
    """Say why a topic name may not be published to, or nothing."""
    if not topic:
        return "a topic needs at least one character"
    if "+" in topic or "#" in topic:
        return f"topic {topic[:80]!r} has a wildcard: publish to one topic, wildcards are for subscribing"
    if topic.startswith("$"):
        return f"topic {topic[:80]!r} begins with '$', which belongs to the broker: choose another first level"
    return _shape_fault(topic, what="topic")


def _shape_fault(text: str, *, what: str) -> str:
    if "\0" in text or not text.isprintable():
        return f"{what} {text[:80]!r} has a control character: use printable text"
    if len(text.encode()) > MAX_TOPIC_BYTES:
        return f"{what} {text[:80]!r}… is longer than {MAX_TOPIC_BYTES:,} bytes: shorten it"
    if text.count("/") >= MAX_LEVELS:
        return f"{what} {text[:80]!r} has more than {MAX_LEVELS} levels: use fewer"
    return ""


def check_publication(publication: Publication) -> None:
    """Let a publication pass that every broker takes.

    Raises:
        PublishRefused: its topic has a wildcard or begins with `$`, its payload is above 1 MB, or its properties
            are too long.
    """
    if fault := topic_fault(publication.topic):
        raise PublishRefused(fault)
    if len(publication.payload) > MAX_PAYLOAD_BYTES:
        raise PublishRefused(
            f"a payload of {len(publication.payload):,} bytes is over {MAX_PAYLOAD_BYTES:,}: send a reference to it instead"
        )
    if (expiry := publication.message_expiry_interval) is not None and not 0 <= expiry <= MAX_EXPIRY_SECONDS:
        raise PublishRefused(f"message_expiry_interval {expiry} is not between 0 and {MAX_EXPIRY_SECONDS:,} seconds")
    if publication.response_topic is not None and (fault := topic_fault(publication.response_topic)):
        raise PublishRefused(f"response topic: {fault}")
    if publication.user_properties or publication.correlation_data:
        _check_properties(publication)


def _check_properties(publication: Publication) -> None:
    size = len(publication.correlation_data or b"")
    for name, value in publication.user_properties:
        size += len(name) + len(value)
    if size > MAX_PROPERTY_BYTES:
        raise PublishRefused(f"properties of {size:,} bytes are over {MAX_PROPERTY_BYTES:,}: put them into the payload")


def inner_filter(topic_filter: str) -> str:
    """Give the filter that topics are matched by: `$share/{group}/{filter}` matches by its last part (4.8.2)."""
    if topic_filter.startswith("$share/"):
        return topic_filter.split("/", 2)[2]
    return topic_filter


def check_filter(wanted: Filter) -> None:
    """Let a topic filter pass that every broker takes.

    Raises:
        ValueError: it is empty or too long, a wildcard does not fill its level, `#` is not last, a share has no group or
            no filter or names a `$` topic, or asks for `no_local` on a share (3.8.3.1).
    """
    topic_filter = wanted.topic_filter
    if topic_filter.startswith("$share"):
        _check_share(wanted)
    inner = inner_filter(topic_filter)
    if not inner:
        raise ValueError("a topic filter needs at least one character")
    if fault := _shape_fault(topic_filter, what="topic filter"):
        raise ValueError(fault)
    levels = inner.split("/")
    for index, level in enumerate(levels):
        if len(level) > 1 and ("+" in level or "#" in level):
            raise ValueError(f"topic filter {topic_filter!r}: a wildcard stands alone in its level, as in 'a/+/b' or 'a/#'")
        if level == "#" and index != len(levels) - 1:
            raise ValueError(f"topic filter {topic_filter!r}: '#' is only allowed as the last level")


def _check_share(wanted: Filter) -> None:
    parts = wanted.topic_filter.split("/", 2)
    if parts[0] != "$share" or len(parts) < 3 or not parts[1] or "+" in parts[1] or "#" in parts[1]:
        raise ValueError(f"shared filter {wanted.topic_filter!r}: write it as '$share/GROUP/FILTER'")
    if parts[2].startswith("$"):
        raise ValueError(f"shared filter {wanted.topic_filter!r}: some brokers share no '$' topics, so none are")
    if wanted.no_local:
        raise ValueError(f"shared filter {wanted.topic_filter!r}: no_local is not allowed on a share (MQTT v5, 3.8.3.1)")
