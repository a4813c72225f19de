"""What a subscriber reads from, and what it acknowledges.

broker packet ── Packet ─┬─ Parcel in inbox A ── acknowledge ─┐
                         └─ Parcel in inbox B ── acknowledge ─┴─► last one settles the packet (PUBACK)
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable

from foa.errors import FabricError
from foa.values.publication import Filter, Publication

TURN = 64  #: messages one reader takes before the event loop gets a turn


class Packet(ABC):
    """A QoS 1 packet that the broker wants acknowledged, and how many deliveries still hold it."""

    __slots__ = ("holders", "publication", "settled")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.holders = 0
        self.settled = False

    @abstractmethod
    def acknowledge(self) -> Awaitable[None] | None:
        """Tell the broker. Gives something to wait for, or nothing where it is done already."""

    def release(self) -> Awaitable[None] | None:
        """One delivery is done with it; the last one settles it."""
        self.holders -= 1
        return None if self.holders > 0 else self.settle()

    def settle(self) -> Awaitable[None] | None:
        """Acknowledge it now, whoever still holds it. Again: nothing."""
        if self.settled:
            return None
        self.settled = True
        return self.acknowledge()


class Parcel:
    """A Delivery: one publication in one inbox."""

    __slots__ = ("_inbox", "_packet", "dropped", "publication")

    def __init__(self, publication: Publication, packet: Packet | None, inbox: "Inbox") -> None:
        self.publication = publication
        self.dropped = False  #: pushed out by newer QoS 0 messages before it was read
        self._packet = packet
        self._inbox = inbox

    async def acknowledge(self) -> None:
        """Tell the broker that it is safe: it will not come again. Twice, or for QoS 0: nothing."""
        packet = self._packet
        if packet is None:
            return
        self._packet = None
        self._inbox.held.pop(self, None)
        done = packet.release()
        if done is not None:
            await done

    def packet(self) -> Packet | None:
        """Give the packet it still holds."""
        return self._packet


class Inbox:
    """An async iterator of deliveries. It ends when its `subscribe` block is left.

    QoS 0 messages waiting for the reader are at most `capacity`: the oldest go first and `dropped` counts them. QoS 1
    messages are bounded by the receive window of the session, so none of them is ever dropped.
    """

    __slots__ = (
        "_closed",
        "_failure",
        "_sleepers",
        "_streak",
        "_tombstones",
        "_volatile",
        "_waiting",
        "capacity",
        "dropped",
        "filters",
        "held",
    )

    def __init__(self, filters: tuple[Filter, ...], *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity counts waiting messages: at least 1")
        self.filters = filters
        self.capacity = capacity
        self.dropped = 0  #: QoS 0 messages lost to a slow reader
        self.held: dict[Parcel, None] = {}  #: QoS 1, not acknowledged yet, read or unread
        self._waiting: deque[Parcel] = deque()
        self._volatile: deque[Parcel] = deque()  # the QoS 0 ones among the waiting
        self._tombstones = 0
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._streak = 0
        self._closed = False
        self._failure: FabricError | None = None

    def put(self, publication: Publication, packet: Packet | None) -> None:
        """Hand over one publication."""
        parcel = Parcel(publication, packet, self)
        if packet is None:
            self._make_room()
            self._volatile.append(parcel)
        else:
            packet.holders += 1
            self.held[parcel] = None
        self._waiting.append(parcel)
        if self._sleepers:
            self._wake()

    def _make_room(self) -> None:
        if len(self._volatile) < self.capacity:
            return
        self._volatile.popleft().dropped = True
        self.dropped += 1
        self._tombstones += 1
        if self._tombstones > self.capacity:  # so that a stuck reader's queue stays bounded
            self._waiting = deque(parcel for parcel in self._waiting if not parcel.dropped)
            self._tombstones = 0

    def _wake(self) -> None:
        while self._sleepers:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)
                return

    def __aiter__(self) -> "Inbox":
        return self

    async def __anext__(self) -> Parcel:
        """Wait for the next delivery. Cancelling loses none.

        Raises:
            BrokerUnreachable: the session ended for good.
        """
        self._streak += 1
        if self._streak >= TURN:
            self._streak = 0
            await asyncio.sleep(0)
        while (parcel := self._take()) is None:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            self._streak = 0
            await self._sleep()
        return parcel

    def _take(self) -> Parcel | None:
        while self._waiting:
            parcel = self._waiting.popleft()
            if parcel.dropped:
                self._tombstones -= 1
                continue
            if parcel.packet() is None and self._volatile and self._volatile[0] is parcel:
                self._volatile.popleft()
            return parcel
        return None

    async def _sleep(self) -> None:
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        try:
            await sleeper
        except asyncio.CancelledError:
            if sleeper.done() and not sleeper.cancelled():
                self._wake()  # woken and cancelled at once: another reader takes it
            elif sleeper in self._sleepers:  # a wake between the cancelling and here throws cancelled sleepers away
                self._sleepers.remove(sleeper)
            raise

    def close(self, failure: FabricError | None = None) -> None:
        """End the iteration, for a reason or without one. What waits is still readable after a failure."""
        if failure is None:
            self._waiting.clear()
            self._volatile.clear()
        self._closed = True
        self._failure = failure
        while self._sleepers:
            self._wake()
