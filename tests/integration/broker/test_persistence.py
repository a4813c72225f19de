"""What outlives the broker: sessions, queues, exchanges and retained messages, over a clean stop and over SIGKILL."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.brokers import Mosquitto
from tests.integration.broker.process import broker_process
from tests.rawmqtt import (
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    Will,
    acknowledge_packet,
    publish_packet,
    raw,
)

from foa.broker import Broker, BrokerConfig, BrokerLimits
from foa.broker.store import FILE
from foa.errors import BadInput

DURABLE = {"clean": False, "session_expiry": 600}


async def fill(port: int) -> None:
    """A durable subscriber with a queue, one message in flight, and retained messages."""
    async with raw(port, "s", **DURABLE, receive_maximum=1) as subscriber, raw(port, "p") as publisher:
        await subscriber.subscribe(("q/#", 2), subscription_identifier=3)
        await publisher.publish("q/1", b"1", user=[("a", "1"), ("b", "2")])
        assert (await subscriber.receive(PUBLISH)).packet_id == 1
        await publisher.publish("q/2", b"2", qos=2, message_expiry=600)
        await publisher.publish("q/3", b"3")
        await publisher.publish("r/kept", b"kept", retain=True)
        await publisher.publish("r/gone", b"gone", retain=True)
        await publisher.publish("r/gone", b"", retain=True)
        await publisher.publish("r/short", b"short", retain=True, message_expiry=600)


async def check(port: int) -> None:
    """All of it is there, in order."""
    async with raw(port) as subscriber:
        assert (await subscriber.connect("s", **DURABLE)).session_present
        first, second, third = await subscriber.messages(3)
        assert (first.payload, first.packet_id, first.dup) == (b"1", 1, True)
        assert first.properties == {"user": [("a", "1"), ("b", "2")], "subscription_identifier": [3]}
        assert (second.payload, second.qos) == (b"2", 2)
        assert 500 < second.properties["message_expiry"] <= 600
        assert third.payload == b"3"
        await subscriber.quiet()
    async with raw(port, "late") as late:
        await late.subscribe("r/#")
        assert {found.topic for found in await late.messages(2)} == {"r/kept", "r/short"}
        await late.quiet()


async def test_everything_durable_survives_sigkill(tmp_path: Path) -> None:
    async with broker_process(tmp_path) as broker:
        await fill(broker.port)
        await broker.kill()
    async with broker_process(tmp_path) as broker:
        await check(broker.port)


async def test_everything_durable_survives_a_clean_stop(tmp_path: Path) -> None:
    async with Broker(BrokerConfig(port=0, data_dir=tmp_path)) as broker:
        assert broker.port is not None
        await fill(broker.port)
    async with Broker(BrokerConfig(port=0, data_dir=tmp_path)) as broker:
        assert broker.port is not None
        await check(broker.port)


async def test_mosquitto_keeps_the_same_over_a_restart(tmp_path: Path) -> None:
    """The referee for the two above."""
    broker = Mosquitto(tmp_path)
    await broker.start()
    await fill(broker.port)
    await broker.stop()
    await broker.start()
    try:
        async with raw(broker.port) as subscriber:
            assert (await subscriber.connect("s", **DURABLE)).session_present
            assert [found.payload for found in await subscriber.messages(3)] == [b"1", b"2", b"3"]
    finally:
        await broker.stop()


async def test_no_acknowledged_message_is_lost_when_the_broker_is_killed_at_any_moment(tmp_path: Path) -> None:
    """A stream is cut by SIGKILL; whatever had its PUBACK is delivered after the restart."""
    acknowledged = 0
    async with broker_process(tmp_path) as broker:
        async with raw(broker.port, "s", **DURABLE) as subscriber:
            await subscriber.subscribe(("q", 1))
            await subscriber.leave()
        async with raw(broker.port, "p") as publisher:
            publisher.send(*(publish_packet("q", str(n).encode(), qos=1, packet_id=n) for n in range(1, 20_001)))
            while acknowledged < 3_000:
                acknowledged = (await publisher.receive(PUBACK)).packet_id
            broker.process.kill()
            last = None
            while acknowledged < 20_000:
                try:
                    last = await publisher.receive(PUBACK)
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                acknowledged = last.packet_id
            await broker.kill()
    async with broker_process(tmp_path) as broker, raw(broker.port, "s", **DURABLE) as subscriber:
        found = [int((await subscriber.message()).payload) for _ in range(acknowledged)]
        assert found == list(range(1, acknowledged + 1))


async def test_qos_2_exchanges_survive_sigkill_on_both_sides(tmp_path: Path) -> None:
    """What was received and not released is not delivered again; what was sent goes on at PUBREL."""
    async with broker_process(tmp_path) as broker:
        async with raw(broker.port, "s", **DURABLE) as subscriber, raw(broker.port, "p", **DURABLE) as publisher:
            await subscriber.subscribe(("q", 2))
            publisher.send(publish_packet("q", b"1", qos=2, packet_id=9))
            await publisher.receive(PUBREC)
            first = await subscriber.receive(PUBLISH)
            subscriber.send(acknowledge_packet(PUBREC, first.packet_id))
            await subscriber.receive(PUBREL)
        await broker.kill()
    async with (
        broker_process(tmp_path) as broker,
        raw(broker.port, "s", **DURABLE) as subscriber,
        raw(broker.port, "p", **DURABLE) as publisher,
    ):
        assert (await subscriber.receive(PUBREL)).packet_id == first.packet_id
        subscriber.send(acknowledge_packet(PUBCOMP, first.packet_id))
        publisher.send(publish_packet("q", b"1", qos=2, packet_id=9, dup=True))
        assert (await publisher.receive(PUBREC)).packet_id == 9
        publisher.send(acknowledge_packet(PUBREL, 9))
        assert (await publisher.receive(PUBCOMP)).reason == 0
        await subscriber.quiet()


async def test_what_was_acknowledged_does_not_come_back(tmp_path: Path) -> None:
    async with broker_process(tmp_path) as broker:
        async with raw(broker.port, "s", **DURABLE) as subscriber:
            await subscriber.subscribe(("q", 1))
            for _ in range(3):
                await subscriber.publish("q", b"x", qos=0)
            await subscriber.publish("q", b"y", qos=0)
            await subscriber.messages(4)
            await subscriber.quiet()
        await broker.kill()
    async with broker_process(tmp_path) as broker, raw(broker.port, "s", **DURABLE) as subscriber:
        await subscriber.quiet()


async def test_a_shared_message_finds_another_member_after_a_restart(tmp_path: Path) -> None:
    async with broker_process(tmp_path) as broker:
        async with raw(broker.port, "one", **DURABLE) as one:
            await one.subscribe(("$share/x/q", 1))
            await one.leave()
        async with raw(broker.port, "p") as publisher:
            await publisher.publish("q", b"1")
        await broker.kill()
    async with broker_process(tmp_path) as broker, raw(broker.port, "two") as two:
        await two.subscribe(("$share/x/q", 1))
        assert (await two.message()).payload == b"1"


async def test_a_short_session_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Broker(BrokerConfig(port=0, data_dir=tmp_path, limits=BrokerLimits(statistics_seconds=0))) as broker:
        assert broker.port is not None
        async with raw(broker.port, "s", session_expiry=600) as subscriber, raw(broker.port, "p") as publisher:
            await subscriber.subscribe("q/#")
            await subscriber.leave()
            await publisher.publish("q", b"x")
        async with raw(broker.port, "s", clean=True) as subscriber:
            await subscriber.leave()
    with sqlite3.connect(tmp_path / FILE) as file:
        tables = ("session", "subscription", "message", "outgoing", "received", "retained")
        counts = {table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    file.close()
    assert counts == dict.fromkeys(tables, 0)


async def test_a_session_that_expired_while_the_broker_was_down_is_gone(tmp_path: Path) -> None:
    now = [1_000.0]
    config = BrokerConfig(port=0, data_dir=tmp_path)
    async with Broker(config, wall=lambda: now[0]) as broker:
        assert broker.port is not None
        async with (
            raw(broker.port, "short", session_expiry=60) as one,
            raw(broker.port, "long", session_expiry=6_000) as two,
        ):
            await one.subscribe("a")
            await two.subscribe("a")
            await one.leave()
            await two.leave()
    now[0] += 100
    async with Broker(config, wall=lambda: now[0]) as broker:
        assert broker.port is not None
        for client_id, present in (("short", False), ("long", True)):
            async with raw(broker.port) as client:
                assert (await client.connect(client_id, clean=False)).session_present is present


async def test_the_broker_says_goodbye_and_a_restart_declares_nobody_lost(tmp_path: Path) -> None:
    """3.14.2.1, 0x8B; 3.1.2.5 lets a server defer wills until its restart: clients get time to come back."""
    config = BrokerConfig(port=0, data_dir=tmp_path)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(config))
        assert broker.port is not None
        async with raw(broker.port, "watch", **DURABLE) as watcher:
            await watcher.subscribe("will")
            await watcher.leave()
        async with raw(broker.port, "c", **DURABLE, will=Will(topic="will")) as client:
            await client.quiet()
            await stack.aclose()
            last = await client.closed()
            assert last is not None
            assert (last.kind, last.reason) == (DISCONNECT, 0x8B)
    async with Broker(config) as broker:
        assert broker.port is not None
        async with raw(broker.port, "c", **DURABLE) as client, raw(broker.port, "watch", **DURABLE) as watcher:
            await client.quiet()
            await watcher.quiet()


async def test_sigterm_stops_it_with_success(tmp_path: Path) -> None:
    async with broker_process(tmp_path) as broker, raw(broker.port, "c") as client:
        await client.quiet()
        assert await broker.stop() == 0
        last = await client.closed()
        assert last is not None
        assert last.reason == 0x8B


async def test_two_brokers_may_not_share_a_directory(tmp_path: Path) -> None:
    async with broker_process(tmp_path):
        with pytest.raises(BadInput, match="the broker cannot use"):
            await Broker(BrokerConfig(port=0, data_dir=tmp_path)).__aenter__()


async def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    """One row that belongs to nothing, and the user is told what to do."""
    async with Broker(BrokerConfig(port=0, data_dir=tmp_path)):
        pass
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("INSERT INTO outgoing VALUES (1, 99, 99, 2, x'', 0, NULL)")
    file.close()
    with pytest.raises(BadInput, match=r"damaged.*move the directory away"):
        await Broker(BrokerConfig(port=0, data_dir=tmp_path)).__aenter__()


async def test_a_file_that_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(BadInput, match="Name another data directory"):
        await Broker(BrokerConfig(port=0, data_dir=tmp_path)).__aenter__()
