"""Flower messages over any Transport: the server's end (`MqttGrid`) and a client's (`FlowerNode`).

    {root}/fl/{run}/nodes/{agent}     presence: the fl block, retained; empty by last will when the site is gone
    {root}/fl/{run}/{agent}/ins       messages to a site; the reply goes to the Response Topic
    {root}/fl/{run}/replies/{server}  replies

A payload is one byte of kind and then a Flower message (protobuf), or, above about 1 MB, a claim to a blob.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType

import msgspec
from flwr.app import Context, Message

from foa.errors import AgentLost, BadMessage, FabricError, JobCancelled
from foa.exchange import Exchange, answer
from foa.fl.blobs import BlobClaim, FolderBlobs
from foa.fl.block import FlBlock, decode_block, node_id
from foa.fl.flower import ClientAppCallable, RunGrid, begin, pack, stamp, unpack
from foa.fl.grids.in_process import run_app
from foa.ports import Delivery, Transport
from foa.values.ids import AgentId, JobId, check_id
from foa.values.publication import Filter, Publication

log = logging.getLogger(__name__)

INLINE_BYTES = 900_000  #: above this a blob is used; the portable limit of a message is 1,000,000
_INLINE, _CLAIM = b"\x01", b"\x02"
REMEMBERED = 16  #: replies a node keeps against repeated deliveries


@dataclass(frozen=True, slots=True)
class FlTopics:
    """Topic names of one run."""

    root: str
    run: str

    def __post_init__(self) -> None:
        check_id(self.run, what="run")

    def presence(self, agent: str = "+") -> str:
        """Who is there."""
        return f"{self.root}/fl/{self.run}/nodes/{agent}"

    def instructions(self, agent: str) -> str:
        """Messages to one site."""
        return f"{self.root}/fl/{self.run}/{agent}/ins"

    def replies(self, server: str = "server") -> str:
        """Replies to one server."""
        return f"{self.root}/fl/{self.run}/replies/{server}"


def farewell(topics: FlTopics, agent: AgentId) -> Publication:
    """The last will of a site's transport: it is gone."""
    return Publication(topic=topics.presence(agent), payload=b"", retain=True)


def _wrap(payload: bytes, blobs: FolderBlobs | None) -> bytes:
    if len(payload) <= INLINE_BYTES:
        return _INLINE + payload
    if blobs is None:
        raise BadMessage(f"a model of {len(payload):,} bytes needs a shared blob folder: give the Grid and its nodes one")
    return _CLAIM + msgspec.json.encode(blobs.put(payload))


def _unwrap(payload: bytes, blobs: FolderBlobs | None) -> Message:
    kind, rest = payload[:1], payload[1:]
    if kind == _INLINE:
        return unpack(rest)
    if kind != _CLAIM:
        raise BadMessage("not a Flower message of this format: update both ends")
    if blobs is None:
        raise BadMessage("a claim came and this end has no blob folder: give it the server's")
    try:
        claim = msgspec.json.decode(rest, type=BlobClaim)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadMessage(f"not a usable claim: {error}") from error
    return unpack(blobs.get(claim))


class MqttGrid(RunGrid):
    """A Grid over a Transport. Enter it with `async with` on the event loop; Flower calls it from another thread.

    Memory is bounded: `at_once` messages are under way at a time, the others wait packed by the strategy itself.
    """

    def __init__(
        self, transport: Transport, topics: FlTopics, *, blobs: FolderBlobs | None = None, at_once: int = 64
    ) -> None:
        """Make a Grid over an open transport."""
        begin()
        self._transport = transport
        self._topics = topics
        self._blobs = blobs
        self._slots = asyncio.Semaphore(at_once)
        self._exchange = Exchange(transport, reply_topic=topics.replies())
        self._blocks: dict[int, FlBlock] = {}
        self._changed = asyncio.Condition()
        self._pulled: dict[str, Future[Message]] = {}
        self._cancelled = False
        self.bytes_out = 0
        self.bytes_in = 0

    async def __aenter__(self) -> "MqttGrid":
        self._loop = asyncio.get_running_loop()
        self._subscription = self._transport.subscribe(Filter(topic_filter=self._topics.presence()))
        inbox = await self._subscription.__aenter__()
        await self._exchange.__aenter__()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._watcher = self._tasks.create_task(self._watch(inbox), name=f"fl-presence[{self._topics.run}]")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        self._watcher.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._exchange.__aexit__(kind, error, trace)
            await self._subscription.__aexit__(None, None, None)

    async def _watch(self, inbox: AsyncIterator[Delivery]) -> None:
        async for delivery in inbox:
            agent = AgentId(delivery.publication.topic.rpartition("/")[2])
            await self._know(agent, delivery.publication.payload)
            await delivery.acknowledge()

    async def _know(self, agent: AgentId, payload: bytes) -> None:
        async with self._changed:
            if not payload:
                self._blocks.pop(node_id(agent), None)
            else:
                try:
                    block = decode_block(payload)
                except BadMessage:
                    return
                # a site speaks for itself only
                if block.agent == agent:
                    self._blocks[node_id(agent)] = block
            self._changed.notify_all()

    async def present(self, count: int, *, seconds: float) -> None:
        """Wait until so many sites are there.

        Raises:
            TimeoutError: they did not come in time.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self._blocks) >= count)

    async def absent(self, agent: AgentId, *, seconds: float) -> None:
        """Wait until a site is gone.

        Raises:
            TimeoutError: it stayed.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: node_id(agent) not in self._blocks)

    def profiles(self) -> dict[int, FlBlock]:
        """Who is there, by Flower's number."""
        return dict(self._blocks)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there, sorted.

        Raises:
            JobCancelled: somebody called `cancel`.
        """
        if self._cancelled:
            raise JobCancelled(JobId(self._topics.run))
        return sorted(self._blocks)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send each; gives the ids to pull with. A reply is waited for as long as the message lives."""
        found = list[str]()
        for message in messages:
            found.append(stamp(message))
            going = self._ask(message, message.metadata.ttl)
            self._pulled[found[-1]] = asyncio.run_coroutine_threadsafe(going, self._loop)
        return found

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """What came of these; a site that was lost gives nothing."""
        done = [i for i in message_ids if (future := self._pulled.get(i)) is not None and future.done()]
        return [future.result() for i in done if not (future := self._pulled.pop(i)).cancelled() and not future.exception()]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send all, wait for all or for the timeout, seconds. Call it from a thread that is not the event loop's.

        Replies come in the order of the messages; a site that left, or was late, gives none.

        Raises:
            JobCancelled: somebody called `cancel`, or the Grid was left.
        """
        if self._cancelled:
            raise JobCancelled(JobId(self._topics.run))
        going = asyncio.run_coroutine_threadsafe(self._ask_all(list(messages), timeout), self._loop)
        self._pulled["now"] = going  # type: ignore[assignment]
        try:
            return going.result()
        except CancelledError:
            raise JobCancelled(JobId(self._topics.run)) from None
        finally:
            self._pulled.pop("now", None)

    async def _ask_all(self, messages: list[Message], seconds: float | None) -> list[Message]:
        found: dict[int, Message] = {}

        async def one(place: int, message: Message) -> None:
            try:
                found[place] = await self._ask(message, message.metadata.ttl if seconds is None else seconds)
            except (TimeoutError, FabricError):
                return  # the strategy sees a reply less

        async with asyncio.TaskGroup() as group:
            for place, message in enumerate(messages):
                group.create_task(one(place, message), name=f"fl-ask[{message.metadata.dst_node_id}]")
        return [found[place] for place in sorted(found)]

    async def _ask(self, message: Message, seconds: float) -> Message:
        identity = message.metadata.message_id or stamp(message)
        async with asyncio.timeout(seconds), self._slots:
            block = self._blocks.get(message.metadata.dst_node_id)
            if block is None:
                raise BadMessage(f"node {message.metadata.dst_node_id} is not there any more")
            payload = _wrap(await asyncio.to_thread(pack, message), self._blobs)
            self.bytes_out += len(payload)
            reply = await self._unless_gone(message.metadata.dst_node_id, block, payload, identity, seconds)
        self.bytes_in += len(reply.publication.payload)
        await reply.acknowledge()
        return await asyncio.to_thread(_unwrap, reply.publication.payload, self._blobs)

    async def _unless_gone(self, node: int, block: FlBlock, payload: bytes, key: str, seconds: float) -> Delivery:
        """The reply, or an error as soon as the site's last will says that it is gone."""
        found: list[Delivery] = []

        async def gone() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: node not in self._blocks)
            raise AgentLost(block.id, "it left during the round")

        async def asked() -> None:
            topic = self._topics.instructions(block.agent)
            found.append(await self._exchange.request(topic, payload, key=key, seconds=seconds))
            watching.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(gone(), name=f"fl-gone[{block.agent}]")
                group.create_task(asked(), name=f"fl-reply[{block.agent}]")
        except* (FabricError, TimeoutError) as errors:
            raise errors.exceptions[0] from None
        return found[0]

    def cancel(self) -> None:
        """Make the waiting `send_and_receive`, and every later one, raise JobCancelled. From any thread."""
        self._cancelled = True
        for future in list(self._pulled.values()):
            future.cancel()


class FlowerNode:
    """A site's end: it announces itself, answers messages with its ClientApp one after the other, and leaves.

    A message that is delivered again gets the reply it got before.
    """

    def __init__(
        self,
        transport: Transport,
        topics: FlTopics,
        block: FlBlock,
        app: ClientAppCallable,
        context: Context,
        *,
        blobs: FolderBlobs | None = None,
    ) -> None:
        """Make a node over an open transport, whose last will should be `farewell(topics, block.id)`."""
        begin()
        self._transport = transport
        self._topics = topics
        self._block = block
        self._app = app
        self._context = context
        self._blobs = blobs
        self._replies: OrderedDict[str, bytes] = OrderedDict()
        self.answered = 0  #: messages that the app worked on

    async def serve(self) -> None:
        """Announce and answer until cancelled; then say goodbye."""
        async with self._transport.subscribe(Filter(topic_filter=self._topics.instructions(self._block.agent))) as inbox:
            await self.announce(self._block)
            try:
                async for delivery in inbox:
                    await self._take(delivery)
            finally:
                # the goodbye must not keep a cancelled site from leaving; without a link the last will says it
                with contextlib.suppress(FabricError, TimeoutError):
                    async with asyncio.timeout(2.0):
                        await self._transport.publish(farewell(self._topics, self._block.id))

    async def announce(self, block: FlBlock) -> None:
        """Say, or say anew, what this site offers."""
        self._block = block
        payload = msgspec.json.encode(block)
        await self._transport.publish(Publication(topic=self._topics.presence(block.agent), payload=payload, retain=True))

    async def _take(self, delivery: Delivery) -> None:
        try:
            message = await asyncio.to_thread(_unwrap, delivery.publication.payload, self._blobs)
            reply = self._replies.get(message.metadata.message_id)
            if reply is None:
                reply = await asyncio.to_thread(self._work, message)
                self._keep(message.metadata.message_id, reply)
            await answer(self._transport, delivery, reply)
        except BadMessage as error:
            log.warning("a message to %s was dropped: %s", self._block.agent, error)
        # after the reply is on its way: a site killed before this gets the message again
        await delivery.acknowledge()

    def _work(self, message: Message) -> bytes:
        self.answered += 1
        reply = run_app(self._app, message, self._context)
        stamp(reply)
        return _wrap(pack(reply), self._blobs)

    def _keep(self, identity: str, reply: bytes) -> None:
        self._replies[identity] = reply
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)
