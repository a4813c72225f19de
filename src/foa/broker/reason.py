"""Reason codes of MQTT v5 (2.4), and the error that carries one."""

from enum import IntEnum

from foa.errors import BadMessage


class Reason(IntEnum):
    """Why a packet was answered as it was. From 0x80 on it is a refusal."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E


class PacketError(BadMessage):
    """A client's bytes broke the protocol. The connection ends with `reason`; the broker goes on."""

    def __init__(self, reason: Reason, text: str) -> None:
        self.reason = reason
        super().__init__(text)


def malformed(text: str) -> PacketError:
    """A packet that cannot be parsed (MQTT v5, 4.13.1)."""
    return PacketError(Reason.MALFORMED_PACKET, text)


def violation(text: str) -> PacketError:
    """A packet that parses, but may not be sent here or thus (MQTT v5, 4.13.1)."""
    return PacketError(Reason.PROTOCOL_ERROR, text)
