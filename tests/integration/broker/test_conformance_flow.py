"""Sessions, redelivery and flow control, from the OASIS MQTT v5 specification (4.1, 4.3, 4.4, 4.9)."""

import pytest
from tests.integration.broker.conftest import Running, Start
from tests.rawmqtt import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    acknowledge_packet,
    publish_packet,
    raw,
)

from foa.broker import BrokerLimits

DURABLE = {"clean": False, "session_expiry": 60}


async def test_a_message_without_its_puback_comes_again(broker: Running) -> None:
    """[MQTT-4.4.0-1, MQTT-4.4.0-2, MQTT-3.3.1-1]: the same packet identifier, DUP set; until then not again."""
    async with raw(broker.port, "s", **DURABLE) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 1))
        await publisher.publish("a", b"1")
        first = await subscriber.receive(PUBLISH)
        await subscriber.quiet()
        assert not first.dup
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        again = await subscriber.message()
        assert (again.payload, again.packet_id, again.dup) == (b"1", first.packet_id, True)
        await subscriber.leave()
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        await subscriber.quiet()


async def test_a_qos_2_exchange_goes_on_where_it_stopped(broker: Running) -> None:
    """[MQTT-4.4.0-1, MQTT-4.3.3-5]: before PUBREC the PUBLISH comes again, after it only the PUBREL."""
    async with raw(broker.port, "s", **DURABLE) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 2))
        await publisher.publish("a", b"1", qos=2)
        first = await subscriber.receive(PUBLISH)
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        again = await subscriber.receive(PUBLISH)
        assert (again.packet_id, again.dup) == (first.packet_id, True)
        subscriber.send(acknowledge_packet(PUBREC, again.packet_id))
        assert (await subscriber.receive(PUBREL)).packet_id == first.packet_id
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        assert (await subscriber.receive(PUBREL)).packet_id == first.packet_id
        subscriber.send(acknowledge_packet(PUBCOMP, first.packet_id))
        await subscriber.quiet()
        await subscriber.leave()
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        await subscriber.quiet()


async def test_what_a_client_sent_with_qos_2_is_remembered_over_connections(broker: Running) -> None:
    """[MQTT-4.3.3-10], 4.1: the identifier is part of the session state."""
    async with raw(broker.port, "s") as subscriber:
        await subscriber.subscribe("a")
        async with raw(broker.port, "p", **DURABLE) as publisher:
            publisher.send(publish_packet("a", b"1", qos=2, packet_id=5))
            await publisher.receive(PUBREC)
        async with raw(broker.port, "p", **DURABLE) as publisher:
            publisher.send(publish_packet("a", b"1", qos=2, packet_id=5, dup=True))
            assert (await publisher.receive(PUBREC)).packet_id == 5
            publisher.send(acknowledge_packet(PUBREL, 5))
            assert (await publisher.receive(PUBCOMP)).reason == 0
        assert (await subscriber.message()).payload == b"1"
        await subscriber.quiet()


async def test_messages_wait_in_order_for_a_client_that_is_away(broker: Running) -> None:
    """3.1.2.11.2, [MQTT-4.6.0-6]; QoS 0 may be left out."""
    async with raw(broker.port, "s", **DURABLE) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a/#")
        await subscriber.leave()
        for number in range(50):
            await publisher.publish(f"a/{number}", str(number).encode(), qos=1 + number % 2)
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        assert [int(found.payload) for found in await subscriber.messages(50)] == list(range(50))
        await subscriber.quiet()


async def test_a_new_queue_goes_behind_what_was_in_flight(broker: Running) -> None:
    """[MQTT-4.6.0-6]"""
    async with raw(broker.port, "s", **DURABLE) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 1))
        for payload in (b"1", b"2"):
            await publisher.publish("a", payload)
            await subscriber.receive(PUBLISH)
        subscriber.cut()
        await publisher.quiet()
        await publisher.publish("a", b"3")
    async with raw(broker.port, "s", **DURABLE) as subscriber:
        assert [found.payload for found in await subscriber.messages(3)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_client_is_sent_no_more_than_its_receive_maximum(broker: Running, qos: int) -> None:
    """[MQTT-3.3.4-9], 4.9: the next one comes when one is acknowledged; Mosquitto 2.0.11 then sends one too many."""
    async with raw(broker.port, "s", receive_maximum=2) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", qos))
        for number in range(4):
            await publisher.publish("a", str(number).encode(), qos=qos)
        first, second = await subscriber.receive(PUBLISH), await subscriber.receive(PUBLISH)
        await subscriber.quiet()
        assert (first.payload, second.payload) == (b"0", b"1")
        if qos == 1:
            subscriber.send(acknowledge_packet(PUBACK, first.packet_id))
        else:
            subscriber.send(acknowledge_packet(PUBREC, first.packet_id))
            assert (await subscriber.receive(PUBREL)).packet_id == first.packet_id
            await subscriber.quiet()
            subscriber.send(acknowledge_packet(PUBCOMP, first.packet_id))
        third = await subscriber.receive(PUBLISH)
        assert third.payload == b"2"
        if not broker.embedded:
            assert (await subscriber.receive(PUBLISH)).payload == b"3"
        await subscriber.quiet()


async def test_qos_0_is_not_held_back_by_the_receive_maximum(broker: Running) -> None:
    """4.9"""
    async with raw(broker.port, "s", receive_maximum=1) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        await publisher.publish("a", b"held", qos=1)
        await subscriber.receive(PUBLISH)
        await publisher.publish("a", b"free", qos=0)
        assert (await subscriber.receive(PUBLISH)).payload == b"free"


async def test_a_refusing_pubrec_ends_the_exchange(broker: Running) -> None:
    """4.3.3, 4.9: no PUBREL follows a PUBREC of 0x80 or more, and its place in the window is free."""
    async with raw(broker.port, "s", receive_maximum=1) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 2))
        await publisher.publish("a", b"1", qos=2)
        await publisher.publish("a", b"2", qos=2)
        first = await subscriber.receive(PUBLISH)
        subscriber.send(acknowledge_packet(PUBREC, first.packet_id, 0x83))
        assert (await subscriber.receive(PUBLISH)).payload == b"2"


async def test_a_client_that_exceeds_the_brokers_receive_maximum_is_cut(start: Start) -> None:
    """[MQTT-3.3.4-9], 0x93; Mosquitto 2.0.11 takes them."""
    broker = await start(limits=BrokerLimits(receive_maximum=3), settings=["max_inflight_messages 3"])
    async with raw(broker.port) as publisher:
        assert (await publisher.connect("p")).properties["receive_maximum"] == 3
        publisher.send(*(publish_packet("a", b"x", qos=2, packet_id=number) for number in range(1, 5)))
        if broker.embedded:
            last = await publisher.closed()
            assert last is not None
            assert (last.kind, last.reason) == (DISCONNECT, 0x93)
        else:
            assert [(await publisher.receive(PUBREC)).packet_id for _ in range(4)] == [1, 2, 3, 4]


async def test_packet_identifiers_go_round_without_meeting_one_in_use(broker: Running) -> None:
    """[MQTT-2.2.1-4]: one message stays unacknowledged while 70 000 pass; Mosquitto 2.0.11 gives its number out again."""
    reused = False
    async with raw(broker.port, "s", receive_maximum=500) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 1))
        await publisher.publish("a", b"held")
        held = (await subscriber.receive(PUBLISH)).packet_id
        for _ in range(175):
            publisher.send(*(publish_packet("a", b"x", qos=1, packet_id=1 + number) for number in range(400)))
            for _ in range(400):
                found = await subscriber.receive(PUBLISH)
                reused = reused or found.packet_id == held
                subscriber.send(acknowledge_packet(PUBACK, found.packet_id))
            for _ in range(400):
                await publisher.receive(PUBACK)
    assert reused is not broker.embedded
