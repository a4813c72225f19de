"""The Transport port's contract: one suite, every adapter passes all of it.

An adapter of your own: write a `Ground` (how to open your transport, cut its link, lose the broker's sessions), then

    from tests.contract.test_transport import TransportContract

    class TestMyTransport(TransportContract):
        @pytest.fixture
        async def ground(self):
            async with my_ground() as ground:
                yield ground

and run pytest. Nothing in the suite looks behind the port.
"""

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests.brokers import Embedded, Link, open_link, start_embedded, start_mosquitto

from foa.errors import PublishRefused
from foa.exchange import Exchange, answer
from foa.ports import Delivery, Transport
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.transport.mqtt import MqttTransport
from foa.transport.paho import PahoTransport
from foa.values.publication import Filter, Publication

SECONDS = 10.0  #: how long anything in here may take


class Ground(Protocol):
    """What the suite plays on: a broker, and links to it that can be cut."""

    narrow: int  #: a receive maximum that the broker keeps to even when it sends what has waited; 10 if it can

    def transport(
        self, client_id: str, *, will: Publication | None = None, receive_maximum: int = 1_000
    ) -> AbstractAsyncContextManager[Transport]:
        """An adapter, opened by entering it; its session outlives it by an hour."""
        ...

    async def cut(self, client_id: str) -> None:
        """Break this client's link and keep it broken, so that the broker notices."""
        ...

    async def restore(self, client_id: str) -> None:
        """Let it connect again."""
        ...

    async def lose_sessions(self) -> None:
        """Restart the broker without what it knew. Every link is broken by it."""
        ...

    async def elapse(self, seconds: float) -> None:
        """Let the broker's clock go on."""
        ...


class MemoryGround:
    """The hub, with a clock that the test moves."""

    narrow = 10

    def __init__(self) -> None:
        self._now = 0.0
        self._hub = MemoryHub(monotonic=lambda: self._now)
        self._open: dict[str, MemoryTransport] = {}

    def transport(self, client_id: str, *, will: Publication | None = None, receive_maximum: int = 1_000) -> MemoryTransport:
        made = MemoryTransport(self._hub, client_id=client_id, will=will, receive_maximum=receive_maximum)
        self._open[client_id] = made
        return made

    async def cut(self, client_id: str) -> None:
        self._open[client_id].cut()

    async def restore(self, client_id: str) -> None:
        self._open[client_id].restore()

    async def lose_sessions(self) -> None:
        for client_id, transport in self._open.items():
            transport.cut()
            self._hub.forget(client_id)
        for transport in self._open.values():
            transport.restore()

    async def elapse(self, seconds: float) -> None:
        self._now += seconds


class RestartableBroker(Protocol):
    """A broker under test."""

    host: str
    port: int

    async def start(self) -> None: ...

    async def stop(self, *, forget: bool = False) -> None: ...


class BrokerGround:
    """A broker, a link to it for every client, and the adapter to try."""

    def __init__(self, broker: RestartableBroker, make: Callable[..., AbstractAsyncContextManager[Transport]]) -> None:
        # Mosquitto 2.0.11 sends all that has waited once a place is free, whatever the receive maximum
        self.narrow = 10 if isinstance(broker, Embedded) else 1_000
        self._broker = broker
        self._make = make
        self._links: dict[str, Link] = {}
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def transport(
        self, client_id: str, *, will: Publication | None = None, receive_maximum: int = 1_000
    ) -> AsyncIterator[Transport]:
        link = self._links.get(client_id)
        if link is None:
            link = self._links[client_id] = await self._stack.enter_async_context(
                open_link(self._broker.host, self._broker.port)
            )
        await link.restore()
        address = f"mqtt://127.0.0.1:{link.port}"
        async with self._make(
            address, client_id=client_id, will=will, receive_maximum=receive_maximum, retry_seconds=0.1
        ) as transport:
            yield transport

    async def cut(self, client_id: str) -> None:
        await self._links[client_id].cut()

    async def restore(self, client_id: str) -> None:
        await self._links[client_id].restore()

    async def lose_sessions(self) -> None:
        for link in self._links.values():
            await link.cut()
        await self._broker.stop(forget=True)
        await self._broker.start()
        for link in self._links.values():
            await link.restore()

    async def elapse(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # a real broker's clock is the wall's

    async def aclose(self) -> None:
        await self._stack.aclose()


async def take(inbox: AsyncIterator[Delivery], count: int) -> list[Delivery]:
    """The next deliveries, each acknowledged."""
    got: list[Delivery] = []
    async with asyncio.timeout(SECONDS):
        while len(got) < count:
            got.append(await anext(inbox))
            await got[-1].acknowledge()
    return got


async def payloads(inbox: AsyncIterator[Delivery], count: int) -> list[bytes]:
    return [delivery.publication.payload for delivery in await take(inbox, count)]


async def until(inbox: AsyncIterator[Delivery], last: bytes) -> list[bytes]:
    """What arrives before this payload does."""
    got: list[bytes] = []
    while (payload := (await payloads(inbox, 1))[0]) != last:
        got.append(payload)
    return got


async def publish_all(transport: Transport, topic: str, payloads: Iterable[bytes]) -> None:
    async with asyncio.timeout(SECONDS):
        for payload in payloads:
            await transport.publish(Publication(topic=topic, payload=payload))


class TransportContract:
    """Every promise of `foa.ports.Transport`."""

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def test_a_publication_arrives_with_every_property(self, ground: Ground) -> None:
        sent = Publication(
            topic="t/1",
            payload=b"\x00\xff" * 100,
            message_expiry_interval=600,
            response_topic="t/reply",
            correlation_data=b"\x00\x01",
            content_type="application/json",
            user_properties=(("b", "1"), ("a", "2"), ("b", "3"), ("traceparent", "00-0af7-b7ad-01")),
        )
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="t/+")) as inbox:
            await a.publish(sent)
            [delivery] = await take(inbox, 1)
        assert delivery.publication == sent

    @pytest.mark.parametrize("qos", [0, 1])
    async def test_one_publisher_and_topic_keeps_its_order(self, ground: Ground, qos: int) -> None:
        wanted = [str(number).encode() for number in range(300)]
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="t")) as inbox:
            for payload in wanted:
                await a.publish(Publication(topic="t", payload=payload, qos=1 if qos else 0))
            assert await payloads(inbox, 300) == wanted

    async def test_qos_is_the_lower_of_publication_and_subscription(self, ground: Ground) -> None:
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="t", qos=0)) as inbox:
            await a.publish(Publication(topic="t", payload=b"x", qos=1))
            [delivery] = await take(inbox, 1)
        assert delivery.publication.qos == 0

    async def test_a_payload_of_one_megabyte_passes_and_a_larger_one_is_refused(self, ground: Ground) -> None:
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="t")) as inbox:
            await a.publish(Publication(topic="t", payload=b"x" * 1_000_000))
            [delivery] = await take(inbox, 1)
            assert len(delivery.publication.payload) == 1_000_000
            with pytest.raises(PublishRefused, match="1,000,001"):
                await a.publish(Publication(topic="t", payload=b"x" * 1_000_001))

    @pytest.mark.parametrize("topic", ["", "a/+", "a/#", "$SYS/x", "a\0b", "a" * 2_000, "a/" * 40 + "a"])
    async def test_a_topic_that_not_every_broker_takes_is_refused(self, ground: Ground, topic: str) -> None:
        async with ground.transport("a") as a:
            with pytest.raises(PublishRefused):
                await a.publish(Publication(topic=topic, payload=b""))
            with pytest.raises(PublishRefused):
                await a.publish(Publication(topic="t", payload=b"", response_topic=topic))

    @pytest.mark.parametrize(
        "topic_filter", ["", "a+", "a/#/b", "#a", "$share/g", "$share//a", "$share/g/", "$share/g/$SYS/x", "$shared/g/a\0"]
    )
    async def test_a_malformed_filter_is_misuse(self, ground: Ground, topic_filter: str) -> None:
        async with ground.transport("a") as a:
            with pytest.raises(ValueError, match=r"filter|character"):
                async with a.subscribe(Filter(topic_filter=topic_filter)):
                    pass

    async def test_a_message_that_expired_is_not_delivered(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="t")) as inbox:
            await ground.cut("b")
            await a.publish(Publication(topic="t", payload=b"old", message_expiry_interval=1))
            await a.publish(Publication(topic="t", payload=b"lasting", message_expiry_interval=600))
            await ground.elapse(2.5)
            await ground.restore("b")
            [delivery] = await take(inbox, 1)
        assert delivery.publication.payload == b"lasting"
        assert 590 <= (delivery.publication.message_expiry_interval or 0) <= 598  # what is left of it (3.3.2.3.3)

    # ── retained ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def test_the_last_retained_message_reaches_a_late_joiner(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b:
            for payload in (b"1", b"2"):
                await a.publish(Publication(topic="r/x", payload=payload, retain=True))
            async with b.subscribe(Filter(topic_filter="r/+")) as inbox:
                [delivery] = await take(inbox, 1)
                assert (delivery.publication.payload, delivery.publication.retain) == (b"2", True)
                await a.publish(Publication(topic="r/x", payload=b"3", retain=True))
                [delivery] = await take(inbox, 1)
                assert (delivery.publication.payload, delivery.publication.retain) == (b"3", False)

    async def test_an_empty_retained_payload_clears_and_is_still_heard(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b:
            await a.publish(Publication(topic="r/x", payload=b"1", retain=True))
            async with b.subscribe(Filter(topic_filter="r/+")) as inbox:
                await take(inbox, 1)
                await a.publish(Publication(topic="r/x", payload=b"", retain=True))
                assert await payloads(inbox, 1) == [b""]
            async with b.subscribe(Filter(topic_filter="r/+")) as inbox:
                await a.publish(Publication(topic="r/y", payload=b"marker"))
                assert await payloads(inbox, 1) == [b"marker"]

    async def test_a_second_inbox_of_the_same_filter_gets_the_retained_message_too(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            await a.publish(Publication(topic="r/x", payload=b"1", retain=True))
            async with a.subscribe(Filter(topic_filter="r/x")) as first:
                assert await payloads(first, 1) == [b"1"]
                async with a.subscribe(Filter(topic_filter="r/x")) as second:
                    assert await payloads(second, 1) == [b"1"]

    # ── many inboxes on one session ────────────────────────────────────────────────────────────────────────────────────
    async def test_inboxes_get_what_matches_them_and_nothing_else(self, ground: Ground) -> None:
        async with (
            ground.transport("a") as a,
            a.subscribe(Filter(topic_filter="x/1")) as one,
            a.subscribe(Filter(topic_filter="x/+/y")) as plus,
            a.subscribe(Filter(topic_filter="x/#")) as rest,
        ):
            for topic in ("x/1", "x/2/y", "x", "x/3/z", "other"):
                await a.publish(Publication(topic=topic, payload=topic.encode()))
            for topic in ("x/1", "x/end/y"):
                await a.publish(Publication(topic=topic, payload=b"end"))
            # a broker may send a copy for each subscription that overlaps (3.3.4)
            assert set(await until(one, b"end")) == {b"x/1"}
            assert set(await until(plus, b"end")) - {b"end"} == {b"x/2/y"}
            assert set(await until(rest, b"end")) == {b"x/1", b"x/2/y", b"x", b"x/3/z"}

    async def test_overlapping_filters_of_one_inbox_deliver_what_the_broker_sends(self, ground: Ground) -> None:
        filters = [Filter(topic_filter=text) for text in ("x/1", "x/+", "x/#")]
        async with ground.transport("a") as a, a.subscribe(*filters) as inbox:
            await publish_all(a, "x/1", [b"1", b"end"])
            assert 1 <= len(await until(inbox, b"end")) <= 3  # a broker may send a copy for each subscription (3.3.4)

    async def test_leaving_one_inbox_does_not_cut_another_off(self, ground: Ground) -> None:
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="x")) as stays:
            async with a.subscribe(Filter(topic_filter="x")) as leaves:
                await publish_all(a, "x", [b"1"])
                assert await payloads(leaves, 1) == [b"1"]
                assert await payloads(stays, 1) == [b"1"]
            await publish_all(a, "x", [b"2"])
            assert await payloads(stays, 1) == [b"2"]

    async def test_an_inbox_hears_nothing_after_its_block(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            async with a.subscribe(Filter(topic_filter="x")) as left:
                pass
            await publish_all(a, "x", [b"1"])
            with pytest.raises(StopAsyncIteration):
                await anext(left)
            async with a.subscribe(Filter(topic_filter="x")) as inbox:  # subscribed anew: nothing was kept for it
                await publish_all(a, "x", [b"2"])
                assert await payloads(inbox, 1) == [b"2"]

    async def test_thousands_of_filters_on_one_session(self, ground: Ground) -> None:
        filters = [Filter(topic_filter=f"agents/a{number}/tasks") for number in range(3_000)]
        async with ground.transport("a") as a, AsyncExitStack() as stack:
            wide = await stack.enter_async_context(a.subscribe(*filters[:2_900]))
            single = [await stack.enter_async_context(a.subscribe(wanted)) for wanted in filters[2_900:]]
            await publish_all(a, "agents/a17/tasks", [b"17"])
            await publish_all(a, "agents/a2950/tasks", [b"2950"])
            assert await payloads(wide, 1) == [b"17"]
            assert await payloads(single[50], 1) == [b"2950"]

    async def test_no_local_hides_ones_own(self, ground: Ground) -> None:
        async with (
            ground.transport("a") as a,
            ground.transport("b") as b,
            a.subscribe(Filter(topic_filter="x", no_local=True)) as inbox,
        ):
            await publish_all(a, "x", [b"mine"])
            await publish_all(b, "x", [b"yours"])
            assert await payloads(inbox, 1) == [b"yours"]

    async def test_a_shared_subscription_gives_each_message_to_one_member(self, ground: Ground) -> None:
        shared = Filter(topic_filter="$share/g/x/+")
        wanted = [str(number).encode() for number in range(40)]
        got: Counter[bytes] = Counter()
        shares: Counter[str] = Counter()
        async with ground.transport("a") as a, ground.transport("b") as b, ground.transport("c") as c:

            async def work(name: str, inbox: AsyncIterator[Delivery]) -> None:
                async for delivery in inbox:
                    await delivery.acknowledge()
                    got[delivery.publication.payload] += 1
                    shares[name] += 1
                    if sum(got.values()) == len(wanted):
                        done.set()

            done = asyncio.Event()
            async with a.subscribe(shared) as one, b.subscribe(shared) as two, asyncio.TaskGroup() as group:
                workers = [group.create_task(work(name, inbox), name=name) for name, inbox in (("a", one), ("b", two))]
                await publish_all(c, "x/1", wanted)
                async with asyncio.timeout(SECONDS):
                    await done.wait()
                for worker in workers:
                    worker.cancel()
        assert got == Counter(wanted)
        assert min(shares["a"], shares["b"]) > 0

    # ── acknowledgement and windows ────────────────────────────────────────────────────────────────────────────────────
    async def test_what_was_not_acknowledged_comes_again_to_the_next_process(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            async with ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
                await publish_all(a, "x", [b"saved", b"lost", b"unread"])
                await take(inbox, 1)
                assert (await anext(inbox)).publication.payload == b"lost"
                await publish_all(b, "after", [b""])  # what was acknowledged before it has reached the broker
                await ground.cut("b")  # the process dies here
            async with ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
                await publish_all(a, "x", [b"new"])
                assert await payloads(inbox, 3) == [b"lost", b"unread", b"new"]

    async def test_what_came_before_the_program_subscribed_again_is_kept_for_it(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            async with ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")):
                await ground.cut("b")
            await publish_all(a, "x", [b"1", b"2"])
            async with ground.transport("b") as b, b.subscribe(Filter(topic_filter="other")) as other:
                await publish_all(a, "other", [b"marker"])  # by now "1" and "2" are here, and nobody asked for them
                await payloads(other, 1)
                async with b.subscribe(Filter(topic_filter="x")) as inbox:
                    assert await payloads(inbox, 2) == [b"1", b"2"]

    async def test_a_message_is_done_when_every_inbox_acknowledged_it(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            async with (
                ground.transport("b") as b,
                b.subscribe(Filter(topic_filter="x/1")) as one,
                b.subscribe(Filter(topic_filter="x/1")) as two,
            ):
                await publish_all(a, "x/1", [b"both", b"half"])
                assert await payloads(one, 2) == [b"both", b"half"]
                assert await payloads(two, 1) == [b"both"]
                await publish_all(b, "after", [b""])
                await ground.cut("b")
            async with ground.transport("b") as b, b.subscribe(Filter(topic_filter="x/1")) as inbox:
                await publish_all(a, "x/1", [b"end"])
                assert await until(inbox, b"end") == [b"half"]

    async def test_acknowledging_twice_does_nothing(self, ground: Ground) -> None:
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="x")) as inbox:
            await publish_all(a, "x", [b"1"])
            [delivery] = await take(inbox, 1)
            await delivery.acknowledge()
            await publish_all(a, "x", [b"2"])
            assert await payloads(inbox, 1) == [b"2"]

    async def test_no_more_than_the_receive_window_is_under_way(self, ground: Ground) -> None:
        async with (
            ground.transport("a") as a,
            ground.transport("b", receive_maximum=10) as b,
            b.subscribe(Filter(topic_filter="x")) as inbox,
        ):
            wanted = [b"%d" % number for number in range(40)]
            await publish_all(a, "x", wanted)
            async with asyncio.timeout(SECONDS):
                first = [await anext(inbox) for _ in range(10)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(inbox)
            assert [delivery.publication.payload for delivery in first] == wanted[:10]

    async def test_what_waits_behind_the_window_follows_as_it_opens(self, ground: Ground) -> None:
        wanted = [b"%d" % number for number in range(300)]
        async with (
            ground.transport("a") as a,
            ground.transport("b", receive_maximum=ground.narrow) as b,
            b.subscribe(Filter(topic_filter="x")) as inbox,
        ):
            await publish_all(a, "x", wanted)
            assert await payloads(inbox, 300) == wanted

    async def test_a_slow_reader_holds_nobody_else_up(self, ground: Ground) -> None:
        async with (
            ground.transport("a") as a,
            ground.transport("b") as b,
            b.subscribe(Filter(topic_filter="slow")) as slow,
            b.subscribe(Filter(topic_filter="fast")) as fast,
        ):
            await publish_all(a, "slow", (b"%d" % number for number in range(50)))
            await publish_all(a, "fast", [b"1", b"2"])
            assert await payloads(fast, 2) == [b"1", b"2"]
            assert len(await payloads(slow, 50)) == 50

    async def test_a_slow_reader_of_qos_0_keeps_the_newest(self, ground: Ground) -> None:
        async with (
            ground.transport("a") as a,
            a.subscribe(Filter(topic_filter="slow", qos=0), capacity=10) as slow,
            a.subscribe(Filter(topic_filter="fast", qos=0)) as fast,
        ):
            for number in range(50):
                await a.publish(Publication(topic="slow", payload=str(number).encode(), qos=0))
            await a.publish(Publication(topic="fast", payload=b"marker", qos=0))
            await payloads(fast, 1)
            assert await payloads(slow, 10) == [str(number).encode() for number in range(40, 50)]

    async def test_a_cancelled_publish_gives_its_slot_back(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
            await ground.cut("a")
            async with asyncio.TaskGroup() as group:
                given_up = [
                    group.create_task(a.publish(Publication(topic="x", payload=b"given up")), name=f"publish[{number}]")
                    for number in range(200)
                ]
                await asyncio.sleep(0)
                for task in given_up:
                    task.cancel()
            await ground.restore("a")
            await publish_all(a, "x", [b"%d" % number for number in range(200)])
            got = [payload for payload in await until(inbox, b"199") if payload != b"given up"]
            assert got == [b"%d" % number for number in range(199)]

    async def test_a_reader_that_is_cancelled_loses_nothing(self, ground: Ground) -> None:
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="x")) as inbox:
            for number in range(20):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        await anext(inbox)
                await publish_all(a, "x", [b"%d" % number])
                assert await payloads(inbox, 1) == [b"%d" % number]

    async def test_a_round_trip_does_not_wait_for_a_delayed_acknowledgement(self, ground: Ground) -> None:
        times: list[float] = []
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="x")) as inbox:
            for _ in range(20):
                began = time.perf_counter()
                await publish_all(a, "x", [b"1"])
                await take(inbox, 1)
                times.append(time.perf_counter() - began)
        assert statistics.median(times) < 0.03  # without TCP_NODELAY it is 0.044 s

    # ── links ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def test_after_a_cut_everything_goes_on_in_order(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
            await publish_all(a, "x", [b"before"])
            assert await payloads(inbox, 1) == [b"before"]
            await ground.cut("a")
            await ground.cut("b")
            wanted = [b"%d" % number for number in range(20)]
            async with asyncio.TaskGroup() as group:
                group.create_task(publish_all(a, "x", wanted), name="publish")  # waits while the link is down
                await ground.restore("a")
                await ground.restore("b")
                got = dict.fromkeys(await until(inbox, b"19"))  # at least once, and in order
                got.pop(b"before", None)
                assert list(got) == wanted[:-1]

    async def test_what_is_published_while_a_subscriber_is_away_waits_for_it(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
            await ground.cut("b")
            await publish_all(a, "x", [b"1", b"2", b"3"])
            await ground.restore("b")
            assert await payloads(inbox, 3) == [b"1", b"2", b"3"]

    async def test_an_acknowledgement_during_a_cut_is_not_lost(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(Filter(topic_filter="x")) as inbox:
            await publish_all(a, "x", [b"1"])
            async with asyncio.timeout(SECONDS):
                delivery = await anext(inbox)
            await ground.cut("b")
            await delivery.acknowledge()
            await ground.restore("b")
            await publish_all(a, "x", [b"2"])
            assert (await until(inbox, b"2")) in ([], [b"1"])  # at least once
            await publish_all(a, "x", [b"3"])
            assert await payloads(inbox, 1) == [b"3"]

    async def test_subscriptions_come_back_when_the_broker_lost_the_session(self, ground: Ground) -> None:
        filters = [Filter(topic_filter=f"x/{number}") for number in range(250)]
        async with ground.transport("a") as a, ground.transport("b") as b, b.subscribe(*filters) as inbox:
            await publish_all(a, "x/7", [b"before"])
            assert await payloads(inbox, 1) == [b"before"]
            await ground.lose_sessions()
            async with asyncio.timeout(SECONDS):
                while not (await heard_again(a, b, inbox)):
                    pass
            await publish_all(a, "x/249", [b"after"])
            assert (await until(inbox, b"after")) in ([], [b"probe"])

    async def test_connected_waits_for_the_link(self, ground: Ground) -> None:
        async with ground.transport("a") as a:
            async with asyncio.timeout(SECONDS):
                await a.connected()
            await ground.cut("a")
            async with asyncio.TaskGroup() as group:
                sent = group.create_task(a.publish(Publication(topic="x", payload=b"", qos=1)), name="publish")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await asyncio.shield(sent)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await a.connected()
                await ground.restore("a")
                async with asyncio.timeout(SECONDS):
                    await a.connected()
                    await sent

    async def test_a_subscription_asked_for_during_a_cut_is_made_after_it(self, ground: Ground) -> None:
        async with ground.transport("a") as a, ground.transport("b") as b:
            await ground.cut("b")

            async def hear() -> list[bytes]:
                async with b.subscribe(Filter(topic_filter="x")) as inbox:
                    entered.set()
                    return await payloads(inbox, 1)

            entered = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                heard = group.create_task(hear(), name="hear")
                await asyncio.sleep(0)
                await ground.restore("b")
                async with asyncio.timeout(SECONDS):
                    await entered.wait()
                await publish_all(a, "x", [b"1"])
            assert heard.result() == [b"1"]

    async def test_the_will_speaks_for_the_dead_only(self, ground: Ground) -> None:
        will = Publication(topic="gone/b", payload=b"gone", user_properties=(("why", "will"),))
        async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="gone/+")) as inbox:
            async with ground.transport("b", will=will):
                pass
            await publish_all(a, "gone/x", [b"marker"])
            assert await payloads(inbox, 1) == [b"marker"]
            async with ground.transport("b", will=will):
                await ground.cut("b")
                [delivery] = await take(inbox, 1)
        assert delivery.publication == will

    async def test_an_error_inside_the_block_comes_out_as_it_is(self, ground: Ground) -> None:
        with pytest.raises(KeyError, match="mine"):
            async with ground.transport("a") as a, a.subscribe(Filter(topic_filter="x")):
                raise KeyError("mine")

    # ── request and reply ──────────────────────────────────────────────────────────────────────────────────────────────
    async def test_requests_and_replies_find_each_other(self, ground: Ground) -> None:
        async def serve(b: Transport, inbox: AsyncIterator[Delivery]) -> None:
            async for request in inbox:
                await answer(b, request, request.publication.payload.upper())
                await request.acknowledge()

        async def ask(exchange: Exchange, number: int) -> bytes:
            reply = await exchange.request("ask/b", b"q%d" % number, key=f"k{number}", seconds=SECONDS)
            await reply.acknowledge()
            return reply.publication.payload

        async with (
            ground.transport("a") as a,
            ground.transport("b") as b,
            b.subscribe(Filter(topic_filter="ask/b")) as inbox,
            Exchange(a, reply_topic="replies/a") as exchange,
            asyncio.TaskGroup() as group,
        ):
            server = group.create_task(serve(b, inbox), name="serve")
            async with asyncio.TaskGroup() as questions:
                asked = [questions.create_task(ask(exchange, n), name=f"ask[{n}]") for n in range(100)]
            server.cancel()
        assert [task.result() for task in asked] == [b"Q%d" % number for number in range(100)]


async def heard_again(a: Transport, b: Transport, inbox: AsyncIterator[Delivery]) -> bool:
    """Whether a probe comes through; nothing in the port tells when a broker has restarted."""
    await a.connected()
    await b.connected()
    await a.publish(Publication(topic="x/7", payload=b"probe"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            delivery = await anext(inbox)
            await delivery.acknowledge()
            return True
    return False


@asynccontextmanager
async def memory_ground(_: Path) -> AsyncIterator[Ground]:
    yield MemoryGround()


@asynccontextmanager
async def mosquitto(folder: Path) -> AsyncIterator[RestartableBroker]:
    async with start_mosquitto(folder, settings=["max_inflight_messages 1000"]) as broker:
        yield broker


@asynccontextmanager
async def embedded(_: Path) -> AsyncIterator[RestartableBroker]:
    async with start_embedded() as broker:
        yield broker


def on(
    broker: Callable[[Path], AbstractAsyncContextManager[RestartableBroker]],
    make: Callable[..., AbstractAsyncContextManager[Transport]],
) -> Callable[[Path], AbstractAsyncContextManager[Ground]]:
    """A ground with this adapter on this broker."""

    @asynccontextmanager
    async def ground(folder: Path) -> AsyncIterator[Ground]:
        async with broker(folder) as running:
            made = BrokerGround(running, make)
            try:
                yield made
            finally:
                await made.aclose()

    return ground


GROUNDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Ground]]] = {
    "memory": memory_ground,
    "mqttium-embedded": on(embedded, MqttTransport),
    "mqttium-mosquitto": on(mosquitto, MqttTransport),
    "paho-embedded": on(embedded, PahoTransport),
    "paho-mosquitto": on(mosquitto, PahoTransport),
}


class TestTransport(TransportContract):
    @pytest.fixture(params=GROUNDS)
    async def ground(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
        async with GROUNDS[request.param](tmp_path) as ground:
            yield ground
