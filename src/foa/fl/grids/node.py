"""A site's end: Flower messages off the fabric into an ordinary ClientApp, one run at a time.

    agents/{id}/fl ─► whose run? ─► queue ─► blob ─► app, in a thread ─► blob ─► Response Topic
                        └► another one's: no, with the reason          acknowledged when the reply is on its way

It does not announce the site: that is done as for any other agent (`foa.agents.host`).
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from flwr.app import Context

from foa.errors import BadMessage, FabricError
from foa.exchange import KEY_PROPERTY, answer
from foa.fl.blobs import BlobPlace, Blobs
from foa.fl.flower import CRASHED, REFUSED, ClientAppCallable, begin, pack, stamp, unpack
from foa.fl.grids.in_process import run_app
from foa.fl.grids.parcel import BLOBS_PROPERTY, OVER, RUN_PROPERTY, No, opened, place_in, refusal, wrapped
from foa.fl.lease import SILENCE_SECONDS, Lease
from foa.ports import Clock, Delivery, Transport
from foa.values.ids import AgentId, check_id
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)

REMEMBERED = 16  #: replies a node keeps against repeated deliveries
RUNS = 4  #: runs whose app and state are kept at hand
WAITING = 8  #: messages of the run at hand that may wait, each of at most a megabyte

#: What a site does for one run: its app, with its guardian in front, and what the app keeps between rounds.
OpenRun = Callable[[str], tuple[ClientAppCallable, Context]]
#: Where a server says that its blobs are; None: this site does not reach such places.
Reach = Callable[[BlobPlace], Blobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    delivery: Delivery
    run: str
    came: float  #: monotonic seconds


class FlowerNode:
    """Answers the Flower messages to one site, one after the other, for one run at a time.

    A message that is delivered again gets the reply it got before; one that nobody waits for any more is dropped.
    """

    def __init__(
        self,
        transport: Transport,
        topics: Topics,
        agent: AgentId,
        open_run: OpenRun,
        clock: Clock,
        *,
        reach: Reach | None = None,
        working: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        worked: Callable[[], None] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """Make a node over an open transport.

        Args:
            transport: the site's connection.
            topics: topic names.
            agent: the site.
            open_run: gives app and context of a run; called in a thread, once for a run that is at hand.
            clock: time.
            reach: opens the place of a server's blobs.
            working: held while the app works, e.g. to tell the site's load.
            worked: called when the app has answered, on the event loop.
            silence_seconds: how long a run may ask nothing and still keep others away.
        """
        begin()
        self._transport = transport
        self._topics = topics
        self._agent = agent
        self._open_run = open_run
        self._clock = clock
        self._reach = reach
        self._working = working
        self._worked = worked
        self._lease = Lease(clock, silence_seconds=silence_seconds)
        self._waiting: asyncio.Queue[_Work] = asyncio.Queue(WAITING)
        self._runs: OrderedDict[str, tuple[ClientAppCallable, Context]] = OrderedDict()
        self._replies: OrderedDict[str, bytes] = OrderedDict()
        self.answered = 0  #: messages that the app worked on

    async def serve(self, *, ready: asyncio.Event | None = None) -> None:
        """Answer until cancelled.

        Args:
            ready: set when it listens.
        """
        async with (
            self._transport.subscribe(Filter(topic_filter=self._topics.training(self._agent))) as inbox,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._work_off(), name=f"fl-work[{self._agent}]")
            if ready is not None:
                ready.set()
            await self._listen(inbox)

    async def _listen(self, inbox: AsyncIterator[Delivery]) -> None:
        async for delivery in inbox:
            try:
                await self._take(delivery)
            except FabricError as error:
                log.warning("a message to %s was dropped: %s", self._agent, error)
                await delivery.acknowledge()

    async def _take(self, delivery: Delivery) -> None:
        run = _run_of(delivery.publication)
        if delivery.publication.payload == OVER:
            self._lease.over(run)
            await delivery.acknowledge()
        elif not self._lease.admit(run):
            holder = self._lease.holder
            await self._refuse(
                delivery, f"it is working for run {holder} and takes one run at a time; ask again when that is over"
            )
        elif self._waiting.full():
            self._lease.done()
            await self._refuse(delivery, f"{WAITING} messages of this run are waiting here already")
        else:
            self._waiting.put_nowait(_Work(delivery=delivery, run=run, came=self._clock.monotonic()))

    async def _refuse(self, delivery: Delivery, reason: str) -> None:
        await answer(self._transport, delivery, refusal(REFUSED, reason))
        await delivery.acknowledge()

    async def _work_off(self) -> None:
        while True:
            work = await self._waiting.get()
            try:
                if not self._is_late(work):
                    await self._answer(work)
            except FabricError as error:
                log.warning("%s could not answer run %s: %s", self._agent, work.run, error)
            finally:
                self._lease.done()
            # after the reply is on its way: a site that is killed before this gets the message again
            await work.delivery.acknowledge()

    def _is_late(self, work: _Work) -> bool:
        """Whether it waited here for longer than anybody waits for its answer."""
        expiry = work.delivery.publication.message_expiry_interval
        return expiry is not None and self._clock.monotonic() - work.came > expiry

    async def _answer(self, work: _Work) -> None:
        properties = dict(work.delivery.publication.user_properties)
        key = f"{work.run}/{properties.get(KEY_PROPERTY, '')[:256]}"
        reply = self._replies.get(key)
        if reply is None:
            async with self._working():
                reply = await asyncio.to_thread(self._work, work.run, work.delivery.publication.payload, properties)
            self._replies[key] = reply
            if len(self._replies) > REMEMBERED:
                self._replies.popitem(last=False)
            if self._worked is not None:
                self._worked()
        await answer(self._transport, work.delivery, reply)

    def _work(self, run: str, payload: bytes, properties: dict[str, str]) -> bytes:
        try:
            reach = partial(self._blobs, properties.get(BLOBS_PROPERTY))
            packed = opened(payload, reach)
            if isinstance(packed, No):
                raise BadMessage("a site takes messages, not refusals")
            app, context = self._at_hand(run)
            message = unpack(packed)
            self.answered += 1
            reply = run_app(app, message, context)
            stamp(reply)
            return wrapped(pack(reply), reach)[0]
        except FabricError as error:
            return refusal(CRASHED, str(error))

    def _blobs(self, told: str | None) -> Blobs | None:
        return None if told is None or self._reach is None else self._reach(place_in(told))

    def _at_hand(self, run: str) -> tuple[ClientAppCallable, Context]:
        if run not in self._runs:
            self._runs[run] = self._open_run(run)
        self._runs.move_to_end(run)
        if len(self._runs) > RUNS:
            self._runs.popitem(last=False)
        return self._runs[run]


def _run_of(publication: Publication) -> str:
    """The run that a message belongs to.

    Raises:
        BadMessage: it does not say, or says no id.
    """
    try:
        return check_id(dict(publication.user_properties).get(RUN_PROPERTY, ""), what="run")
    except ValueError as error:
        raise BadMessage(f"the user property {RUN_PROPERTY} has to name the run: {error}") from error
