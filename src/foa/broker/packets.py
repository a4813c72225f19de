"""Control packets of MQTT v5 as a broker reads and writes them; PUBLISH, the hot one, is in `link` and `message`."""

from collections.abc import Sequence
from dataclasses import dataclass

from foa.broker import properties as p
from foa.broker.codec import Cursor, encode_length
from foa.broker.properties import Property, Value
from foa.broker.reason import PacketError, Reason, malformed, violation
from foa.broker.topics import Subscription, check_name, read_subscription

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

PINGRESP_PACKET = b"\xd0\x00"
#: what a client of MQTT 3.1 or 3.1.1 is told: CONNACK, "unacceptable protocol version" (MQTT 3.1.1, 3.2.2.3)
REFUSE_OLD_CLIENT = b"\x20\x02\x00\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for a client that is lost (3.1.2.5)."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: bytes  #: forwarded as they are
    expiry_seconds: int | None
    delay_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """A CONNECT packet (3.1)."""

    client_id: str
    clean_start: bool
    keep_alive_seconds: int
    session_expiry_seconds: int
    receive_maximum: int
    maximum_packet_bytes: int
    topic_alias_maximum: int
    problem_information: bool
    user: str | None
    password: bytes | None
    will: Will | None


class OldClient(PacketError):
    """A CONNECT of MQTT 3.1 or 3.1.1, which this broker does not speak."""


def read_connect(data: bytes, start: int, end: int) -> Connect:
    """Parse the body of a CONNECT.

    Raises:
        OldClient: it is MQTT 3.
        PacketError: malformed, another protocol, an authentication method (none is supported).
    """
    cursor = Cursor(data, start, end)
    read_protocol(cursor)
    flags, keep_alive = cursor.integer(1), cursor.integer(2)
    if flags & 1:
        raise malformed("the reserved connect flag is set")  # [MQTT-3.1.2-3]
    found = p.read_properties(cursor, p.IN_CONNECT)
    if Property.AUTHENTICATION_METHOD in found:
        raise PacketError(Reason.BAD_AUTHENTICATION_METHOD, "enhanced authentication is not supported")
    if Property.AUTHENTICATION_DATA in found:
        raise violation("authentication data without a method")
    client_id = cursor.string()
    will = read_will(cursor, flags)
    user = cursor.string() if flags & 0x80 else None
    password = cursor.binary() if flags & 0x40 else None
    if cursor.left:
        raise malformed("a CONNECT is longer than its fields")
    return Connect(
        client_id=client_id,
        clean_start=bool(flags & 2),
        keep_alive_seconds=keep_alive,
        session_expiry_seconds=integer(found, Property.SESSION_EXPIRY_INTERVAL, 0),
        receive_maximum=integer(found, Property.RECEIVE_MAXIMUM, 65_535),
        maximum_packet_bytes=integer(found, Property.MAXIMUM_PACKET_SIZE, 0xFFFFFFFF),
        topic_alias_maximum=integer(found, Property.TOPIC_ALIAS_MAXIMUM, 0),
        problem_information=bool(integer(found, Property.REQUEST_PROBLEM_INFORMATION, 1)),
        user=user,
        password=password,
        will=will,
    )


def read_protocol(cursor: Cursor) -> None:
    """Protocol name and version (3.1.2.1, 3.1.2.2)."""
    name, version = cursor.binary(), cursor.integer(1)
    if (name, version) == (b"MQTT", 5):
        return
    if (name, version) in ((b"MQTT", 4), (b"MQIsdp", 3)):
        raise OldClient(Reason.UNSUPPORTED_PROTOCOL_VERSION, "the client speaks MQTT 3: ask it for version 5")
    raise PacketError(Reason.UNSUPPORTED_PROTOCOL_VERSION, "the client does not speak MQTT 5")


def integer(found: dict[int, Value], identifier: Property, default: int) -> int:
    """A property that is a number."""
    value = found.get(identifier, default)
    return value if isinstance(value, int) else default


def read_will(cursor: Cursor, flags: int) -> Will | None:
    """The will in a CONNECT's payload, if its flags say there is one."""
    qos = flags >> 3 & 3
    if not flags & 4:
        if flags & 0x38:
            raise malformed("will QoS or will retain without a will")  # [MQTT-3.1.2-11, MQTT-3.1.2-13]
        return None
    if qos == 3:
        raise malformed("a will asks for QoS 3")  # [MQTT-3.1.2-12]
    length = cursor.length()
    start = cursor.position
    cursor.take(length)
    found = p.read_message(cursor.data, start, start + length, p.IN_WILL)
    topic, payload = cursor.binary(), cursor.binary()
    check_name(topic)
    return Will(
        topic=topic,
        payload=payload,
        qos=qos,
        retain=bool(flags & 0x20),
        properties=found.forward,
        expiry_seconds=found.expiry_seconds,
        delay_seconds=found.will_delay_seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7)."""

    packet_id: int
    reason: int  #: as sent; 0 where it was left out


def read_acknowledgement(data: bytes, start: int, end: int) -> Acknowledgement:
    """Parse the body of one of the four; reason code and properties may be left out (3.4.2.1)."""
    cursor = Cursor(data, start, end)
    packet_id = cursor.integer(2)
    reason = cursor.integer(1) if cursor.left else 0
    if cursor.left:
        p.read_properties(cursor, p.IN_ACKNOWLEDGEMENT)
    if cursor.left or not packet_id:
        raise malformed("an acknowledgement has packet identifier 0 or is too long")
    return Acknowledgement(packet_id=packet_id, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """A SUBSCRIBE (3.8): what it asks for, line by line; a line may be an error instead."""

    packet_id: int
    lines: Sequence[Subscription | PacketError]


def read_packet_id(cursor: Cursor) -> int:
    """A packet identifier that is not 0 [MQTT-2.2.1-3]."""
    packet_id = cursor.integer(2)
    if not packet_id:
        raise violation("packet identifier 0")
    return packet_id


def read_subscribe(data: bytes, start: int, end: int) -> Subscribe:
    """Parse the body of a SUBSCRIBE. A filter that is not valid is an error in its line; the others stand."""
    cursor = Cursor(data, start, end)
    packet_id = read_packet_id(cursor)
    found = p.read_properties(cursor, p.IN_SUBSCRIBE)
    identifier = integer(found, Property.SUBSCRIPTION_IDENTIFIER, 0)
    lines: list[Subscription | PacketError] = []
    while cursor.left:
        text, options = cursor.string(), cursor.integer(1)
        try:
            lines.append(read_subscription(text, options, identifier))
        except PacketError as error:
            if error.reason is not Reason.TOPIC_FILTER_INVALID:
                raise
            lines.append(error)
    if not lines:
        raise violation("a SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id=packet_id, lines=lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """An UNSUBSCRIBE (3.10)."""

    packet_id: int
    filters: Sequence[str]


def read_unsubscribe(data: bytes, start: int, end: int) -> Unsubscribe:
    """Parse the body of an UNSUBSCRIBE."""
    cursor = Cursor(data, start, end)
    packet_id = read_packet_id(cursor)
    p.read_properties(cursor, p.IN_UNSUBSCRIBE)
    filters: list[str] = []
    while cursor.left:
        filters.append(cursor.string())
    if not filters:
        raise violation("an UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id=packet_id, filters=filters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """A client's DISCONNECT (3.14)."""

    reason: int
    session_expiry_seconds: int | None  #: None: as it was


def read_disconnect(data: bytes, start: int, end: int) -> Disconnect:
    """Parse the body of a DISCONNECT; all of it may be left out (3.14.2.1)."""
    cursor = Cursor(data, start, end)
    reason = cursor.integer(1) if cursor.left else 0
    found = p.read_properties(cursor, p.IN_DISCONNECT) if cursor.left else {}
    if cursor.left:
        raise malformed("a DISCONNECT is longer than its fields")
    expiry = found.get(Property.SESSION_EXPIRY_INTERVAL)
    return Disconnect(reason=reason, session_expiry_seconds=expiry if isinstance(expiry, int) else None)


def frame(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A packet: fixed header, then the body (2.1)."""
    return bytes((kind << 4 | flags,)) + encode_length(len(body)) + body


def write_connack(reason: Reason, *, session_present: bool, found: dict[Property, Value]) -> bytes:
    """A CONNACK (3.2)."""
    return frame(CONNACK, bytes((session_present, reason)) + p.encode_properties(found))


def write_acknowledgement(kind: int, packet_id: int, reason: int) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP; the reason is left out where it is success."""
    body = packet_id.to_bytes(2, "big") + (bytes((reason,)) if reason else b"")
    return frame(kind, body, 2 if kind == PUBREL else 0)


def write_suback(kind: int, packet_id: int, reasons: Sequence[int]) -> bytes:
    """A SUBACK or UNSUBACK: one reason a filter, in order [MQTT-3.9.3-1, MQTT-3.11.3-1]."""
    return frame(kind, packet_id.to_bytes(2, "big") + b"\0" + bytes(reasons))


def write_disconnect(reason: Reason, text: str = "") -> bytes:
    """A DISCONNECT from the broker, with a reason string if there is something to say."""
    found: dict[Property, Value] = {Property.REASON_STRING: text} if text else {}
    return frame(DISCONNECT, bytes((reason,)) + p.encode_properties(found))
