"""The server's end of a run over any Transport: a Flower Grid whose nodes are the sites that announced themselves.

    {root}/capabilities/updates/{site}      its signed card with an `fl` block, retained   ─► `foa.fl.roll`
    {root}/capabilities/vitals/{site}       its vitals, and its last will
    {root}/agents/{site}/fl                 messages to it, each with the name of the run
    {root}/orchestrators/{server}/replies   replies, by Response Topic

What a payload is, is in `foa.fl.grids.parcel`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import CancelledError, Future
from types import TracebackType

import msgspec
from flwr.app import Message

from foa.errors import AgentLost, BadMessage, FabricError, JobCancelled
from foa.exchange import Exchange
from foa.fl.blobs import BlobClaim, ServerBlobs
from foa.fl.block import FlBlock
from foa.fl.flower import CRASHED, RunGrid, begin, failure, pack, stamp, unpack
from foa.fl.grids.parcel import BLOBS_PROPERTY, OVER, RUN_PROPERTY, No, claim_in, opened, wrapped
from foa.fl.roll import Roll
from foa.ports import Delivery, Transport
from foa.values.ids import AgentId, JobId, OrchestratorId, check_id
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

GOODBYE_SECONDS = 2.0  #: for telling the sites that they are free


class MqttGrid(RunGrid):
    """A Grid over a Transport. Enter it with `async with` on the event loop; Flower calls it from another thread.

    Memory is bounded: `at_once` messages are under way at a time, the others wait packed by the strategy itself.
    """

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        run: str,
        roll: Roll,
        *,
        blobs: ServerBlobs | None = None,
        at_once: int = 64,
    ) -> None:
        """Make a Grid over an open transport.

        Args:
            transport: the server's connection.
            topics: topic names.
            run: name of the run.
            roll: knows whom the run may ask; the Grid keeps it up to date.
            blobs: where models above a megabyte go; without it they cannot be sent.
            at_once: messages under way at a time.
        """
        begin()
        self.roll = roll
        self._run_name = check_id(run, what="run")
        self._transport = transport
        self._topics = topics
        self._blobs = blobs
        self._slots = asyncio.Semaphore(at_once)
        self._exchange = Exchange(transport, reply_topic=topics.replies(OrchestratorId(f"fl-{run}"[:64])))
        self._changed = asyncio.Condition()
        self._asked: set[AgentId] = set()
        self._pulled: dict[str, Future[Message]] = {}
        self._cancelled = False
        self.bytes_out = 0
        self.bytes_in = 0

    async def __aenter__(self) -> "MqttGrid":
        self._loop = asyncio.get_running_loop()
        cards, vitals = (Filter(topic_filter=topic) for topic in (self._topics.capability(), self._topics.vitals()))
        self._subscription = self._transport.subscribe(cards, vitals)
        inbox = await self._subscription.__aenter__()
        await self._exchange.__aenter__()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._watcher = self._tasks.create_task(self._watch(inbox), name=f"fl-sites[{self._run_name}]")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        self._watcher.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
            await self.free_sites()
        finally:
            await self._exchange.__aexit__(kind, error, trace)
            await self._subscription.__aexit__(None, None, None)

    async def _watch(self, inbox: AsyncIterator[Delivery]) -> None:
        async for delivery in inbox:
            async with self._changed:
                self.roll.hear(delivery.publication, self._topics)
                self._changed.notify_all()
            await delivery.acknowledge()

    async def free_sites(self) -> None:
        """Tell everyone who was asked that the run is over. A site that does not hear it is free after a silence."""
        over = [
            Publication(topic=self._topics.training(agent), payload=OVER, user_properties=((RUN_PROPERTY, self._run_name),))
            for agent in sorted(self._asked)
        ]
        with contextlib.suppress(FabricError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                for publication in over:
                    await self._transport.publish(publication)

    async def present(self, count: int, *, seconds: float) -> None:
        """Wait until so many sites are there.

        Raises:
            TimeoutError: they did not come in time.
        """
        await self.until(lambda roll: len(roll.present) >= count, seconds=seconds)

    async def absent(self, agent: AgentId, *, seconds: float) -> None:
        """Wait until a site is gone.

        Raises:
            TimeoutError: it stayed.
        """
        await self.until(lambda roll: not roll.is_here(agent), seconds=seconds)

    async def until(self, condition: Callable[[Roll], bool], *, seconds: float) -> None:
        """Wait until this holds of who is there.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: condition(self.roll))

    def profiles(self) -> dict[int, FlBlock]:
        """Who is there, by Flower's number."""
        return self.roll.present

    def barred(self) -> dict[AgentId, str]:
        """Who is of this project and may not be asked, with the reason."""
        return self.roll.barred

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there, sorted.

        Raises:
            JobCancelled: somebody called `cancel`.
        """
        if self._cancelled:
            raise JobCancelled(JobId(self._run_name))
        return sorted(self.roll.present)

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
            raise JobCancelled(JobId(self._run_name))
        going = asyncio.run_coroutine_threadsafe(self._ask_all(list(messages), timeout), self._loop)
        self._pulled["now"] = going  # type: ignore[assignment]
        try:
            return going.result()
        except CancelledError:
            raise JobCancelled(JobId(self._run_name)) from None
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
        claim: BlobClaim | None = None
        try:
            async with asyncio.timeout(seconds), self._slots:
                block = self.roll.block(message.metadata.dst_node_id)
                if block is None:
                    raise BadMessage(f"node {message.metadata.dst_node_id} is not there any more")
                payload, claim = await asyncio.to_thread(lambda: wrapped(pack(message), lambda: self._blobs))
                self.bytes_out += len(payload)
                reply = await self._unless_gone(block.id, payload, identity, seconds)
            self.bytes_in += len(reply.publication.payload)
            await reply.acknowledge()
            return await asyncio.to_thread(self._open, message, reply.publication.payload)
        finally:
            if claim is not None and self._blobs is not None:
                # its site has it, or is too late for it: what lies there is bounded by what is under way
                await asyncio.to_thread(self._blobs.drop, claim)

    def _open(self, asked: Message, payload: bytes) -> Message:
        found = opened(payload, lambda: self._blobs)
        if isinstance(found, No):
            return failure(asked, found.code, found.reason)
        if self._blobs is not None and (claim := claim_in(payload)) is not None:
            self._blobs.drop(claim)
        reply = unpack(found)
        if reply.metadata.src_node_id != asked.metadata.dst_node_id:
            return failure(asked, CRASHED, "its reply speaks for another site")
        return reply

    def _properties(self, agent: AgentId) -> tuple[tuple[str, str], ...]:
        run = (RUN_PROPERTY, self._run_name)
        if self._blobs is None:
            return (run,)
        return (run, (BLOBS_PROPERTY, msgspec.json.encode(self._blobs.place(agent)).decode()))

    async def _unless_gone(self, agent: AgentId, payload: bytes, key: str, seconds: float) -> Delivery:
        """The reply, or an error as soon as the site's last will says that it is gone."""
        found: list[Delivery] = []

        async def gone() -> None:
            async with self._changed:
                await self._changed.wait_for(lambda: not self.roll.is_here(agent))
            raise AgentLost(agent, "it left during the round")

        async def asked() -> None:
            self._asked.add(agent)
            topic, told = self._topics.training(agent), self._properties(agent)
            found.append(await self._exchange.request(topic, payload, key=key, seconds=seconds, user_properties=told))
            watching.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(gone(), name=f"fl-gone[{agent}]")
                group.create_task(asked(), name=f"fl-reply[{agent}]")
        except* (FabricError, TimeoutError) as errors:
            raise errors.exceptions[0] from None
        return found[0]

    def cancel(self) -> None:
        """Make the waiting `send_and_receive`, and every later one, raise JobCancelled. From any thread."""
        self._cancelled = True
        for future in list(self._pulled.values()):
            future.cancel()
