"""CONNECT, CONNACK, sessions and DISCONNECT, from the OASIS MQTT v5 specification (3.1, 3.2, 3.14, 4.1)."""

import asyncio
import struct

import pytest
from tests.integration.broker.conftest import Running, Start
from tests.rawmqtt import CONNACK, CONNECT, DISCONNECT, Raw, connect_packet, packet, properties, publish_packet, raw, string

from foa.broker import BrokerLimits


async def test_the_first_packet_must_be_connect(broker: Running) -> None:
    """[MQTT-3.1.0-1]"""
    async with raw(broker.port) as client:
        client.send(publish_packet("a", b"x"))
        last = await client.closed()
        assert last is None or last.kind == DISCONNECT


async def test_a_second_connect_ends_the_connection(broker: Running) -> None:
    """[MQTT-3.1.0-2]; Mosquitto gives no reason."""
    async with raw(broker.port, "c") as client:
        client.send(connect_packet("c"))
        last = await client.closed()
        if broker.embedded:
            assert last is not None
            assert (last.kind, last.reason) == (DISCONNECT, 0x82)
        else:
            assert last is None


async def test_another_protocol_name_is_not_served(broker: Running) -> None:
    """[MQTT-3.1.2-1]"""
    async with raw(broker.port) as client:
        client.send(packet(CONNECT, string("HTTP") + bytes((5, 2)) + b"\0\0" + b"\0" + string("c")))
        last = await client.closed()
        assert last is None or last.reason >= 0x80


async def test_an_unknown_version_is_refused_with_its_reason(broker: Running) -> None:
    """[MQTT-3.1.2-2]: Mosquitto answers in the form of MQTT 3 with return code 1."""
    async with raw(broker.port) as client:
        client.send(packet(CONNECT, string("MQTT") + bytes((6, 2)) + b"\0\0" + b"\0" + string("c")))
        last = await client.closed()
        assert last is not None
        assert (last.kind, last.reason) == (CONNACK, 0x84 if broker.embedded else 1)


async def test_a_client_of_mqtt_3_is_told_so_in_its_own_form(broker: Running) -> None:
    """3.1.1, 3.2.2.3: return code 1 is "unacceptable protocol version"; Mosquitto speaks 3.1.1 and takes it."""
    async with raw(broker.port) as client:
        client.send(packet(CONNECT, string("MQTT") + bytes((4, 2)) + b"\0\0" + string("c")))
        async with asyncio.timeout(5):
            assert await client.reader.readexactly(4) == b"\x20\x02\x00" + (b"\x01" if broker.embedded else b"\x00")


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(0b0000_0011, id="the reserved bit [MQTT-3.1.2-3]"),
        pytest.param(0b0001_1110, id="will QoS 3 [MQTT-3.1.2-12]"),
        pytest.param(0b0000_1010, id="will QoS without a will [MQTT-3.1.2-11]"),
        pytest.param(0b0010_0010, id="will retain without a will [MQTT-3.1.2-13]"),
    ],
)
async def test_wrong_connect_flags_are_malformed(broker: Running, flags: int) -> None:
    async with raw(broker.port) as client:
        will = b"\0" + string("t") + string("p") if flags & 4 else b""
        client.send(packet(CONNECT, string("MQTT") + bytes((5, flags)) + b"\0\0" + b"\0" + string("c") + will))
        last = await client.closed()
        assert last is None or last.reason in (0x81, 0x82)


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(properties(receive_maximum=0), id="receive maximum 0 (3.1.2.11.3)"),
        pytest.param(properties(maximum_packet=0), id="maximum packet size 0 (3.1.2.11.4)"),
        pytest.param(b"\x0a" + b"\x11\0\0\0\1" * 2, id="session expiry twice (3.1.2.11.2)"),
        pytest.param(properties(request_problem=2), id="request problem information 2 (3.1.2.11.7)"),
        pytest.param(properties(topic_alias=1), id="a property of another packet (2.2.2.2)"),
    ],
)
async def test_connect_properties_out_of_range_are_refused(broker: Running, section: bytes) -> None:
    async with raw(broker.port) as client:
        client.send(packet(CONNECT, string("MQTT") + bytes((5, 2)) + b"\0\0" + section + string("c")))
        last = await client.closed()
        assert last is None or last.reason in (0x81, 0x82)


async def test_authentication_data_needs_a_method(broker: Running) -> None:
    """3.1.2.11.10; Mosquitto lets it pass."""
    async with raw(broker.port) as client:
        answer = await client.connect("c", authentication_data=b"x")
        assert answer.reason == (0x82 if broker.embedded else 0)


async def test_an_authentication_method_is_refused(broker: Running) -> None:
    """4.12: a server that does not support it answers 0x8C."""
    async with raw(broker.port) as client:
        answer = await client.connect("c", authentication_method="SCRAM-SHA-1")
        assert answer.reason == 0x8C


async def test_a_client_without_an_identifier_is_given_one(broker: Running) -> None:
    """[MQTT-3.1.3-6, MQTT-3.1.3-7, MQTT-3.2.2-16]"""
    async with raw(broker.port) as one, raw(broker.port) as other:
        first, second = await one.connect(""), await other.connect("")
        assert first.reason == second.reason == 0
        assert first.properties["assigned_client_id"] != second.properties["assigned_client_id"]


async def test_an_assigned_identifier_finds_its_session_again(broker: Running) -> None:
    """3.2.2.3.7"""
    async with raw(broker.port) as client:
        name = (await client.connect("", session_expiry=60)).properties["assigned_client_id"]
    async with raw(broker.port) as client:
        assert (await client.connect(name, clean=False)).session_present


async def test_a_session_outlives_its_connection_by_its_expiry(broker: Running) -> None:
    """[MQTT-3.1.2-5, MQTT-3.2.2-3]"""
    async with raw(broker.port) as client:
        assert not (await client.connect("c", clean=False, session_expiry=60)).session_present
        await client.subscribe("a/+")
        await client.leave()
    async with raw(broker.port, "other") as other:
        await other.publish("a/b", b"1")
    async with raw(broker.port) as client:
        assert (await client.connect("c", clean=False, session_expiry=60)).session_present
        assert (await client.message()).payload == b"1"


async def test_clean_start_discards_the_session(broker: Running) -> None:
    """[MQTT-3.1.2-4, MQTT-3.1.2-6, MQTT-3.2.2-2]"""
    async with raw(broker.port, "c", session_expiry=60) as client:
        await client.subscribe("a")
    async with raw(broker.port) as client:
        assert not (await client.connect("c", clean=True)).session_present
        await client.publish("a", b"1")
        await client.quiet()


async def test_without_expiry_a_session_ends_with_its_connection(broker: Running) -> None:
    """3.1.2.11.2"""
    async with raw(broker.port, "c") as client:
        await client.subscribe("a")
        await client.leave()
    async with raw(broker.port) as client:
        assert not (await client.connect("c", clean=False)).session_present


async def until_expired(broker: Running, client_id: str, *, after: float) -> None:
    """Wait for a session to expire: it must be there before `after` seconds have passed, and gone a while later."""
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(after / 2)
    async with raw(broker.port, "watch", clean=True) as watcher:
        await watcher.quiet()
    await asyncio.sleep(after)  # the broker's own clock: nothing tells that a session has expired
    async with raw(broker.port) as client:
        assert not (await client.connect(client_id, clean=False)).session_present
    assert asyncio.get_running_loop().time() - began < 10


async def test_a_session_expires(broker: Running) -> None:
    """[MQTT-3.1.2-23] and 4.1"""
    async with raw(broker.port, "c", session_expiry=1) as client:
        await client.subscribe("a")
        await client.leave()
    await until_expired(broker, "c", after=2.0)


async def test_a_disconnect_changes_the_expiry(broker: Running) -> None:
    """3.14.2.2.2"""
    async with raw(broker.port, "c", session_expiry=60) as client:
        client.disconnect(session_expiry=0)
        await client.closed()
    async with raw(broker.port) as client:
        assert not (await client.connect("c", clean=False)).session_present


async def test_a_disconnect_may_not_begin_an_expiry(broker: Running) -> None:
    """[MQTT-3.14.2-2]: an expiry that was 0 may not become another."""
    async with raw(broker.port, "c") as client:
        client.disconnect(session_expiry=60)
        last = await client.closed()
        assert last is not None
        assert (last.kind, last.reason) == (DISCONNECT, 0x82)


async def test_the_newer_connection_takes_the_session_over(broker: Running) -> None:
    """[MQTT-3.1.4-3]; Mosquitto 2.0.11 closes the old one without the reason."""
    async with raw(broker.port, "c", session_expiry=60) as old:
        await old.subscribe("a")
        async with raw(broker.port) as new:
            assert (await new.connect("c", clean=False, session_expiry=60)).session_present
            last = await old.closed()
            if broker.embedded:
                assert last is not None
                assert (last.kind, last.reason) == (DISCONNECT, 0x8E)
            else:
                assert last is None
            await new.publish("a", b"1", qos=0)
            assert (await new.message()).payload == b"1"


async def test_silence_of_one_and_a_half_keep_alives_ends_the_connection(broker: Running) -> None:
    """[MQTT-3.1.2-22]: Mosquitto sends no DISCONNECT first."""
    async with raw(broker.port, "c", keep_alive=1) as client:
        began = asyncio.get_running_loop().time()
        last = await client.closed(seconds=10)
        assert 1.4 <= asyncio.get_running_loop().time() - began < 8
        assert (last is not None and last.reason == 0x8D) or not broker.embedded


async def test_pings_keep_a_connection_alive(broker: Running) -> None:
    """[MQTT-3.12.4-1]"""
    async with raw(broker.port, "c", keep_alive=1) as client:
        for _ in range(6):
            await asyncio.sleep(0.5)  # the client's part of the keep alive is to wait
            await client.quiet()


async def test_a_broker_may_shorten_the_keep_alive(start: Start) -> None:
    """[MQTT-3.1.2-21]"""
    broker = await start(limits=BrokerLimits(keep_alive_seconds=30), settings=["max_keepalive 30"])
    async with raw(broker.port) as client:
        assert (await client.connect("c", keep_alive=600)).properties["server_keep_alive"] == 30
    async with raw(broker.port) as client:
        assert "server_keep_alive" not in (await client.connect("c", keep_alive=10)).properties


async def test_a_packet_above_the_announced_maximum_ends_the_connection(start: Start) -> None:
    """[MQTT-3.2.2-15] and 4.13: reason 0x95"""
    broker = await start(limits=BrokerLimits(packet_bytes=2_000), settings=["max_packet_size 2000"])
    async with raw(broker.port) as client:
        assert (await client.connect("c")).properties["maximum_packet"] == 2_000
        client.send(publish_packet("a", b"x" * 3_000, qos=1))
        last = await client.closed()
        assert last is not None
        assert (last.kind, last.reason) == (DISCONNECT, 0x95)


async def test_a_connect_may_carry_packets_right_behind_it(broker: Running) -> None:
    """[MQTT-3.1.4-6] allows a client not to wait for CONNACK."""
    async with raw(broker.port) as client:
        client.send(connect_packet("c"), publish_packet("a", b"1", qos=1, packet_id=9))
        assert (await client.receive(CONNACK)).reason == 0
        assert (await client.receive()).packet_id == 9


async def test_a_packet_may_come_byte_by_byte(broker: Running) -> None:
    """TCP keeps no boundaries (4.2)."""
    client = await Raw.open(broker.port)
    for byte in connect_packet("c", session_expiry=1, user="u" * 200):
        client.send(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.receive(CONNACK)).reason == 0
    client.cut()


async def test_a_ping_is_answered(broker: Running) -> None:
    """[MQTT-3.12.4-1]"""
    async with raw(broker.port, "c") as client:
        await client.quiet()


@pytest.mark.parametrize("bad", [struct.pack("!BB", 0xF0, 0), struct.pack("!BB", 0x20, 0), struct.pack("!BB", 0xD0, 0)])
async def test_packets_only_a_broker_sends_are_refused(broker: Running, bad: bytes) -> None:
    """2.1.2, 3.15: AUTH without enhanced authentication, CONNACK, PINGRESP; Mosquitto lets a PINGRESP pass."""
    async with raw(broker.port, "c") as client:
        client.send(bad)
        if bad[0] == 0xD0 and not broker.embedded:
            await client.quiet()
        else:
            last = await client.closed()
            assert last is None or (last.kind == DISCONNECT and last.reason >= 0x80)
