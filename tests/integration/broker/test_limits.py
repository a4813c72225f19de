"""Bounds: whatever clients do, the broker holds no more than it was told, and serves the others."""

import asyncio
import socket

import pytest
from tests.rawmqtt import CONNACK, PUBACK, PUBLISH, Raw, acknowledge_packet, connect_packet, publish_packet, raw

from foa.broker import Broker, BrokerConfig, BrokerLimits

KIB = 1_024


def limited(**limits: float) -> Broker:
    """A broker with these limits."""
    return Broker(BrokerConfig(port=0, limits=BrokerLimits(**limits)))  # pyright: ignore[reportArgumentType]


async def deaf(port: int, client_id: str, **options: int) -> tuple[socket.socket, Raw]:
    """A subscriber to `a` that stops reading: a socket with a small buffer, and its first words."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KIB)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4 * KIB)
    client = Raw(reader, writer)
    await client.connect(client_id, **options)
    return sock, client


async def test_a_slow_qos_0_consumer_loses_messages_and_costs_a_bounded_buffer() -> None:
    async with limited(write_bytes=64 * KIB) as broker:
        assert broker.port is not None
        _, slow = await deaf(broker.port, "slow")
        await slow.subscribe(("a", 0))
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with raw(broker.port, "fast") as fast, raw(broker.port, "p") as publisher:
            await fast.subscribe(("a", 0))
            for _ in range(200):
                await publisher.publish("a", b"x" * 50 * KIB, qos=0)
                assert len((await fast.message()).payload) == 50 * KIB
            (link,) = [link for link in broker.links if link.session is not None and link.session.client_id == "slow"]
            assert link.unsent_bytes <= (64 + 51) * KIB
            assert broker.hub.budget.dropped > 50
        slow.cut()


async def test_a_slow_qos_1_consumer_is_sent_everything_that_fits_its_queue() -> None:
    async with limited(write_bytes=64 * KIB) as broker:
        assert broker.port is not None
        _, slow = await deaf(broker.port, "slow")
        await slow.subscribe(("a", 1))
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with raw(broker.port, "p") as publisher:
            for number in range(300):
                answer = await publisher.publish("a", str(number).encode() + b"x" * 20 * KIB)
                assert answer is not None
                assert answer.reason == 0
            (link,) = [link for link in broker.links if link.session is not None and link.session.client_id == "slow"]
            assert link.unsent_bytes <= (64 + 21) * KIB
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for number in range(300):
            assert (await slow.message()).payload.startswith(str(number).encode() + b"x")
        slow.cut()


async def test_a_full_queue_refuses_and_says_so() -> None:
    """3.4.2.1, 0x97: when nobody could take the message; what was acknowledged with success is all delivered."""
    async with limited(session_queue_bytes=10 * KIB) as broker:
        assert broker.port is not None
        async with raw(broker.port, "s", session_expiry=60) as subscriber:
            await subscriber.subscribe(("a", 1))
            await subscriber.leave()
        async with raw(broker.port, "p") as publisher:
            reasons = []
            for _ in range(20):
                answer = await publisher.publish("a", b"x" * KIB)
                assert answer is not None
                reasons.append(answer.reason)
        taken = reasons.count(0)
        assert reasons == [0] * taken + [0x97] * (20 - taken)
        assert taken == 7  # 10 240 // 1 281: topic 1, payload 1 024, overhead 256
        async with raw(broker.port, "s", clean=False) as subscriber:
            await subscriber.messages(taken)
            await subscriber.quiet()


async def test_all_queues_together_are_bounded() -> None:
    async with limited(queue_bytes=10 * KIB) as broker:
        assert broker.port is not None
        for name in ("one", "two", "three"):
            async with raw(broker.port, name, session_expiry=60) as subscriber:
                await subscriber.subscribe((name, 1))
                await subscriber.leave()
        async with raw(broker.port, "p") as publisher:
            for name in ("one", "two", "three") * 10:
                await publisher.publish(name, b"x" * KIB)
        assert sum(session.queue_bytes for session in broker.hub.sessions.values()) <= 10 * KIB
        async with raw(broker.port, "one") as client:
            await client.quiet()
        assert broker.hub.budget.left > 0


async def test_retained_messages_are_bounded() -> None:
    async with limited(retained_bytes=10 * KIB, statistics_seconds=0) as broker:
        assert broker.port is not None
        async with raw(broker.port, "p") as publisher:
            reasons = []
            for number in range(20):
                answer = await publisher.publish(f"r/{number}", b"x" * KIB, retain=True)
                assert answer is not None
                reasons.append(answer.reason)
            assert reasons.count(0x97) == 13  # 10 240 // 1 284 are 7
            assert broker.hub.retained.bytes <= 10 * KIB
            answer = await publisher.publish("r/0", b"y" * KIB, retain=True)
            assert answer is not None
            assert answer.reason != 0x97


async def test_one_connection_too_many_is_told() -> None:
    """3.2.2.2, 0x97"""
    async with limited(connections=2) as broker:
        assert broker.port is not None
        async with raw(broker.port, "one"), raw(broker.port, "two") as two:
            async with raw(broker.port) as three:
                assert (await three.connect("three")).reason == 0x97
            async with raw(broker.port) as again:
                assert (await again.connect("two")).reason == 0  # it takes its own place
            assert await two.closed() is not None
            async with raw(broker.port) as three:
                assert (await three.connect("three")).reason == 0


async def test_a_session_may_not_have_any_number_of_subscriptions() -> None:
    """3.9.3, 0x97"""
    async with limited(subscriptions=2) as broker:
        assert broker.port is not None
        async with raw(broker.port, "c") as client:
            assert (await client.subscribe("a", "b", "c", "a")).reasons == (2, 2, 0x97, 2)


async def test_who_says_nothing_is_cut() -> None:
    async with limited(connect_seconds=0.5) as broker:
        assert broker.port is not None
        async with raw(broker.port) as client:
            assert await client.closed() is None


async def test_a_connect_may_not_be_huge() -> None:
    """Before a password nobody makes the broker hold megabytes."""
    async with limited() as broker:
        assert broker.port is not None
        async with raw(broker.port) as client:
            client.send(b"\x10\x80\x80\x80\x01")  # announces 2 MiB
            answer = await client.receive(CONNACK)
            assert answer.reason == 0x95


async def test_a_client_that_sends_and_never_reads_is_not_read_either() -> None:
    """Its answers would pile up."""
    async with limited(write_bytes=16 * KIB) as broker:
        assert broker.port is not None
        _, rude = await deaf(broker.port, "rude")
        rude.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pings = b"\xc0\x00" * 50_000
        async with raw(broker.port, "kind") as kind:
            for _ in range(40):
                rude.send(pings)
                await kind.quiet()
            (link,) = [link for link in broker.links if link.session is not None and link.session.client_id == "rude"]
            assert link.unsent_bytes < 2_000 * KIB
        rude.cut()


@pytest.mark.parametrize("qos", [0, 1])
async def test_many_retained_messages_come_to_a_late_joiner_whatever_its_buffer(qos: int) -> None:
    """None is lost though they are far more than its buffer takes at once."""
    async with limited(write_bytes=32 * KIB, statistics_seconds=0) as broker:
        assert broker.port is not None
        async with raw(broker.port, "p") as publisher:
            publisher.send(
                *(publish_packet(f"r/{n}", b"x" * KIB, qos=1, retain=True, packet_id=1 + n % 1_000) for n in range(1_000))
            )
            for _ in range(1_000):
                await publisher.receive(PUBACK)
        async with raw(broker.port, "s") as subscriber:
            await subscriber.subscribe(("r/#", qos))
            seen = {found.topic for found in await subscriber.messages(1_000)}
            assert len(seen) == 1_000


async def test_hundreds_of_clients_at_once() -> None:
    async with limited() as broker:
        assert broker.port is not None
        port = broker.port
        clients: list[Raw] = []

        async def come(number: int) -> None:
            client = await Raw.open(port)
            clients.append(client)
            client.send(connect_packet(f"c{number}"))
            assert (await client.receive(CONNACK, seconds=20)).reason == 0
            await client.subscribe(("all", 1))

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(come(number), name=f"come[{number}]")
        async with raw(port, "p") as publisher:
            await publisher.publish("all", b"x")
        for client in clients:
            found = await client.receive(PUBLISH)
            client.send(acknowledge_packet(PUBACK, found.packet_id))
            client.cut()


async def test_the_same_client_over_and_over_leaves_nothing() -> None:
    async with limited() as broker:
        assert broker.port is not None
        for _ in range(100):
            async with raw(broker.port, "c") as client:
                await client.subscribe("a/+", "$share/x/b")
        async with raw(broker.port, "last") as client:
            await client.quiet()
            assert set(broker.hub.sessions) == {"last"}
            assert broker.hub.router.count == 0
            assert broker.hub.budget.left == broker.config.limits.queue_bytes
