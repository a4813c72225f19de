"""A small MQTT v5 client over a bare socket, for tests of brokers: sends any bytes it is told to, shows what comes back.

It has its own encoder and decoder, written from the OASIS specification and sharing nothing with `foa.broker`.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
SECONDS = 5.0  #: how long a packet may take to come

#: name → identifier, form (MQTT v5, 2.2.2.2)
PROPERTIES = {
    "payload_format": (0x01, "B"),
    "message_expiry": (0x02, "I"),
    "content_type": (0x03, "s"),
    "response_topic": (0x08, "s"),
    "correlation_data": (0x09, "b"),
    "subscription_identifier": (0x0B, "v"),
    "session_expiry": (0x11, "I"),
    "assigned_client_id": (0x12, "s"),
    "server_keep_alive": (0x13, "H"),
    "authentication_method": (0x15, "s"),
    "authentication_data": (0x16, "b"),
    "request_problem": (0x17, "B"),
    "will_delay": (0x18, "I"),
    "request_response": (0x19, "B"),
    "reason": (0x1F, "s"),
    "receive_maximum": (0x21, "H"),
    "topic_alias_maximum": (0x22, "H"),
    "topic_alias": (0x23, "H"),
    "maximum_qos": (0x24, "B"),
    "retain_available": (0x25, "B"),
    "user": (0x26, "p"),
    "maximum_packet": (0x27, "I"),
    "wildcard_available": (0x28, "B"),
    "identifier_available": (0x29, "B"),
    "shared_available": (0x2A, "B"),
}
NAMES = {identifier: (name, form) for name, (identifier, form) in PROPERTIES.items()}


def length(value: int) -> bytes:
    """A variable byte integer."""
    out = b""
    while True:
        value, low = divmod(value, 128)
        out += bytes((low | (128 if value else 0),))
        if not value:
            return out


def string(text: str | bytes) -> bytes:
    """Length and bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("!H", len(raw)) + raw


def one_property(name: str, value: Any) -> bytes:
    """One property by name; `user` takes a list of pairs, in order."""
    identifier, form = PROPERTIES[name]
    head = bytes((identifier,))
    if form == "p":
        return b"".join(head + string(key) + string(item) for key, item in value)
    if form in "sb":
        return head + string(value)
    if form == "v":
        return head + length(value)
    return head + struct.pack(f"!{form}", value)


def properties(**values: Any) -> bytes:
    """A property section."""
    body = b"".join(one_property(name, value) for name, value in values.items())
    return length(len(body)) + body


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A whole packet."""
    return bytes((kind << 4 | flags,)) + length(len(body)) + body


class Bytes:
    """Reads fields one after another."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.raw), "the broker sent a packet that ends early"
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, form: str) -> int:
        return struct.unpack(f"!{form}", self.take(struct.calcsize(f"!{form}")))[0]

    def length(self) -> int:
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def string(self) -> bytes:
        return self.take(self.number("H"))

    def properties(self) -> dict[str, Any]:
        end = self.length() + self.at
        found: dict[str, Any] = {}
        while self.at < end:
            name, form = NAMES[self.number("B")]
            if form == "p":
                found.setdefault(name, []).append((self.string().decode(), self.string().decode()))
            elif name == "subscription_identifier":
                found.setdefault(name, []).append(self.length())
            else:
                assert name not in found, f"{name} twice"
                found[name] = self._value(form)
        assert self.at == end
        return found

    def _value(self, form: str) -> Any:
        if form == "s":
            return self.string().decode()
        return self.string() if form == "b" else self.number(form)

    @property
    def left(self) -> int:
        return len(self.raw) - self.at


@dataclass(frozen=True, kw_only=True)
class Packet:
    """A packet from the broker, decoded as far as its kind has fields."""

    kind: int
    flags: int
    topic: str = ""
    payload: bytes = b""
    packet_id: int = 0
    reason: int = 0
    reasons: tuple[int, ...] = ()
    session_present: bool = False
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)


def decode(first: int, raw: bytes) -> Packet:
    """A packet from its fixed header's first byte and its body."""
    kind, flags, body = first >> 4, first & 15, Bytes(raw)
    if kind == PUBLISH:
        topic = body.string().decode()
        packet_id = body.number("H") if flags & 6 else 0
        found = body.properties()
        return Packet(
            kind=kind, flags=flags, topic=topic, packet_id=packet_id, properties=found, payload=body.take(body.left)
        )
    if kind == CONNACK:
        present = bool(body.number("B"))
        reason = body.number("B")
        found = body.properties() if body.left else {}
        return Packet(kind=kind, flags=flags, session_present=present, reason=reason, properties=found)
    if kind in (SUBACK, UNSUBACK):
        packet_id, found = body.number("H"), body.properties()
        return Packet(kind=kind, flags=flags, packet_id=packet_id, properties=found, reasons=tuple(body.take(body.left)))
    packet_id = body.number("H") if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP) else 0
    reason = body.number("B") if body.left else 0
    found = body.properties() if body.left else {}
    assert not body.left
    return Packet(kind=kind, flags=flags, packet_id=packet_id, reason=reason, properties=found)


@dataclass(frozen=True, kw_only=True)
class Will:
    """A will to put in a CONNECT."""

    topic: str
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    properties: bytes = b"\0"


def connect_packet(
    client_id: str,
    *,
    clean: bool = True,
    keep_alive: int = 0,
    will: Will | None = None,
    user: str | None = None,
    password: str | None = None,
    **values: Any,
) -> bytes:
    """A CONNECT; `values` are its properties."""
    flags = clean << 1 | (user is not None) << 7 | (password is not None) << 6
    body = string(client_id)
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        body += will.properties + string(will.topic) + string(will.payload)
    if user is not None:
        body += string(user)
    if password is not None:
        body += string(password)
    return packet(CONNECT, string("MQTT") + bytes((5, flags)) + struct.pack("!H", keep_alive) + properties(**values) + body)


def publish_packet(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int = 1,
    **values: Any,
) -> bytes:
    """A PUBLISH; `values` are its properties."""
    identifier = struct.pack("!H", packet_id) if qos else b""
    body = string(topic) + identifier + properties(**values) + payload
    return packet(PUBLISH, body, dup << 3 | qos << 1 | retain)


def subscribe_packet(*filters: tuple[str, int], packet_id: int = 1, **values: Any) -> bytes:
    """A SUBSCRIBE of filters with their option bytes."""
    lines = b"".join(string(filter_) + bytes((options,)) for filter_, options in filters)
    return packet(SUBSCRIBE, struct.pack("!H", packet_id) + properties(**values) + lines, 2)


def acknowledge_packet(kind: int, packet_id: int, reason: int | None = None) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP."""
    body = struct.pack("!H", packet_id) + (b"" if reason is None else bytes((reason,)))
    return packet(kind, body, 2 if kind == PUBREL else 0)


class Raw:
    """One connection to a broker. Nothing is acknowledged unless a test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._next = 0
        self._early: list[Packet] = []  # messages that came while a PUBREL was waited for

    @classmethod
    async def open(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """Connect the socket, no more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        return cls(reader, writer)

    def send(self, *packets: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(packets))

    async def receive(self, kind: int | None = None, *, seconds: float = SECONDS) -> Packet:
        """The next packet, which must be of this kind."""
        if self._early and kind in (None, PUBLISH):
            return self._early.pop(0)
        found = await self.receive_new(seconds=seconds)
        assert kind is None or found.kind == kind, f"expected packet type {kind}, got {found}"
        return found

    async def receive_new(self, *, seconds: float = SECONDS) -> Packet:
        """The next packet off the socket."""
        async with asyncio.timeout(seconds):
            first = (await self.reader.readexactly(1))[0]
            size = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            return decode(first, await self.reader.readexactly(size))

    async def connect(self, client_id: str, **options: Any) -> Packet:
        """CONNECT; returns the CONNACK."""
        self.send(connect_packet(client_id, **options))
        return await self.receive(CONNACK)

    async def subscribe(self, *filters: str | tuple[str, int], **values: Any) -> Packet:
        """SUBSCRIBE, QoS 2 unless options are given; returns the SUBACK. Retained messages may follow it."""
        self._next += 1
        lines = [(item, 2) if isinstance(item, str) else item for item in filters]
        self.send(subscribe_packet(*lines, packet_id=self._next, **values))
        return await self.receive(SUBACK)

    async def publish(self, topic: str, payload: bytes = b"", *, qos: int = 1, **options: Any) -> Packet | None:
        """PUBLISH and see it through; returns PUBACK, PUBREC or None."""
        self._next += 1
        self.send(publish_packet(topic, payload, qos=qos, packet_id=self._next, **options))
        if qos == 0:
            return None
        answer = await self.receive(PUBACK if qos == 1 else PUBREC)
        assert answer.packet_id == self._next
        if qos == 2 and answer.reason < 0x80:
            self.send(acknowledge_packet(PUBREL, self._next))
            assert (await self.receive(PUBCOMP)).packet_id == self._next
        return answer

    async def message(self, *, seconds: float = SECONDS) -> Packet:
        """The next message, acknowledged to the end."""
        found = await self.receive(PUBLISH, seconds=seconds)
        if found.qos == 1:
            self.send(acknowledge_packet(PUBACK, found.packet_id))
        if found.qos == 2:
            self.send(acknowledge_packet(PUBREC, found.packet_id))
            while (release := await self.receive_new(seconds=seconds)).kind == PUBLISH:
                self._early.append(release)
            assert (release.kind, release.packet_id) == (PUBREL, found.packet_id)
            self.send(acknowledge_packet(PUBCOMP, found.packet_id))
        return found

    async def messages(self, count: int) -> list[Packet]:
        """So many messages."""
        return [await self.message() for _ in range(count)]

    async def quiet(self) -> None:
        """Nothing more comes: the answer to a PINGREQ is the next packet."""
        self.send(packet(PINGREQ, b""))
        found = await self.receive()
        assert found.kind == PINGRESP, f"expected nothing, got {found}"

    async def closed(self, *, seconds: float = SECONDS) -> Packet | None:
        """The broker ends the connection; returns its last packet, if it sent one first."""
        last = None
        try:
            while True:
                last = await self.receive(seconds=seconds)
        except (asyncio.IncompleteReadError, ConnectionError):
            return last

    def disconnect(self, reason: int = 0, **values: Any) -> None:
        """DISCONNECT."""
        self.send(packet(DISCONNECT, bytes((reason,)) + properties(**values)))

    def cut(self) -> None:
        """Break the connection without a word."""
        self.writer.transport.abort()

    async def leave(self) -> None:
        """Disconnect normally and wait until the broker has closed the connection."""
        self.disconnect()
        await self.closed()
        self.cut()


@contextlib.asynccontextmanager
async def raw(port: int, client_id: str | None = None, **options: Any) -> AsyncIterator[Raw]:
    """A connection, with CONNECT done if it has a client id; broken at the end of the block."""
    client = await Raw.open(port)
    try:
        if client_id is not None:
            answer = await client.connect(client_id, **options)
            assert answer.reason == 0, answer
        yield client
    finally:
        client.cut()
