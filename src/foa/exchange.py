"""Request and reply over any Transport, by Response Topic and Correlation Data (MQTT v5, 4.10).

request ── topic, Response Topic, Correlation Data ──► the other end's inbox
   ▲                                                        │
waiting[correlation] ◄── reply topic, same Correlation Data ┘ answer(transport, request, …)

Long work may send parts before its reply: the same topic and Correlation Data, and the user property `foa-part`.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType

from foa.errors import BadMessage, BrokerUnreachable, FabricError
from foa.ports import Delivery, Transport
from foa.values.publication import Filter, Publication

MAX_RESPONSE_TOPIC = 512  #: characters
MAX_CORRELATION_BYTES = 512
MAX_KEY = 256  #: characters
KEY_PROPERTY = "foa-key"  #: user property with the deduplication key
PART_PROPERTY = ("foa-part", "1")  #: user property of what comes before the reply
MAX_PARTS = 1_024  #: of one request, waiting to be taken; what comes then is dropped
MAX_PART_BYTES = 64_000_000  #: of all of those together

#: Takes one part. What it raises ends the request.
TakePart = Callable[[bytes], Awaitable[None]]


class _Parts:
    """The parts of one request that wait to be taken; bounded, for whoever sends them need not stop."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Delivery | None] = asyncio.Queue()  # None: no more
        self._bytes = 0

    def put(self, part: Delivery) -> bool:
        """One more; False: there is no room for it."""
        size = len(part.publication.payload)
        if self._queue.qsize() >= MAX_PARTS or self._bytes + size > MAX_PART_BYTES:
            return False
        self._bytes += size
        self._queue.put_nowait(part)
        return True

    def end(self) -> None:
        """No more come."""
        self._queue.put_nowait(None)

    async def hand_over(self, on_part: TakePart) -> None:
        """Hand over parts until the reply is there."""
        while (part := await self._queue.get()) is not None:
            self._bytes -= len(part.publication.payload)
            try:
                await on_part(part.publication.payload)
            finally:
                await part.acknowledge()

    async def drop(self) -> None:
        """Acknowledge what was not taken."""
        while not self._queue.empty():
            if (part := self._queue.get_nowait()) is not None:
                await part.acknowledge()


class Exchange:
    """Many concurrent requests over one reply topic. Use it as `async with`.

    Args:
        transport: an open one.
        reply_topic: where replies to this exchange arrive; nobody else may subscribe to it.
        at_once: requests waiting for a reply at the same time, at most; more of them wait for a place.
    """

    def __init__(self, transport: Transport, *, reply_topic: str, at_once: int = 1_024) -> None:
        self._transport = transport
        self._reply_topic = reply_topic
        self._places = asyncio.Semaphore(at_once)
        self._waiting: dict[bytes, asyncio.Future[Delivery]] = {}
        self._parts: dict[bytes, _Parts] = {}  #: of requests that hear parts
        self._failure: FabricError | None = None
        self._subscription = transport.subscribe(Filter(topic_filter=reply_topic))
        self._tasks = asyncio.TaskGroup()
        self.strangers = 0  #: replies that came late, twice or unasked: acknowledged and dropped

    async def __aenter__(self) -> "Exchange":
        inbox = await self._subscription.__aenter__()
        await self._tasks.__aenter__()
        self._reader = self._tasks.create_task(self._read(inbox), name=f"replies[{self._reply_topic}]")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        # an error of the body goes on as it is, where the group would wrap it; a cancellation the group must see
        seen = (kind, error, trace) if isinstance(error, asyncio.CancelledError) else (None, None, None)
        try:
            await self._tasks.__aexit__(*seen)
        finally:
            self._fail(BrokerUnreachable(f"the exchange on {self._reply_topic!r} is closed"))
            await self._subscription.__aexit__(None, None, None)

    async def request(
        self,
        topic: str,
        payload: bytes,
        *,
        key: str,
        seconds: float,
        user_properties: Iterable[tuple[str, str]] = (),
        on_part: TakePart | None = None,
    ) -> Delivery:
        """Ask once and wait for the reply.

        Args:
            topic: where the other end listens.
            payload: the encoded question.
            key: deduplication key; the same for every attempt of the same question, at most 256 characters.
            seconds: how long to wait, the wait for a place and for a broken link included.
            user_properties: passed on untouched, in order, before `foa-key` (trace context, budget).
            on_part: takes the payload of each part, one after the other, before the reply is given back; a part is
                acknowledged when it returns. None: parts are dropped.

        Returns:
            The reply, not yet acknowledged: acknowledge it when it is saved.

        Raises:
            TimeoutError: no reply in time. It may still come; then it is acknowledged and dropped.
            PublishRefused: the broker did not take the request.
            BrokerUnreachable: the session or the exchange ended for good.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise ValueError(f"a deduplication key has 1 to {MAX_KEY} characters, this one {len(key)}")
        correlation = f"{key[:64]}#{secrets.token_hex(8)}".encode()
        async with asyncio.timeout(seconds), self._places:
            if self._failure is not None:
                raise self._failure
            reply = self._waiting[correlation] = asyncio.get_running_loop().create_future()
            if on_part is not None:
                parts = self._parts[correlation] = _Parts()
                reply.add_done_callback(lambda _: parts.end())
            try:
                await self._transport.publish(
                    Publication(
                        topic=topic,
                        payload=payload,
                        message_expiry_interval=max(1, math.ceil(seconds)),
                        response_topic=self._reply_topic,
                        correlation_data=correlation,
                        user_properties=(*user_properties, (KEY_PROPERTY, key)),
                    )
                )
                if on_part is not None:
                    await self._parts[correlation].hand_over(on_part)
                return await reply
            except BaseException:
                await self._drop(reply)
                raise
            finally:
                del self._waiting[correlation]
                if (left := self._parts.pop(correlation, None)) is not None:
                    await left.drop()

    async def _drop(self, reply: "asyncio.Future[Delivery]") -> None:
        if reply.done() and not reply.cancelled() and reply.exception() is None:  # it came while the request was given up
            self.strangers += 1
            await reply.result().acknowledge()

    async def _read(self, inbox: AsyncIterator[Delivery]) -> None:
        try:
            async for delivery in inbox:
                correlation = delivery.publication.correlation_data or b""
                waiting = self._waiting.get(correlation)
                if PART_PROPERTY in delivery.publication.user_properties:
                    await self._hear_part(correlation, delivery)
                elif waiting is None or waiting.done():
                    self.strangers += 1
                    await delivery.acknowledge()
                else:
                    waiting.set_result(delivery)
        except BrokerUnreachable as failure:
            self._fail(failure)

    async def _hear_part(self, correlation: bytes, part: Delivery) -> None:
        parts = self._parts.get(correlation)
        if parts is None or not parts.put(part):
            self.strangers += 1
            await part.acknowledge()

    def _fail(self, failure: FabricError) -> None:
        self._failure = failure
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(failure)


async def answer(
    transport: Transport, request: Delivery, payload: bytes, *, user_properties: Iterable[tuple[str, str]] = ()
) -> None:
    """Reply to a request on the topic it names, with its Correlation Data; with `PART_PROPERTY`, send a part before it.

    The reply expires when what is left of the request's own expiry interval is over: nobody waits for it longer.

    Raises:
        BadMessage: the request names no usable Response Topic, or its Correlation Data is too long.
        PublishRefused: the broker did not take the reply.
    """
    asked = request.publication
    await transport.publish(
        Publication(
            topic=response_topic(asked),
            payload=payload,
            message_expiry_interval=asked.message_expiry_interval,
            correlation_data=asked.correlation_data,
            user_properties=tuple(user_properties),
        )
    )


def response_topic(asked: Publication) -> str:
    """Give the topic a reply goes to, checked as what it is: a stranger's text.

    Raises:
        BadMessage: there is none, it is too long, has a wildcard or a control character, or begins with `$`; or the
            Correlation Data is too long to be sent back.
    """
    topic = asked.response_topic
    if not topic:
        raise BadMessage(f"a request on {asked.topic!r} has no Response Topic: nowhere to reply to")
    if len(topic) > MAX_RESPONSE_TOPIC:
        raise BadMessage(f"a Response Topic of {len(topic):,} characters is over the limit of {MAX_RESPONSE_TOPIC}")
    if topic.startswith("$") or "+" in topic or "#" in topic or not topic.isprintable():
        raise BadMessage(f"Response Topic {topic[:80]!r} is not one to publish to: no wildcard, no '$', printable text only")
    if len(asked.correlation_data or b"") > MAX_CORRELATION_BYTES:
        raise BadMessage(f"Correlation Data is over the limit of {MAX_CORRELATION_BYTES} bytes")
    return topic
