"""Packets that break the specification (MQTT v5, 4.13): the connection ends, with a reason; the broker does not."""

import struct

import pytest
from tests.integration.broker.conftest import Running
from tests.rawmqtt import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    acknowledge_packet,
    packet,
    publish_packet,
    raw,
    string,
    subscribe_packet,
)

MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID, TOO_LARGE = 0x81, 0x82, 0x90, 0x95


def topic_bytes(raw_topic: bytes) -> bytes:
    """A PUBLISH to a topic that is these bytes."""
    return packet(PUBLISH, struct.pack("!H", len(raw_topic)) + raw_topic + b"\0x")


#: name → packet, our reason, does Mosquitto 2.0.11 refuse it too?
BROKEN = {
    "a length of five bytes (1.5.5)": (b"\x30\xff\xff\xff\xff\x01", MALFORMED, True),
    "a length longer than it need be [MQTT-1.5.5-1]": (b"\xc0\x80\x00", MALFORMED, False),
    "a publish without its topic": (packet(PUBLISH, b""), MALFORMED, True),
    "a topic longer than its packet": (packet(PUBLISH, b"\xff\xffa"), MALFORMED, True),
    "a publish without properties": (packet(PUBLISH, string("a")), MALFORMED, True),
    "properties longer than their packet": (packet(PUBLISH, string("a") + b"\x7f\x01"), MALFORMED, True),
    "an unknown property": (packet(PUBLISH, string("a") + b"\x02\x7e\x00"), MALFORMED, True),
    "a property of another packet": (packet(PUBLISH, string("a") + b"\x05\x11\0\0\0\x01"), MALFORMED, True),
    "a property cut short": (packet(PUBLISH, string("a") + b"\x03\x02\0\0"), MALFORMED, True),
    "message expiry twice": (packet(PUBLISH, string("a") + b"\x0a" + b"\x02\0\0\0\1" * 2), PROTOCOL_ERROR, True),
    "payload format 2": (publish_packet("a", payload_format=2), PROTOCOL_ERROR, False),
    "a response topic with wildcards [MQTT-3.3.2-14]": (publish_packet("a", response_topic="a/#"), PROTOCOL_ERROR, False),
    "a subscription identifier from a client [MQTT-3.3.4-6]": (
        publish_packet("a", subscription_identifier=1),
        MALFORMED,
        False,
    ),
    "QoS 3 [MQTT-3.3.1-4]": (packet(PUBLISH, string("a") + b"\0\1\0x", 6), MALFORMED, True),
    "DUP with QoS 0 [MQTT-3.3.1-2]": (packet(PUBLISH, string("a") + b"\0x", 8), MALFORMED, False),
    "packet identifier 0 [MQTT-2.2.1-3]": (publish_packet("a", qos=1, packet_id=0), PROTOCOL_ERROR, True),
    "a topic with + [MQTT-3.3.2-2]": (publish_packet("a/+"), TOPIC_NAME_INVALID, True),
    "a topic with # [MQTT-3.3.2-2]": (publish_packet("#"), TOPIC_NAME_INVALID, True),
    "no topic and no alias (3.3.2.1)": (publish_packet(""), PROTOCOL_ERROR, True),
    "a surrogate in a topic [MQTT-1.5.4-1]": (topic_bytes(b"a\xed\xa0\x80"), MALFORMED, True),
    "a NUL in a topic [MQTT-1.5.4-2]": (topic_bytes(b"a\0b"), MALFORMED, True),
    "a broken sequence in a topic [MQTT-1.5.4-1]": (topic_bytes(b"a\xc3"), MALFORMED, True),
    "a broken sequence in a user property": (
        packet(PUBLISH, string("a") + b"\x07\x26\0\1\xff\0\1a"),
        MALFORMED,
        True,
    ),
    "an acknowledgement of 0": (acknowledge_packet(PUBACK, 0), MALFORMED, True),
    "an acknowledgement of one byte": (packet(PUBACK, b"\1"), MALFORMED, True),
    "a PUBREL with wrong flags [MQTT-3.6.1-1]": (packet(PUBREL, b"\0\1", 0), MALFORMED, True),
    "a SUBSCRIBE with wrong flags [MQTT-3.8.1-1]": (packet(SUBSCRIBE, b"\0\1\0" + string("a") + b"\0"), MALFORMED, True),
    "a SUBSCRIBE without a filter [MQTT-3.8.3-2]": (packet(SUBSCRIBE, b"\0\1\0", 2), PROTOCOL_ERROR, True),
    "a SUBSCRIBE without options": (packet(SUBSCRIBE, b"\0\1\0" + string("a"), 2), MALFORMED, True),
    "a SUBSCRIBE with QoS 3": (subscribe_packet(("a", 3)), PROTOCOL_ERROR, True),
    "a SUBSCRIBE with retain handling 3": (subscribe_packet(("a", 0x30)), PROTOCOL_ERROR, True),
    "a SUBSCRIBE with reserved options [MQTT-3.8.3-5]": (subscribe_packet(("a", 0x40)), MALFORMED, True),
    "no-local on a shared subscription [MQTT-3.8.3-4]": (subscribe_packet(("$share/x/a", 5)), PROTOCOL_ERROR, False),
    "subscription identifier 0 (3.8.2.1.2)": (subscribe_packet(("a", 1), subscription_identifier=0), PROTOCOL_ERROR, True),
    "an UNSUBSCRIBE without a filter [MQTT-3.10.3-2]": (packet(UNSUBSCRIBE, b"\0\1\0", 2), PROTOCOL_ERROR, True),
    "an UNSUBSCRIBE with wrong flags [MQTT-3.10.1-1]": (packet(UNSUBSCRIBE, b"\0\1\0" + string("a")), MALFORMED, True),
    "packet type 0 (2.1.2)": (packet(0, b""), MALFORMED, True),
}
#: what is refused only as a whole, without looking at its reason
TYPES = {0: PROTOCOL_ERROR}


@pytest.mark.parametrize("name", list(BROKEN))
async def test_a_broken_packet_ends_its_connection_and_no_other(broker: Running, name: str) -> None:
    """4.13.1, [MQTT-4.13.1-1]"""
    sent, reason, mosquitto_refuses = BROKEN[name]
    async with raw(broker.port, "witness") as witness, raw(broker.port, "c") as client:
        client.send(sent, packet(PINGREQ, b""))
        if broker.embedded or mosquitto_refuses:
            last = await client.closed()
            assert last is None or last.kind == DISCONNECT
            if broker.embedded:
                assert last is not None
                assert last.reason == TYPES.get(sent[0], reason)
        else:
            answers = [await client.receive()]
            while answers[-1].kind != PINGRESP:
                answers.append(await client.receive())
        await witness.quiet()
        await witness.subscribe("still/there")
        await witness.publish("still/there", b"yes", qos=0)
        assert (await witness.message()).payload == b"yes"
