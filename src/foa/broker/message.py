"""One application message, and the bytes it becomes.

A message is encoded once for all subscribers that get it alike: what differs is the packet identifier, and that stands
between the two parts that `encode` returns.
"""

from math import ceil

from foa.broker.codec import encode_length

#: memory an entry of a queue costs beside its message, bytes
OVERHEAD = 256


class Message:
    """A publication on its way through the broker.

    Attributes:
        topic: topic name, UTF-8.
        payload: application bytes.
        properties: forwarded as they are (`properties.MessageProperties.forward`).
        qos: as published, 0 to 2.
        retain: as published.
        expires_at: monotonic seconds; None: never.
        size: bytes it counts for in a queue.
        row: its key in the store; 0: not stored.
        references: stored queue entries that point at it.
    """

    __slots__ = (
        "_key",
        "_parts",
        "expires_at",
        "payload",
        "properties",
        "qos",
        "references",
        "retain",
        "row",
        "size",
        "topic",
    )

    def __init__(
        self, topic: bytes, payload: bytes, properties: bytes, qos: int, retain: bool, expires_at: float | None
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.properties = properties
        self.qos = qos
        self.retain = retain
        self.expires_at = expires_at
        self.size = len(topic) + len(payload) + len(properties) + OVERHEAD
        self.row = 0
        self.references = 0
        self._key: tuple[int, bytes, int] | None = None
        self._parts = (b"", b"")

    def expired(self, now: float) -> bool:
        """Whether its expiry interval has passed (3.3.2.3.3); `now` in monotonic seconds."""
        return self.expires_at is not None and self.expires_at <= now

    def encode(self, flags: int, identifiers: bytes, now: float) -> tuple[bytes, bytes]:
        """The PUBLISH packet, as what stands before and behind its packet identifier.

        Args:
            flags: first byte of the packet: type, DUP, QoS, RETAIN.
            identifiers: subscription identifiers, encoded as properties.
            now: monotonic seconds, for what is left of the expiry interval [MQTT-3.3.2-6].
        """
        left = 0 if self.expires_at is None else max(1, ceil(self.expires_at - now))
        key = (flags, identifiers, left)
        if key != self._key:
            self._parts = self.build(flags, self.topic, identifiers, left)
            self._key = key
        return self._parts

    def build(self, flags: int, topic: bytes, more: bytes, left: int) -> tuple[bytes, bytes]:
        """As `encode`, for a given topic field (empty: an alias), properties to put first, seconds left (0: for ever)."""
        properties = more + self.properties
        if left:
            properties = b"\x02" + left.to_bytes(4, "big") + properties
        tail = encode_length(len(properties)) + properties + self.payload
        size = len(topic)
        length = size + len(tail) + (4 if flags & 6 else 2)
        start = bytes((flags, length)) if length < 128 else bytes((flags,)) + encode_length(length)
        return start + size.to_bytes(2, "big") + topic, tail

    def seconds_left(self, now: float) -> int:
        """What is left of the expiry interval, whole seconds, at least 1; 0: it never expires."""
        return 0 if self.expires_at is None else max(1, ceil(self.expires_at - now))
