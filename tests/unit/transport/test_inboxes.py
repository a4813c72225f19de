"""The demultiplexer, its inboxes and the packets they hold."""

import asyncio

import pytest

from foa.errors import BrokerUnreachable
from foa.transport.demux import Demultiplexer
from foa.transport.inbox import Inbox, Packet
from foa.values.publication import Filter, Publication


class Counted(Packet):
    """A packet that counts its acknowledgements."""

    acknowledged = 0

    def acknowledge(self) -> None:
        self.acknowledged += 1


def message(topic: str = "x", payload: bytes = b"") -> Publication:
    return Publication(topic=topic, payload=payload)


def wanted(*topic_filters: str, no_local: bool = False) -> tuple[Filter, ...]:
    return tuple(Filter(topic_filter=text, no_local=no_local) for text in topic_filters)


async def test_overlapping_filters_of_one_inbox_get_a_packet_once() -> None:
    demux = Demultiplexer()
    inbox = demux.open(wanted("x/1", "x/+", "#", "$share/g/x/1"), capacity=8)
    packet = Counted(message("x/1"))
    demux.deliver(packet.publication, packet)
    await (await anext(inbox)).acknowledge()
    assert packet.acknowledged == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(inbox)


async def test_a_packet_is_acknowledged_by_its_last_holder() -> None:
    demux = Demultiplexer()
    one, two = demux.open(wanted("x"), capacity=8), demux.open(wanted("+"), capacity=8)
    packet = Counted(message())
    demux.deliver(packet.publication, packet)
    first = await anext(one)
    await first.acknowledge()
    await first.acknowledge()
    assert packet.acknowledged == 0
    await (await anext(two)).acknowledge()
    assert packet.acknowledged == 1


async def test_identical_filters_are_unsubscribed_with_the_last_inbox() -> None:
    demux = Demultiplexer()
    one, two = demux.open(wanted("x", "y"), capacity=8), demux.open(wanted("x"), capacity=8)
    assert demux.close(one) == ["y"]
    assert demux.close(two) == ["x"]


async def test_the_highest_qos_is_asked_for() -> None:
    demux = Demultiplexer()
    demux.open((Filter(topic_filter="x", qos=0),), capacity=8)
    demux.open((Filter(topic_filter="x", qos=1),), capacity=8)
    assert [found.qos for found in demux.all_wanted()] == [1]


async def test_one_filter_with_two_no_local_options_is_misuse() -> None:
    demux = Demultiplexer()
    demux.open(wanted("x"), capacity=8)
    with pytest.raises(ValueError, match="no_local"):
        demux.open(wanted("x", no_local=True), capacity=8)


async def test_what_nobody_claims_in_its_time_is_acknowledged_and_counted() -> None:
    demux = Demultiplexer(unclaimed_seconds=0.0)
    packet = Counted(message())
    demux.deliver(packet.publication, packet)
    assert demux.unclaimed.is_set()
    assert demux.sweep() == []
    assert (packet.acknowledged, demux.strangers) == (1, 1)
    assert demux.seconds_to_sweep() is None


async def test_what_an_inbox_leaves_unacknowledged_goes_to_the_next_that_asks() -> None:
    demux = Demultiplexer()
    inbox = demux.open(wanted("x"), capacity=8)
    packets = [Counted(message(payload=b"%d" % number)) for number in range(3)]
    for packet in packets:
        demux.deliver(packet.publication, packet)
    await (await anext(inbox)).acknowledge()
    read = await anext(inbox)
    demux.close(inbox)
    other = demux.open(wanted("other"), capacity=8)
    again = demux.open(wanted("+"), capacity=8)
    assert [(await anext(again)).publication.payload for _ in range(2)] == [b"1", b"2"]
    await read.acknowledge()  # the first reader may still finish
    assert packets[1].acknowledged == 0  # the new one holds it too
    demux.close(other)


async def test_a_qos_0_message_that_nobody_wants_is_counted() -> None:
    demux = Demultiplexer()
    demux.deliver(message(), None)
    assert demux.strangers == 1


async def test_a_slow_reader_loses_the_oldest_of_qos_0_and_none_of_qos_1() -> None:
    inbox = Inbox(wanted("x"), capacity=2)
    for number in range(1_000):
        packet = Counted(message()) if number % 100 == 0 else None
        inbox.put(message(payload=b"%d" % number), packet)
    kept = [b"%d" % number for number in range(0, 1_000, 100)] + [b"998", b"999"]
    assert [(await anext(inbox)).publication.payload for _ in kept] == kept
    assert inbox.dropped == 988  # 1,000 less 10 of QoS 1 less the 2 that fit


async def test_several_readers_share_an_inbox() -> None:
    inbox = Inbox(wanted("x"), capacity=8)
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(anext(inbox), name=f"reader[{number}]") for number in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            inbox.put(message(payload=b"%d" % number), None)
    assert sorted(reader.result().publication.payload for reader in readers) == [b"0", b"1", b"2"]


async def test_a_reader_cancelled_as_it_is_woken_passes_the_message_on() -> None:
    inbox = Inbox(wanted("x"), capacity=8)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(anext(inbox), name="first")
        second = group.create_task(anext(inbox), name="second")
        await asyncio.sleep(0)
        inbox.put(message(payload=b"1"), None)  # wakes the first
        first.cancel()
        assert (await second).publication.payload == b"1"


async def test_a_full_inbox_lets_others_run() -> None:
    inbox = Inbox(wanted("x"), capacity=10_000)
    for _ in range(1_000):
        inbox.put(message(), None)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        runs = group.create_task(other(), name="other")
        for _ in range(1_000):
            await anext(inbox)
        runs.cancel()
    assert turns >= 10


async def test_what_waits_is_still_read_after_the_session_failed() -> None:
    demux = Demultiplexer()
    inbox = demux.open(wanted("x"), capacity=8)
    demux.deliver(message(payload=b"1"), None)
    demux.fail(BrokerUnreachable("gone"))
    assert (await anext(inbox)).publication.payload == b"1"
    for waiting in (inbox, demux.open(wanted("y"), capacity=8)):
        with pytest.raises(BrokerUnreachable, match="gone"):
            await anext(waiting)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_is_at_least_one(capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Inbox(wanted("x"), capacity=capacity)


async def test_subscribing_to_nothing_is_misuse() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Demultiplexer().open((), capacity=8)
