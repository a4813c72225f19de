"""PUBLISH, SUBSCRIBE, UNSUBSCRIBE and topics, from the OASIS MQTT v5 specification (3.3, 3.8 to 3.11, 4.7)."""

import asyncio

import pytest
from tests.integration.broker.conftest import Running
from tests.rawmqtt import (
    DISCONNECT,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    UNSUBSCRIBE,
    acknowledge_packet,
    packet,
    publish_packet,
    raw,
    string,
    subscribe_packet,
)

NO_LOCAL, RETAIN_AS_PUBLISHED = 4, 8
ONLY_NEW, NEVER = 0x10, 0x20


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_a_message_comes_with_the_lower_of_both_qos(broker: Running, published: int, granted: int) -> None:
    """[MQTT-3.8.4-8], 4.3"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        assert (await subscriber.subscribe(("a", granted))).reasons == (granted,)
        await publisher.publish("a", b"payload", qos=published)
        found = await subscriber.message()
        assert (found.topic, found.payload, found.qos, found.dup) == ("a", b"payload", min(published, granted), False)
        await subscriber.quiet()


async def test_a_qos_2_message_sent_twice_is_delivered_once(broker: Running) -> None:
    """[MQTT-4.3.3-10]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        publisher.send(publish_packet("a", b"1", qos=2, packet_id=7))
        assert (await publisher.receive(PUBREC)).packet_id == 7
        publisher.send(publish_packet("a", b"1", qos=2, packet_id=7, dup=True))
        assert (await publisher.receive(PUBREC)).packet_id == 7
        publisher.send(acknowledge_packet(PUBREL, 7))
        assert (await publisher.receive(PUBCOMP)).packet_id == 7
        assert (await subscriber.message()).payload == b"1"
        await subscriber.quiet()


async def test_a_released_identifier_may_be_used_again(broker: Running) -> None:
    """[MQTT-4.3.3-12]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        for payload in (b"1", b"2"):
            publisher.send(publish_packet("a", payload, qos=2, packet_id=7))
            await publisher.receive(PUBREC)
            publisher.send(acknowledge_packet(PUBREL, 7))
            await publisher.receive(PUBCOMP)
        assert [found.payload for found in await subscriber.messages(2)] == [b"1", b"2"]


async def test_an_unknown_release_is_answered(broker: Running) -> None:
    """3.6.2.1, 3.7.2.1: 0x92; Mosquitto says success."""
    async with raw(broker.port, "c") as client:
        client.send(acknowledge_packet(PUBREL, 99))
        answer = await client.receive(PUBCOMP)
        assert (answer.packet_id, answer.reason) == (99, 0x92 if broker.embedded else 0)


async def test_messages_of_a_topic_keep_their_order(broker: Running) -> None:
    """[MQTT-4.6.0-6]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 1))
        sent = [str(number).encode() for number in range(500)]
        publisher.send(*(publish_packet("a", payload, qos=1, packet_id=1 + index) for index, payload in enumerate(sent)))
        assert [found.payload for found in await subscriber.messages(500)] == sent


async def test_nobody_there_is_told_or_not(broker: Running) -> None:
    """3.4.2.1: 0x10, no matching subscribers; a server may also say 0."""
    async with raw(broker.port, "p") as publisher:
        answer = await publisher.publish("nobody/hears", b"1")
        assert answer is not None
        assert answer.reason in (0, 0x10)


async def test_properties_go_through_unaltered_and_in_order(broker: Running) -> None:
    """[MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20]"""
    told = {
        "payload_format": 1,
        "content_type": "text/plain",
        "response_topic": "reply/here",
        "correlation_data": b"\0\1\xff",
        "user": [("b", "2"), ("a", "1"), ("b", "2"), ("", "ü")],
    }
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        for qos in (0, 1, 2):
            await publisher.publish("a", b"x", qos=qos, **told)
            assert (await subscriber.message()).properties == told


@pytest.mark.parametrize(
    ("topic_filter", "topic", "fits"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "a/b", True),
        ("#", "$hidden/a", False),
        ("+/a", "$hidden/a", False),
        ("$hidden/#", "$hidden/a", True),
        ("ACCOUNTS", "Accounts", False),
        ("a//b", "a//b", True),
        ("a/+/b", "a//b", True),
    ],
)
async def test_filters_match_as_the_specification_says(broker: Running, topic_filter: str, topic: str, fits: bool) -> None:
    """4.7.1 to 4.7.3 with its examples, [MQTT-4.7.2-1]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(topic_filter)
        await publisher.publish(topic, b"x")
        if fits:
            assert (await subscriber.message()).topic == topic
        await subscriber.quiet()


async def test_a_suback_has_a_reason_for_each_filter_in_order(broker: Running) -> None:
    """[MQTT-3.8.4-2, MQTT-3.8.4-6, MQTT-3.9.3-1]"""
    async with raw(broker.port, "s") as subscriber:
        subscriber.send(subscribe_packet(("a", 0), ("b", 1), ("c", 2), packet_id=77))
        answer = await subscriber.receive(SUBACK)
        assert (answer.packet_id, answer.reasons) == (77, (0, 1, 2))


async def test_unsubscribing_stops_messages_and_says_what_was_there(broker: Running) -> None:
    """[MQTT-3.10.4-1, MQTT-3.10.4-4, MQTT-3.10.4-6]; 3.11.3: 0x11, no subscription existed"""
    async with raw(broker.port, "s") as subscriber:
        await subscriber.subscribe("a/+")
        subscriber.send(packet(UNSUBSCRIBE, b"\0\x09\0" + string("a/+") + string("a/b"), 2))
        answer = await subscriber.receive(UNSUBACK)
        assert (answer.packet_id, answer.reasons) == (9, (0, 0x11))
        await subscriber.publish("a/b", b"1")
        await subscriber.quiet()


async def test_subscribing_again_replaces_the_options(broker: Running) -> None:
    """[MQTT-3.8.4-3]"""
    async with raw(broker.port, "s") as subscriber:
        await subscriber.subscribe(("a", 2), subscription_identifier=1)
        await subscriber.subscribe(("a", 0), subscription_identifier=2)
        await subscriber.publish("a", b"x", qos=0)
        found = await subscriber.message()
        assert (found.qos, found.properties) == (0, {"subscription_identifier": [2]})
        await subscriber.quiet()


async def test_no_local_keeps_a_clients_own_messages_away(broker: Running) -> None:
    """[MQTT-3.8.3-3]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a", 1 | NO_LOCAL))
        await subscriber.publish("a", b"own")
        await publisher.publish("a", b"other")
        assert (await subscriber.message()).payload == b"other"
        await subscriber.quiet()


async def test_overlapping_subscriptions_bring_the_highest_qos_and_every_identifier(broker: Running) -> None:
    """[MQTT-3.3.4-2, MQTT-3.3.4-3, MQTT-3.3.4-4]: one copy here; Mosquitto 2.0.11 sends a copy for each."""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("a/#", 1), subscription_identifier=1)
        await subscriber.subscribe(("a/+", 2), subscription_identifier=268_435_455)
        await publisher.publish("a/b", b"x", qos=2)
        found = [await subscriber.message()]
        if not broker.embedded and len(found[0].properties["subscription_identifier"]) == 1:
            found.append(await subscriber.message())
        assert {item.qos for item in found} >= {2}
        identifiers = [number for item in found for number in item.properties["subscription_identifier"]]
        assert sorted(identifiers) == [1, 268_435_455]
        await subscriber.quiet()


# ── retained ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_retained_message_waits_for_its_subscribers(broker: Running) -> None:
    """[MQTT-3.3.1-5, MQTT-3.3.1-8]: the last of each topic, RETAIN set, properties with it."""
    async with raw(broker.port, "p") as publisher:
        await publisher.publish("r/a", b"old", retain=True)
        await publisher.publish("r/a", b"new", retain=True, user=[("k", "v")])
        await publisher.publish("r/b", b"two", qos=0, retain=True)
        await publisher.publish("s/c", b"other", retain=True)
        await publisher.quiet()
    async with raw(broker.port, "s") as subscriber:
        await subscriber.subscribe("r/+")
        found = {item.topic: item for item in await subscriber.messages(2)}
        assert {topic: (item.payload, item.qos, item.retain) for topic, item in found.items()} == {
            "r/a": (b"new", 1, True),
            "r/b": (b"two", 0, True),
        }
        assert found["r/a"].properties["user"] == [("k", "v")]
        await subscriber.quiet()


async def test_an_empty_retained_message_takes_the_one_before_away(broker: Running) -> None:
    """[MQTT-3.3.1-6, MQTT-3.3.1-7]: it is still delivered to those who listen now."""
    async with raw(broker.port, "p") as publisher, raw(broker.port, "s") as subscriber:
        await publisher.publish("r", b"x", retain=True)
        await subscriber.subscribe("r")
        assert (await subscriber.message()).retain
        await publisher.publish("r", b"", retain=True)
        found = await subscriber.message()
        assert (found.payload, found.retain) == (b"", False)
        await subscriber.subscribe("r")
        await subscriber.quiet()


@pytest.mark.parametrize(
    ("handling", "first", "again"),
    [(0, True, True), (ONLY_NEW, True, False), (NEVER, False, False)],
)
async def test_retain_handling_says_when_retained_messages_come(
    broker: Running, handling: int, first: bool, again: bool
) -> None:
    """[MQTT-3.3.1-9, MQTT-3.3.1-10, MQTT-3.3.1-11]"""
    async with raw(broker.port, "s") as subscriber:
        await subscriber.publish("r", b"x", retain=True)
        for wanted in (first, again):
            await subscriber.subscribe(("r", 1 | handling))
            if wanted:
                assert (await subscriber.message()).retain
            await subscriber.quiet()


async def test_retain_as_published_keeps_the_flag(broker: Running) -> None:
    """[MQTT-3.3.1-12, MQTT-3.3.1-13]"""
    async with raw(broker.port, "s") as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe(("plain", 1), ("kept", 1 | RETAIN_AS_PUBLISHED))
        seen: dict[tuple[str, bool], bool] = {}
        for topic in ("plain", "kept"):
            for retain in (False, True):
                await publisher.publish(topic, b"x", retain=retain)
                seen[topic, retain] = (await subscriber.message()).retain
        assert seen == {("plain", False): False, ("plain", True): False, ("kept", False): False, ("kept", True): True}


async def test_a_subscriber_gets_retained_messages_with_its_identifier(broker: Running) -> None:
    """[MQTT-3.3.4-3]"""
    async with raw(broker.port, "s") as subscriber:
        await subscriber.publish("r", b"x", retain=True)
        await subscriber.subscribe("r", subscription_identifier=5)
        assert (await subscriber.message()).properties["subscription_identifier"] == [5]


# ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_what_is_left_of_the_expiry_goes_with_the_message(broker: Running) -> None:
    """[MQTT-3.3.2-6]: at once all of it, later less."""
    async with raw(broker.port, "s", session_expiry=60) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        await publisher.publish("a", b"x", message_expiry=100)
        assert (await subscriber.message()).properties["message_expiry"] in (99, 100)
        await subscriber.leave()
        await publisher.publish("a", b"y", message_expiry=100)
        await asyncio.sleep(2.1)  # time is what is tested
    async with raw(broker.port, "s", clean=False, session_expiry=60) as subscriber:
        assert 90 <= (await subscriber.message()).properties["message_expiry"] <= 98


async def test_an_expired_message_is_not_delivered(broker: Running) -> None:
    """[MQTT-3.3.2-5]: neither from a queue nor as a retained one."""
    async with raw(broker.port, "s", session_expiry=60) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        await subscriber.leave()
        await publisher.publish("a", b"x", message_expiry=1)
        await publisher.publish("a", b"z", message_expiry=100)
        await publisher.publish("r", b"x", message_expiry=1, retain=True)
        await asyncio.sleep(2.1)  # time is what is tested
    async with raw(broker.port, "s", clean=False, session_expiry=60) as subscriber:
        assert (await subscriber.message()).payload == b"z"
        await subscriber.subscribe("r")
        await subscriber.quiet()


# ── topic alias ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_topic_alias_stands_for_its_topic(broker: Running) -> None:
    """[MQTT-3.3.2-7, MQTT-3.3.2-12], 3.3.2.3.4: set, used, set anew; subscribers see the topic."""
    async with raw(broker.port, "s") as subscriber, raw(broker.port) as publisher:
        await subscriber.subscribe("a", "b")
        assert (await publisher.connect("p")).properties["topic_alias_maximum"] >= 1
        await publisher.publish("a", b"1", topic_alias=1)
        await publisher.publish("", b"2", topic_alias=1)
        await publisher.publish("b", b"3", topic_alias=1)
        await publisher.publish("", b"4", topic_alias=1)
        found = await subscriber.messages(4)
        assert [(item.topic, item.payload) for item in found] == [("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")]
        assert all("topic_alias" not in item.properties for item in found)


@pytest.mark.parametrize("alias", [0, 65_535])
async def test_a_topic_alias_out_of_range_is_refused(broker: Running, alias: int) -> None:
    """[MQTT-3.3.2-8, MQTT-3.3.2-9], 0x94; Mosquitto calls 0 malformed."""
    async with raw(broker.port, "p") as publisher:
        publisher.send(publish_packet("a", b"x", topic_alias=alias))
        last = await publisher.closed()
        assert last is not None
        assert (last.kind, last.reason) == (DISCONNECT, 0x94 if alias or broker.embedded else 0x81)


async def test_an_alias_that_was_not_set_is_refused(broker: Running) -> None:
    """[MQTT-3.3.2-7]: aliases do not outlive the connection."""
    async with raw(broker.port, "p", session_expiry=60) as publisher:
        await publisher.publish("a", b"1", topic_alias=1)
    async with raw(broker.port, "p", clean=False) as publisher:
        publisher.send(publish_packet("", b"x", topic_alias=1))
        last = await publisher.closed()
        assert last is not None
        assert last.reason in (0x82, 0x94)


async def test_the_broker_uses_no_more_aliases_than_a_client_takes(broker: Running) -> None:
    """[MQTT-3.1.2-26, MQTT-3.1.2-27]: a topic is never lost behind an alias; Mosquitto 2.0.11 uses none."""
    async with raw(broker.port, "s", topic_alias_maximum=2) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a", "b", "c")
        known: dict[int, str] = {}
        for topic in ("a", "b", "c") * 3:
            await publisher.publish(topic, topic.encode())
            found = await subscriber.message()
            alias = found.properties.get("topic_alias", 0)
            assert alias <= 2
            if alias and found.topic:
                known[alias] = found.topic
            assert (found.topic or known[alias]) == topic == found.payload.decode()
        assert len(known) == (2 if broker.embedded else 0)


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_message_too_large_for_a_client_is_not_sent_to_it(broker: Running) -> None:
    """[MQTT-3.1.2-24, MQTT-3.1.2-25]: and the next one is."""
    async with raw(broker.port, "s", maximum_packet=100) as subscriber, raw(broker.port, "p") as publisher:
        await subscriber.subscribe("a")
        for qos in (0, 1, 2):
            await publisher.publish("a", b"x" * 200, qos=qos)
        await publisher.publish("a", b"fits")
        assert (await subscriber.message()).payload == b"fits"
        await subscriber.quiet()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000, 1_000_000])
async def test_payloads_of_any_size_come_whole(broker: Running, size: int) -> None:
    """2.1.4: lengths of one to three bytes"""
    payload = bytes(index % 251 for index in range(size))
    async with raw(broker.port, "c") as client:
        await client.subscribe("a")
        client.send(publish_packet("a", payload, qos=0))
        assert (await client.message(seconds=10)).payload == payload


@pytest.mark.parametrize("bad", ["a/b#", "a/#/b", "a+", "+a/b", "", "$share//a", "$share/+/a", "$share/x", "$share/x/"])
async def test_a_wrong_filter_is_refused(broker: Running, bad: str) -> None:
    """[MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.8.2-1, MQTT-4.8.2-2], 4.7.3

    Ours says 0x8F and goes on; Mosquitto ends the connection, and takes any `$share`.
    """
    async with raw(broker.port, "s") as subscriber:
        subscriber.send(subscribe_packet((bad, 1), packet_id=3))
        if broker.embedded:
            assert (await subscriber.receive(SUBACK)).reasons == (0x8F,)
        elif bad.startswith("$share"):
            assert (await subscriber.receive(SUBACK)).reasons == (1,)
        else:
            last = await subscriber.closed()
            assert last is not None
            assert last.reason == 0x81
