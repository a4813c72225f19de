"""A reader that is cancelled in the turn in which a message arrives."""

import asyncio

import pytest

from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.publication import Filter, Publication


async def test_a_message_in_the_turn_of_a_cancel_ends_the_reader_cleanly_and_waits_for_the_next():
    """What raced: `put` threw the cancelled sleeper away before the sleeper's own clean-up looked for itself."""
    async with (
        MemoryTransport(MemoryHub(), client_id="one") as transport,
        transport.subscribe(Filter(topic_filter="a")) as inbox,
    ):
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(anext(inbox), name="reader")
            await asyncio.sleep(0)  # it sleeps now
            reader.cancel()
            await transport.publish(Publication(topic="a", payload=b"1"))
        assert reader.cancelled()
        async with asyncio.timeout(5):
            assert (await anext(inbox)).publication.payload == b"1"


async def test_a_reader_gets_what_arrived_before_it_read():
    async with (
        MemoryTransport(MemoryHub(), client_id="one") as transport,
        transport.subscribe(Filter(topic_filter="a")) as inbox,
    ):
        await transport.publish(Publication(topic="a", payload=b"1"))
        delivery = await anext(inbox)
        await delivery.acknowledge()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(inbox)
