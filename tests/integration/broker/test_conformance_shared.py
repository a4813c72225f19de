"""Shared subscriptions, from the OASIS MQTT v5 specification (4.8.2)."""

from contextlib import AsyncExitStack

from tests.integration.broker.conftest import Running
from tests.rawmqtt import PUBACK, PUBLISH, Raw, acknowledge_packet, raw

DURABLE = {"clean": False, "session_expiry": 60}


async def drain(client: Raw) -> list[int]:
    """All messages that have come by now, as numbers."""
    client.send(b"\xc0\x00")
    found: list[int] = []
    while (item := await client.receive()).kind == PUBLISH:
        if item.qos:
            client.send(acknowledge_packet(PUBACK, item.packet_id))
        found.append(int(item.payload))
    return found


async def test_each_message_goes_to_one_member(broker: Running) -> None:
    """4.8.2: and every member gets some."""
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(raw(broker.port, f"m{number}")) for number in range(3)]
        publisher = await stack.enter_async_context(raw(broker.port, "p"))
        for member in members:
            assert (await member.subscribe(("$share/group/a/+", 1))).reasons == (1,)
        for number in range(30):
            await publisher.publish("a/b", str(number).encode())
        shares = [await drain(member) for member in members]
        assert sorted(number for share in shares for number in share) == list(range(30))
        assert all(len(share) == 10 for share in shares)


async def test_each_group_and_each_plain_subscriber_gets_its_own(broker: Running) -> None:
    """4.8.2"""
    async with raw(broker.port, "one") as one, raw(broker.port, "two") as two, raw(broker.port, "plain") as plain:
        await one.subscribe("$share/x/a")
        await two.subscribe("$share/y/a")
        await plain.subscribe("a")
        await plain.publish("a", b"1", qos=0)
        for client in (one, two, plain):
            assert (await client.message()).payload == b"1"
            await client.quiet()


async def test_a_shared_subscription_brings_no_retained_messages(broker: Running) -> None:
    """3.8.4, 4.8.2; Mosquitto 2.0.11 sends them."""
    async with raw(broker.port, "c") as client:
        await client.publish("r", b"x", retain=True)
        await client.subscribe("$share/x/r")
        if not broker.embedded:
            assert (await client.message()).retain
        await client.quiet()


async def test_a_members_own_qos_and_identifier_hold(broker: Running) -> None:
    """[MQTT-3.8.4-8, MQTT-3.3.4-3]"""
    async with raw(broker.port, "c") as client:
        await client.subscribe(("$share/x/a", 0), subscription_identifier=9)
        await client.publish("a", b"x", qos=0)
        found = await client.message()
        assert (found.qos, found.properties) == (0, {"subscription_identifier": [9]})


async def test_a_member_that_is_away_is_passed_over(broker: Running) -> None:
    """4.8.2 leaves it open; Mosquitto 2.0.11 queues every other message for it."""
    async with raw(broker.port, "here") as here, raw(broker.port, "p") as publisher:
        async with raw(broker.port, "away", **DURABLE) as away:
            await away.subscribe(("$share/x/a", 1))
            await away.leave()
        await here.subscribe(("$share/x/a", 1))
        for number in range(4):
            await publisher.publish("a", str(number).encode())
        assert await drain(here) == ([0, 1, 2, 3] if broker.embedded else [1, 3])


async def test_a_member_that_unsubscribes_gets_no_more(broker: Running) -> None:
    """[MQTT-3.10.4-1]"""
    async with raw(broker.port, "one") as one, raw(broker.port, "two") as two, raw(broker.port, "p") as publisher:
        await one.subscribe(("$share/x/a", 1))
        await two.subscribe(("$share/x/a", 1))
        two.send(b"\xa2\x0f\x00\x09\x00\x00\x0a$share/x/a")
        assert (await two.receive()).reasons == (0,)
        for number in range(4):
            await publisher.publish("a", str(number).encode())
        assert await drain(one) == [0, 1, 2, 3]
        await two.quiet()


async def test_a_refused_message_goes_to_nobody_else(broker: Running) -> None:
    """[MQTT-4.8.2-6]"""
    async with raw(broker.port, "one") as one, raw(broker.port, "two") as two, raw(broker.port, "p") as publisher:
        await one.subscribe(("$share/x/a", 1))
        await publisher.publish("a", b"1")
        found = await one.receive(PUBLISH)
        await two.subscribe(("$share/x/a", 1))
        one.send(acknowledge_packet(PUBACK, found.packet_id, 0x83))
        await one.quiet()
        await two.quiet()


async def test_a_lost_members_unacknowledged_message_goes_to_another(broker: Running) -> None:
    """4.8.2 allows it, ours does it; Mosquitto 2.0.11 keeps it for the lost member: leases cannot rely on it."""
    async with raw(broker.port, "two") as two, raw(broker.port, "p") as publisher:
        async with raw(broker.port, "one", **DURABLE) as one:
            await one.subscribe(("$share/x/a", 1))
            await publisher.publish("a", b"1")
            assert (await one.receive(PUBLISH)).payload == b"1"
            await two.subscribe(("$share/x/a", 1))
            one.disconnect()
            await one.closed()
        if broker.embedded:
            assert (await two.message()).payload == b"1"
        await two.quiet()
        async with raw(broker.port, "one", **DURABLE) as one:
            if not broker.embedded:
                assert (await one.message()).payload == b"1"
            await one.quiet()


async def test_a_member_that_comes_takes_over_what_nobody_could_take(broker: Running) -> None:
    """4.8.2; Mosquitto 2.0.11 keeps it for the member that is away."""
    async with raw(broker.port, "p") as publisher:
        async with raw(broker.port, "one", **DURABLE) as one:
            await one.subscribe(("$share/x/a", 1))
            await one.leave()
        await publisher.publish("a", b"1")
        async with raw(broker.port, "two") as two:
            await two.subscribe(("$share/x/a", 1))
            if broker.embedded:
                assert (await two.message()).payload == b"1"
            await two.quiet()


async def test_a_qos_2_message_stays_with_the_member_it_was_sent_to(broker: Running) -> None:
    """[MQTT-4.8.2-4, MQTT-4.8.2-5]"""
    async with raw(broker.port, "two") as two, raw(broker.port, "p") as publisher:
        async with raw(broker.port, "one", **DURABLE) as one:
            await one.subscribe(("$share/x/a", 2))
            await publisher.publish("a", b"1", qos=2)
            first = await one.receive(PUBLISH)
            await two.subscribe(("$share/x/a", 2))
        await publisher.quiet()
        await two.quiet()
        async with raw(broker.port, "one", **DURABLE) as one:
            again = await one.message()
            assert (again.packet_id, again.payload) == (first.packet_id, b"1")
