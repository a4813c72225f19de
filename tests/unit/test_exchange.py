"""Request and reply over the in-memory transport."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from foa.errors import BadMessage, BrokerUnreachable, BudgetExceeded, PublishRefused
from foa.exchange import KEY_PROPERTY, MAX_CORRELATION_BYTES, MAX_KEY, PART_PROPERTY, Exchange, answer, response_topic
from foa.ports import Delivery, Transport
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.publication import Filter, Publication


@pytest.fixture
async def asker() -> AsyncIterator[MemoryTransport]:
    async with MemoryTransport(MemoryHub(), client_id="asker") as transport:
        yield transport


@asynccontextmanager
async def listening(transport: Transport, topic: str) -> AsyncIterator[AsyncIterator[Delivery]]:
    async with transport.subscribe(Filter(topic_filter=topic)) as inbox:
        yield inbox


async def test_a_request_carries_what_the_other_end_needs(asker: MemoryTransport) -> None:
    trace = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("foa-budget-usd", "0.10"))
    async with (
        Exchange(asker, reply_topic="replies/a") as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(
            exchange.request("tasks/b", b"?", key="job/s1/draft", seconds=2.5, user_properties=trace), name="ask"
        )
        request = await anext(inbox)
        await answer(asker, request, b"!", user_properties=trace[:1])
        reply = await asked
    sent = request.publication
    assert sent.qos == 1
    assert sent.response_topic == "replies/a"
    assert sent.message_expiry_interval == 3  # 2.5 s, rounded up: MQTT counts whole seconds
    assert sent.user_properties == (*trace, (KEY_PROPERTY, "job/s1/draft"))
    assert reply.publication.payload == b"!"
    assert reply.publication.correlation_data == sent.correlation_data
    assert reply.publication.user_properties == trace[:1]


async def test_every_attempt_has_correlation_data_of_its_own(asker: MemoryTransport) -> None:
    async with Exchange(asker, reply_topic="replies/a") as exchange, listening(asker, "tasks/b") as inbox:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await exchange.request("tasks/b", b"?", key="same", seconds=0.01)
        first, second = await anext(inbox), await anext(inbox)
        assert first.publication.correlation_data != second.publication.correlation_data


async def test_replies_are_given_to_their_own_request_in_any_order(asker: MemoryTransport) -> None:
    async with (
        Exchange(asker, reply_topic="replies/a") as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        asked = [
            group.create_task(exchange.request("tasks/b", b"%d" % n, key=f"k{n}", seconds=5), name=f"ask[{n}]")
            for n in range(20)
        ]
        for request in reversed([await anext(inbox) for _ in range(20)]):
            await answer(asker, request, request.publication.payload)
        replies = [await task for task in asked]
    assert [reply.publication.payload for reply in replies] == [b"%d" % n for n in range(20)]


async def test_a_reply_is_the_callers_to_acknowledge(asker: MemoryTransport) -> None:
    """Saved first, acknowledged then: a process that dies in between gets it again."""
    hub = MemoryHub()
    async with MemoryTransport(hub, client_id="agent") as agent, listening(agent, "tasks/b") as inbox:
        async with (
            MemoryTransport(hub, client_id="agent-0") as transport,
            Exchange(transport, reply_topic="replies/a") as exchange,
            asyncio.TaskGroup() as group,
        ):
            asked = group.create_task(exchange.request("tasks/b", b"?", key="k", seconds=5), name="ask")
            await answer(agent, await anext(inbox), b"!")
            await asked
            transport.cut()
        async with MemoryTransport(hub, client_id="agent-0") as transport, listening(transport, "replies/a") as replies:
            assert (await anext(replies)).publication.payload == b"!"


async def test_silence_ends_in_a_timeout_and_a_late_reply_is_dropped(asker: MemoryTransport) -> None:
    async with Exchange(asker, reply_topic="replies/a") as exchange, listening(asker, "tasks/b") as inbox:
        with pytest.raises(TimeoutError):
            await exchange.request("tasks/b", b"?", key="k", seconds=0.01)
        late = await anext(inbox)
        await answer(asker, late, b"late")
        await answer(asker, late, b"twice")
        async with asyncio.TaskGroup() as group:  # the next request works as ever
            asked = group.create_task(exchange.request("tasks/b", b"?", key="k", seconds=5), name="ask")
            await answer(asker, await anext(inbox), b"!")
            assert (await asked).publication.payload == b"!"
        assert exchange.strangers == 2


async def test_replies_that_nobody_asked_for_are_counted_and_acknowledged(asker: MemoryTransport) -> None:
    async with Exchange(asker, reply_topic="replies/a") as exchange:
        await asyncio.sleep(0)  # the reader waits
        await asker.publish(Publication(topic="replies/a", payload=b"", correlation_data=b"guessed"))
        await asker.publish(Publication(topic="replies/a", payload=b""))
        await asyncio.sleep(0)  # the reader reads
        assert exchange.strangers == 2


async def test_a_cancelled_request_leaves_nothing_behind(asker: MemoryTransport) -> None:
    async with Exchange(asker, reply_topic="replies/a", at_once=1) as exchange, listening(asker, "tasks/b") as inbox:
        async with asyncio.TaskGroup() as group:
            given_up = group.create_task(exchange.request("tasks/b", b"1", key="k", seconds=5), name="given up")
            late = await anext(inbox)
            given_up.cancel()
        async with asyncio.TaskGroup() as group:  # its place is free
            asked = group.create_task(exchange.request("tasks/b", b"2", key="k", seconds=5), name="ask")
            await answer(asker, await anext(inbox), b"!")
            await asked
        await answer(asker, late, b"late")


async def test_a_reply_that_comes_as_its_request_is_cancelled_is_acknowledged() -> None:
    """The reply was handed over and the request cancelled in the same turn: nobody else would acknowledge it."""
    hub = MemoryHub()
    async with (
        MemoryTransport(hub, client_id="a", receive_maximum=1) as asker,
        MemoryTransport(hub, client_id="b") as agent,
        listening(agent, "tasks/b") as inbox,
        Exchange(asker, reply_topic="replies/a") as exchange,
        asyncio.TaskGroup() as group,
    ):
        given_up = group.create_task(exchange.request("tasks/b", b"1", key="k", seconds=5), name="given up")
        await answer(agent, await anext(inbox), b"!")
        await asyncio.sleep(0)  # the exchange's reader has handed it over; the request has not run yet
        given_up.cancel()
        asked = group.create_task(exchange.request("tasks/b", b"2", key="k", seconds=5), name="ask")
        await answer(agent, await anext(inbox), b"2")  # with a window of 1 it only comes if the first was acknowledged
        assert (await asked).publication.payload == b"2"


async def test_more_requests_than_places_wait_within_their_own_time(asker: MemoryTransport) -> None:
    async with (
        Exchange(asker, reply_topic="replies/a", at_once=1) as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(exchange.request("tasks/b", b"1", key="k", seconds=5), name="first")
        request = await anext(inbox)
        with pytest.raises(TimeoutError):
            await exchange.request("tasks/b", b"2", key="k", seconds=0.01)
        await answer(asker, request, b"!")
        await first


async def test_a_refused_request_says_so_at_once(asker: MemoryTransport) -> None:
    async with Exchange(asker, reply_topic="replies/a") as exchange:
        with pytest.raises(PublishRefused, match="wildcard"):
            await exchange.request("tasks/+", b"?", key="k", seconds=5)
        for key in ("", "k" * (MAX_KEY + 1)):
            with pytest.raises(ValueError, match="deduplication key"):
                await exchange.request("tasks/b", b"?", key=key, seconds=5)


async def test_requests_that_wait_end_when_the_session_does() -> None:
    hub = MemoryHub()
    async with MemoryTransport(hub, client_id="a") as asker, Exchange(asker, reply_topic="replies/a") as exchange:
        async with asyncio.TaskGroup() as group:

            async def ask() -> None:
                with pytest.raises(BrokerUnreachable, match="took over"):
                    await exchange.request("tasks/b", b"?", key="k", seconds=5)

            group.create_task(ask(), name="ask")
            await asyncio.sleep(0)
            async with MemoryTransport(hub, client_id="a"):
                pass
        with pytest.raises(BrokerUnreachable):
            await exchange.request("tasks/b", b"?", key="k", seconds=5)


async def test_an_error_inside_the_block_comes_out_as_it_is(asker: MemoryTransport) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with Exchange(asker, reply_topic="replies/a"):
            raise KeyError("mine")


def asked(**changes: object) -> Publication:
    fields: dict[str, object] = {"topic": "tasks/b", "payload": b"", "response_topic": "replies/a"}
    return Publication(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("topic", [None, "", "a/+", "#", "$SYS/broker", "$share/g/a", "a\0", "a\n", "x" * 513])
def test_a_strangers_response_topic_is_checked(topic: str | None) -> None:
    with pytest.raises(BadMessage):
        response_topic(asked(response_topic=topic))


def test_correlation_data_sent_back_is_bounded() -> None:
    assert response_topic(asked(correlation_data=b"x" * MAX_CORRELATION_BYTES)) == "replies/a"
    with pytest.raises(BadMessage, match="Correlation Data"):
        response_topic(asked(correlation_data=b"x" * (MAX_CORRELATION_BYTES + 1)))


async def test_parts_are_taken_in_order_before_the_reply(asker: MemoryTransport) -> None:
    heard: list[bytes] = []

    async def take(part: bytes) -> None:
        await asyncio.sleep(0)  # a slow taker: the reply still comes after it
        heard.append(part)

    async with (
        Exchange(asker, reply_topic="replies/a") as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(exchange.request("tasks/b", b"?", key="k", seconds=5, on_part=take), name="ask")
        request = await anext(inbox)
        for part in (b"1", b"2", b"3"):
            await answer(asker, request, part, user_properties=(PART_PROPERTY,))
        await answer(asker, request, b"!")
        reply = await asked
    assert heard == [b"1", b"2", b"3"]
    assert reply.publication.payload == b"!"


async def test_parts_that_come_faster_than_they_are_taken_are_bounded_in_bytes(
    asker: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foa.exchange.MAX_PART_BYTES", 10)
    heard, taking, may = list[bytes](), asyncio.Event(), asyncio.Event()

    async def take(part: bytes) -> None:
        taking.set()
        await may.wait()
        heard.append(part)

    async with (
        Exchange(asker, reply_topic="replies/a") as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(exchange.request("tasks/b", b"?", key="k", seconds=5, on_part=take), name="ask")
        request = await anext(inbox)
        await answer(asker, request, b"a" * 9, user_properties=(PART_PROPERTY,))
        await taking.wait()  # the first is out of the queue; of 10 bytes there is room for one of 6 and not for two
        for part in (b"b" * 6, b"c" * 6, b"d" * 4):
            await answer(asker, request, part, user_properties=(PART_PROPERTY,))
        await answer(asker, request, b"!")
        may.set()
        await asked
    assert heard == [b"a" * 9, b"b" * 6, b"d" * 4]
    assert exchange.strangers == 1


async def test_parts_that_nobody_takes_do_not_end_the_request(asker: MemoryTransport) -> None:
    async with (
        Exchange(asker, reply_topic="replies/a") as exchange,
        listening(asker, "tasks/b") as inbox,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(exchange.request("tasks/b", b"?", key="k", seconds=5), name="ask")
        request = await anext(inbox)
        await answer(asker, request, b"part", user_properties=(PART_PROPERTY,))
        await answer(asker, request, b"!")
        assert (await asked).publication.payload == b"!"
        assert exchange.strangers == 1


async def test_a_part_that_cannot_be_taken_ends_the_request_and_leaves_none_unacknowledged() -> None:
    async def refuse(part: bytes) -> None:
        raise BudgetExceeded("too dear")

    hub = MemoryHub()
    async with (
        MemoryTransport(hub, client_id="agent") as agent,
        listening(agent, "tasks/b") as inbox,
        MemoryTransport(hub, client_id="asker", receive_maximum=1) as asker,
        Exchange(asker, reply_topic="replies/a") as exchange,
    ):

        async def play() -> None:
            request = await anext(inbox)
            for _ in range(3):
                await answer(agent, request, b"part", user_properties=(PART_PROPERTY,))
            await answer(agent, await anext(inbox), b"!")

        async with asyncio.TaskGroup() as group:
            group.create_task(play(), name="agent")
            with pytest.raises(BudgetExceeded, match="too dear"):
                await exchange.request("tasks/b", b"?", key="k", seconds=5, on_part=refuse)
            # with a window of one, a part that is held back would hold back this reply
            reply = await exchange.request("tasks/b", b"?", key="k", seconds=5)
            assert reply.publication.payload == b"!"
