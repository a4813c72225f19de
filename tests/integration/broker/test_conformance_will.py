"""Wills, from the OASIS MQTT v5 specification (3.1.2.5, 3.1.3.2, 3.14.4)."""

import asyncio

import pytest
from tests.integration.broker.conftest import Running
from tests.rawmqtt import Will, properties, raw


async def test_a_lost_client_leaves_its_will(broker: Running) -> None:
    """[MQTT-3.1.2-7, MQTT-3.1.2-8, MQTT-3.1.2-14]: topic, payload, QoS and properties as they were given."""
    told = properties(content_type="text/plain", user=[("b", "1"), ("a", "2")], message_expiry=100)
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", will=Will(topic="will", payload=b"gone", qos=1, properties=told)):
            await watcher.quiet()
        found = await watcher.message()
        assert (found.payload, found.qos, found.retain) == (b"gone", 1, False)
        assert found.properties["user"] == [("b", "1"), ("a", "2")]
        assert found.properties["content_type"] == "text/plain"
        assert 98 <= found.properties["message_expiry"] <= 100


async def test_a_client_that_says_goodbye_leaves_none(broker: Running) -> None:
    """[MQTT-3.1.2-10, MQTT-3.14.4-3]"""
    async with raw(broker.port, "watch") as watcher, raw(broker.port, "c", will=Will(topic="will")) as client:
        await watcher.subscribe("will")
        await client.leave()
        await watcher.quiet()


async def test_a_client_may_ask_for_its_will(broker: Running) -> None:
    """3.14.2.1: reason 0x04, disconnect with will message"""
    async with raw(broker.port, "watch") as watcher, raw(broker.port, "c", will=Will(topic="will")) as client:
        await watcher.subscribe("will")
        client.disconnect(0x04)
        assert (await watcher.message()).payload == b"gone"


async def test_a_will_is_sent_when_the_client_breaks_the_protocol(broker: Running) -> None:
    """3.1.2.5"""
    async with raw(broker.port, "watch") as watcher, raw(broker.port, "c", will=Will(topic="will")) as client:
        await watcher.subscribe("will")
        client.send(b"\x00\x00")
        assert (await watcher.message()).payload == b"gone"


async def test_a_will_is_sent_when_the_client_falls_silent(broker: Running) -> None:
    """[MQTT-3.1.2-22], 3.1.2.5"""
    async with raw(broker.port, "watch") as watcher, raw(broker.port, "c", keep_alive=1, will=Will(topic="will")):
        await watcher.subscribe("will")
        assert (await watcher.message(seconds=10)).payload == b"gone"


async def test_a_retained_will_is_kept(broker: Running) -> None:
    """[MQTT-3.1.2-15]"""
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", will=Will(topic="will", retain=True)):
            await watcher.quiet()
        await watcher.message()
        await watcher.subscribe("will")
        found = await watcher.message()
        assert (found.payload, found.retain) == (b"gone", True)


async def test_a_will_waits_for_its_delay(broker: Running) -> None:
    """3.1.3.2.2: and is sent though the session goes on."""
    will = Will(topic="will", properties=properties(will_delay=1))
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", session_expiry=60, will=will) as client:
            await client.quiet()
        began = asyncio.get_running_loop().time()
        assert (await watcher.message(seconds=10)).payload == b"gone"
        assert asyncio.get_running_loop().time() - began >= 0.9 or not broker.embedded  # Mosquitto counts whole seconds


async def test_a_client_that_comes_back_in_time_leaves_none(broker: Running) -> None:
    """[MQTT-3.1.3-9]"""
    will = Will(topic="will", properties=properties(will_delay=1))
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", session_expiry=60, will=will) as client:
            await client.quiet()
        async with raw(broker.port, "c", clean=False, session_expiry=60) as client:
            await asyncio.sleep(2.5)  # time is what is tested
            await client.quiet()
            await watcher.quiet()


async def test_the_end_of_the_session_ends_the_delay(broker: Running) -> None:
    """3.1.3.2.2: whichever happens first; an expiry of 0 ends it at once. Mosquitto 2.0.11 waits for the delay."""
    will = Will(topic="will", properties=properties(will_delay=600))
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", session_expiry=0, will=will) as client:
            await client.quiet()
        if broker.embedded:
            assert (await watcher.message()).payload == b"gone"
        else:
            await watcher.quiet()


async def test_a_clean_start_ends_the_session_and_so_the_delay(broker: Running) -> None:
    """3.1.3.2.2; Mosquitto 2.0.11 drops this will."""
    will = Will(topic="will", properties=properties(will_delay=600))
    async with raw(broker.port, "watch") as watcher:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", session_expiry=60, will=will) as client:
            await client.quiet()
        async with raw(broker.port, "c", clean=True) as client:
            await client.quiet()
            if broker.embedded:
                assert (await watcher.message()).payload == b"gone"
            else:
                await watcher.quiet()


@pytest.mark.parametrize("delay", [0, 600])
async def test_a_takeover_is_a_loss_of_the_old_connection(broker: Running, delay: int) -> None:
    """3.1.4, [MQTT-3.1.3-9]: the will is sent, unless it has a delay: then the client is back in time.

    Mosquitto 2.0.11 never sends it.
    """
    will = Will(topic="will", properties=properties(will_delay=delay))
    async with raw(broker.port, "watch") as watcher, raw(broker.port, "c", session_expiry=60, will=will) as old:
        await watcher.subscribe("will")
        async with raw(broker.port, "c", clean=False, session_expiry=60) as new:
            await old.closed()
            await new.quiet()
            if not delay and broker.embedded:
                assert (await watcher.message()).payload == b"gone"
            await watcher.quiet()
