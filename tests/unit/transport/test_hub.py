"""What the in-memory hub keeps to that the contract cannot see on every broker."""

import asyncio

import pytest

from foa.errors import BrokerUnreachable, PublishRefused
from foa.transport.hub import MAX_QUEUED
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.publication import Filter, Publication


async def test_whoever_is_pushed_out_by_the_same_client_id_is_told() -> None:
    hub = MemoryHub()
    async with (
        MemoryTransport(hub, client_id="a") as old,
        old.subscribe(Filter(topic_filter="x")) as inbox,
        MemoryTransport(hub, client_id="a"),
    ):
        with pytest.raises(BrokerUnreachable, match="took over"):
            await anext(inbox)
        with pytest.raises(BrokerUnreachable, match="took over"):
            await old.publish(Publication(topic="x", payload=b""))
        with pytest.raises(BrokerUnreachable, match="took over"):
            await old.connected()


async def test_overlapping_filters_of_two_inboxes_deliver_once_to_each() -> None:
    async with (
        MemoryTransport(MemoryHub(), client_id="a") as a,
        a.subscribe(Filter(topic_filter="x/1")) as one,
        a.subscribe(Filter(topic_filter="x/#"), Filter(topic_filter="+/1")) as two,
    ):
        for payload in (b"1", b"2"):
            await a.publish(Publication(topic="x/1", payload=payload))
        for inbox in (one, two):
            assert [(await anext(inbox)).publication.payload for _ in range(2)] == [b"1", b"2"]


async def test_a_session_ends_with_its_expiry_interval() -> None:
    now = 0.0
    hub = MemoryHub(monotonic=lambda: now)

    async def away(seconds: float) -> bool:
        """Whether what came meanwhile was kept."""
        nonlocal now
        async with (
            MemoryTransport(hub, client_id="a", session_expiry_interval=60) as gone,
            gone.subscribe(Filter(topic_filter="x")),
        ):
            gone.cut()
        async with MemoryTransport(hub, client_id="b") as b:
            await b.publish(Publication(topic="x", payload=b"kept"))
        now += seconds
        async with (
            MemoryTransport(hub, client_id="a", session_expiry_interval=0) as a,
            a.subscribe(Filter(topic_filter="x")) as inbox,
        ):
            await a.publish(Publication(topic="x", payload=b"new"))
            return (await anext(inbox)).publication.payload == b"kept"

    assert await away(59)
    assert not await away(60)


async def test_a_retained_message_expires() -> None:
    now = 0.0
    async with MemoryTransport(MemoryHub(monotonic=lambda: now), client_id="a") as a:
        await a.publish(Publication(topic="x", payload=b"1", retain=True, message_expiry_interval=10))
        now = 4.0
        async with a.subscribe(Filter(topic_filter="x")) as inbox:
            delivery = await anext(inbox)
            await delivery.acknowledge()
            assert delivery.publication.message_expiry_interval == 6
        now = 10.0
        async with a.subscribe(Filter(topic_filter="+")) as inbox:
            await a.publish(Publication(topic="y", payload=b"2"))
            assert (await anext(inbox)).publication.payload == b"2"


async def test_a_shared_message_goes_to_a_member_that_is_there() -> None:
    hub = MemoryHub()
    shared = Filter(topic_filter="$share/g/x")
    async with (
        MemoryTransport(hub, client_id="a") as a,
        MemoryTransport(hub, client_id="b") as b,
        a.subscribe(shared) as inbox,
        b.subscribe(shared),
    ):
        b.cut()
        for number in range(10):
            await a.publish(Publication(topic="x", payload=b"%d" % number))
            assert (await anext(inbox)).publication.payload == b"%d" % number


async def test_a_queue_of_an_absent_session_is_bounded() -> None:
    hub = MemoryHub()
    async with (
        MemoryTransport(hub, client_id="a") as a,
        MemoryTransport(hub, client_id="b") as b,
        b.subscribe(Filter(topic_filter="x")) as inbox,
    ):
        b.cut()
        for number in range(MAX_QUEUED + 1):
            await a.publish(Publication(topic="x", payload=b"%d" % number))
        b.restore()
        assert (await anext(inbox)).publication.payload == b"1"  # the oldest went


async def test_a_loop_of_publishes_lets_readers_run() -> None:
    async with MemoryTransport(MemoryHub(), client_id="a") as a, a.subscribe(Filter(topic_filter="x")) as inbox:
        read = 0

        async def count() -> None:
            nonlocal read
            async for delivery in inbox:
                await delivery.acknowledge()
                read += 1

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(count(), name="count")
            for _ in range(1_000):
                await a.publish(Publication(topic="x", payload=b""))
            assert read > 500
            reader.cancel()


async def test_a_will_is_checked_before_it_is_left_behind() -> None:
    with pytest.raises(PublishRefused):
        MemoryTransport(MemoryHub(), client_id="a", will=Publication(topic="gone/+", payload=b""))


async def test_a_crash_inside_the_block_speaks_the_will_and_a_cancellation_does_not() -> None:
    hub = MemoryHub()
    will = Publication(topic="gone", payload=b"will")
    async with MemoryTransport(hub, client_id="a") as a, a.subscribe(Filter(topic_filter="gone")) as inbox:
        with pytest.raises(KeyError):
            async with MemoryTransport(hub, client_id="b", will=will):
                raise KeyError
        assert (await anext(inbox)).publication == will
        with pytest.raises(asyncio.CancelledError):
            async with MemoryTransport(hub, client_id="b", will=will):
                raise asyncio.CancelledError
        await a.publish(Publication(topic="gone", payload=b"marker"))
        assert (await anext(inbox)).publication.payload == b"marker"
