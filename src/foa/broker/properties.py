"""Properties of MQTT v5 (2.2.2): which exist, where they may stand, how they are read and written.

Properties of a PUBLISH are not taken apart: they are checked, and go on to subscribers as the bytes they came in, so that
user properties keep their order [MQTT-3.3.2-17] at no cost. Only the topic alias and the message expiry, which change from
hop to hop, are cut out.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum

from foa.broker.codec import Cursor, encode_binary, encode_length, encode_string
from foa.broker.reason import PacketError, Reason, malformed, violation


class Property(IntEnum):
    """Identifiers of properties (2.2.2.2)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


class Kind(Enum):
    """Data type of a property."""

    FLAG = "one byte, 0 or 1"
    TWO = "two byte integer"
    FOUR = "four byte integer"
    LENGTH = "variable byte integer"
    STRING = "UTF-8 string"
    BINARY = "binary data"
    PAIR = "UTF-8 string pair"


P = Property
KINDS: dict[int, Kind] = {
    P.PAYLOAD_FORMAT_INDICATOR: Kind.FLAG,
    P.MESSAGE_EXPIRY_INTERVAL: Kind.FOUR,
    P.CONTENT_TYPE: Kind.STRING,
    P.RESPONSE_TOPIC: Kind.STRING,
    P.CORRELATION_DATA: Kind.BINARY,
    P.SUBSCRIPTION_IDENTIFIER: Kind.LENGTH,
    P.SESSION_EXPIRY_INTERVAL: Kind.FOUR,
    P.ASSIGNED_CLIENT_IDENTIFIER: Kind.STRING,
    P.SERVER_KEEP_ALIVE: Kind.TWO,
    P.AUTHENTICATION_METHOD: Kind.STRING,
    P.AUTHENTICATION_DATA: Kind.BINARY,
    P.REQUEST_PROBLEM_INFORMATION: Kind.FLAG,
    P.WILL_DELAY_INTERVAL: Kind.FOUR,
    P.REQUEST_RESPONSE_INFORMATION: Kind.FLAG,
    P.REASON_STRING: Kind.STRING,
    P.RECEIVE_MAXIMUM: Kind.TWO,
    P.TOPIC_ALIAS_MAXIMUM: Kind.TWO,
    P.TOPIC_ALIAS: Kind.TWO,
    P.USER_PROPERTY: Kind.PAIR,
    P.MAXIMUM_PACKET_SIZE: Kind.FOUR,
    P.SHARED_SUBSCRIPTION_AVAILABLE: Kind.FLAG,
}

#: what a client may send in each packet; in a PUBLISH it may not send a subscription identifier [MQTT-3.3.4-6]
IN_CONNECT = frozenset(
    {
        P.SESSION_EXPIRY_INTERVAL,
        P.RECEIVE_MAXIMUM,
        P.MAXIMUM_PACKET_SIZE,
        P.TOPIC_ALIAS_MAXIMUM,
        P.REQUEST_RESPONSE_INFORMATION,
        P.REQUEST_PROBLEM_INFORMATION,
        P.USER_PROPERTY,
        P.AUTHENTICATION_METHOD,
        P.AUTHENTICATION_DATA,
    }
)
IN_MESSAGE = frozenset(
    {
        P.PAYLOAD_FORMAT_INDICATOR,
        P.MESSAGE_EXPIRY_INTERVAL,
        P.CONTENT_TYPE,
        P.RESPONSE_TOPIC,
        P.CORRELATION_DATA,
        P.USER_PROPERTY,
    }
)
IN_WILL = IN_MESSAGE | {P.WILL_DELAY_INTERVAL}
IN_PUBLISH = IN_MESSAGE | {P.TOPIC_ALIAS}
IN_SUBSCRIBE = frozenset({P.SUBSCRIPTION_IDENTIFIER, P.USER_PROPERTY})
IN_UNSUBSCRIBE = frozenset({P.USER_PROPERTY})
IN_ACKNOWLEDGEMENT = frozenset({P.REASON_STRING, P.USER_PROPERTY})
IN_DISCONNECT = frozenset({P.SESSION_EXPIRY_INTERVAL, P.REASON_STRING, P.USER_PROPERTY})

#: values of zero that are a protocol error
NOT_ZERO = frozenset({P.RECEIVE_MAXIMUM, P.MAXIMUM_PACKET_SIZE, P.SUBSCRIPTION_IDENTIFIER})

Value = int | str | bytes | tuple[str, str]


def read_value(cursor: Cursor, identifier: int) -> Value:
    """The value of one property, checked as far as its type goes."""
    kind = KINDS[identifier]
    if kind is Kind.PAIR:
        return cursor.string(), cursor.string()
    if kind is Kind.STRING:
        return cursor.string()
    if kind is Kind.FOUR:
        return cursor.integer(4)
    if kind is Kind.BINARY:
        return cursor.binary()
    if kind is Kind.TWO:
        return cursor.integer(2)
    if kind is Kind.LENGTH:
        return cursor.length()
    flag = cursor.integer(1)
    if flag > 1:
        raise violation(f"property 0x{identifier:02x} is {flag}, it must be 0 or 1")
    return flag


def read_properties(cursor: Cursor, allowed: frozenset[Property]) -> dict[int, Value]:
    """A whole property section, its length included. User properties are checked and left out: the broker uses none.

    Raises:
        PacketError: an unknown or misplaced property, one given twice, or a value out of its range.
    """
    end = cursor.length() + cursor.position
    if end > cursor.end:
        raise malformed("properties are longer than their packet")
    section = Cursor(cursor.data, cursor.position, end)
    cursor.position = end
    found: dict[int, Value] = {}
    while section.left:
        identifier = section.length()
        if identifier not in allowed:
            raise malformed(f"property 0x{identifier:02x} does not belong in this packet")
        value = read_value(section, identifier)
        if identifier == P.USER_PROPERTY:
            continue
        if identifier in found:
            raise violation(f"property 0x{identifier:02x} is given twice")
        if value == 0 and identifier in NOT_ZERO:
            raise violation(f"property 0x{identifier:02x} may not be 0")
        found[identifier] = value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageProperties:
    """Properties of a message, read just far enough to pass them on."""

    forward: bytes  #: what goes to subscribers unchanged, without a length before it
    expiry_seconds: int | None  #: message expiry interval; None: never
    topic_alias: int = 0  #: 0: none
    will_delay_seconds: int = 0


NOTHING = MessageProperties(forward=b"", expiry_seconds=None)


def read_message(data: bytes, start: int, end: int, allowed: frozenset[Property] = IN_PUBLISH) -> MessageProperties:
    """Check the properties of a PUBLISH or will in `data[start:end]` (their length not included) and split them.

    Raises:
        PacketError: an unknown or misplaced property, one given twice, a topic alias of 0, wildcards in a response topic.
    """
    cursor = Cursor(data, start, end)
    seen: dict[int, int] = {}
    kept: list[bytes] = []
    while cursor.position < end:
        begin = cursor.position
        identifier = data[begin]  # all that exist are below 0x80, one byte
        cursor.position = begin + 1
        if identifier not in allowed:
            raise malformed(f"property 0x{identifier:02x} does not belong in a PUBLISH")
        value = read_value(cursor, identifier)
        if identifier == P.USER_PROPERTY:
            kept.append(data[begin : cursor.position])
            continue
        if identifier in seen:
            raise violation(f"property 0x{identifier:02x} is given twice")
        seen[identifier] = value if isinstance(value, int) else 0
        if identifier == P.RESPONSE_TOPIC:
            check_response_topic(value)
        if identifier not in CHANGING:
            kept.append(data[begin : cursor.position])
    if seen.get(P.TOPIC_ALIAS) == 0:
        raise PacketError(Reason.TOPIC_ALIAS_INVALID, "a topic alias may not be 0")
    return MessageProperties(
        forward=b"".join(kept),
        expiry_seconds=seen.get(P.MESSAGE_EXPIRY_INTERVAL),
        topic_alias=seen.get(P.TOPIC_ALIAS, 0),
        will_delay_seconds=seen.get(P.WILL_DELAY_INTERVAL, 0),
    )


CHANGING = frozenset({P.MESSAGE_EXPIRY_INTERVAL, P.TOPIC_ALIAS, P.WILL_DELAY_INTERVAL})


def check_response_topic(value: Value) -> None:
    """A response topic has no wildcards [MQTT-3.3.2-14] and is not empty."""
    if not isinstance(value, str) or not value or "+" in value or "#" in value:
        raise violation("a response topic is empty or has wildcards")


def encode_property(identifier: Property, value: Value) -> bytes:
    """One property as it stands on the wire."""
    kind = KINDS[identifier]
    head = bytes((identifier,))
    if isinstance(value, tuple):
        return head + encode_string(value[0]) + encode_string(value[1])
    if isinstance(value, str):
        return head + encode_string(value)
    if isinstance(value, bytes):
        return head + encode_binary(value)
    if kind is Kind.LENGTH:
        return head + encode_length(value)
    return head + value.to_bytes({Kind.FLAG: 1, Kind.TWO: 2, Kind.FOUR: 4}[kind], "big")


def encode_properties(found: dict[Property, Value]) -> bytes:
    """A property section, its length included."""
    body = b"".join(encode_property(identifier, value) for identifier, value in found.items())
    return encode_length(len(body)) + body
