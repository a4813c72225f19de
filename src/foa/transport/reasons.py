"""MQTT v5 reason codes in words (2.4)."""

_WORDS = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "not accepted by this broker",
    0x84: "the broker does not speak MQTT v5",
    0x85: "the client id is not allowed",
    0x86: "wrong user name or password",
    0x87: "not authorised",
    0x88: "the broker is not available",
    0x89: "the broker is busy",
    0x8A: "banned",
    0x8B: "the broker is shutting down",
    0x8D: "keep alive timed out",
    0x8E: "another connection took over the client id",
    0x8F: "the topic filter is not allowed",
    0x90: "the topic is not allowed",
    0x93: "more messages at once than the receive maximum",
    0x95: "the packet is too large",
    0x97: "over quota",
    0x99: "the payload format is invalid",
    0x9A: "the broker retains nothing",
    0x9B: "the broker does not support this QoS",
    0x9E: "the broker does not support shared subscriptions",
    0xA1: "the broker does not support subscription identifiers",
    0xA2: "the broker does not support wildcards",
}
BAD_CREDENTIALS = frozenset({0x86, 0x87})


def reason(code: int) -> str:
    """Give a reason code in words and in figures."""
    return f"{_WORDS.get(code, 'refused')} (reason code 0x{code:02X})"


#: reasons that connecting again does not mend: credentials, identity, protocol, or another with the same client id
FINAL = frozenset({0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x90, 0x95, 0x99, 0x9A, 0x9B, 0x9C, 0x9D})
