"""Sends SUBSCRIBE and UNSUBSCRIBE: in the order they were asked for, many filters a packet, again after a lost session."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from foa.errors import BrokerUnreachable, FabricError
from foa.transport.demux import Demultiplexer
from foa.transport.reasons import reason
from foa.values.publication import Filter

BATCH = 100  #: filters a packet


class LinkDown(Exception):
    """The link broke before the answer came; ask again when it is back. Never leaves the transport."""


class SubscribingWire(Protocol):
    """The client library's side. Both raise LinkDown, after which `link_up` must follow, and TimeoutError."""

    async def send_subscribe(self, filters: Sequence[Filter]) -> Sequence[int]:
        """Wait for SUBACK; gives a reason code a filter."""
        ...

    async def send_unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Wait for UNSUBACK."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Order:
    topic_filter: str
    adds: bool  #: SUBSCRIBE, else UNSUBSCRIBE
    renews: bool  #: after a lost session; `connected` waits for these
    answer: asyncio.Future[None]


class Desk:
    """One loop, `run`, that works off what `subscribe`, `unsubscribe` and `renew` order."""

    def __init__(self, wire: SubscribingWire, demux: Demultiplexer) -> None:
        self._wire = wire
        self._demux = demux
        self._orders: deque[_Order] = deque()
        self._work = asyncio.Event()
        self.linked = asyncio.Event()  #: the link is up
        self.ready = asyncio.Event()  #: and every subscription is there again

    async def subscribe(self, filters: Sequence[Filter]) -> None:
        """Return when the broker granted every filter.

        Raises:
            BrokerUnreachable: it refused one, or the session ended for good.
        """
        orders = [self._order(wanted.topic_filter, adds=True) for wanted in filters]
        await self._all(orders)

    async def unsubscribe(self, topic_filters: Iterable[str]) -> None:
        """Return when the broker confirmed it, or at once without a link. It is done later then, or when cancelled."""
        orders = [self._order(topic_filter, adds=False) for topic_filter in topic_filters]
        if self.linked.is_set():
            await self._all(orders)

    def link_up(self, *, session_present: bool) -> None:
        """The link is back; without its session every subscription is asked for again (3.2.2.1.1)."""
        if not session_present:
            self._renew(self._demux.all_wanted())
        self.linked.set()
        self._check_ready()

    def link_down(self) -> None:
        """The link broke."""
        self.linked.clear()
        self.ready.clear()
        for order in self._orders:
            if not order.adds and not order.answer.done():
                order.answer.set_result(None)  # nobody waits for it; the order stands

    def _renew(self, filters: Sequence[Filter]) -> None:
        # unsubscribing what a lost session had is done already; asking anew for what is still queued would ask twice
        asked = {order.topic_filter for order in self._orders if order.adds}
        self._orders = deque(order for order in self._orders if order.adds)
        for wanted in filters:
            if wanted.topic_filter not in asked:
                self._order(wanted.topic_filter, adds=True, renews=True)

    def _order(self, topic_filter: str, *, adds: bool, renews: bool = False) -> _Order:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        order = _Order(topic_filter=topic_filter, adds=adds, renews=renews, answer=answer)
        self._orders.append(order)
        self._work.set()
        return order

    async def _all(self, orders: Sequence[_Order]) -> None:
        try:
            for order in orders:
                await asyncio.shield(order.answer)
        finally:
            for order in orders:
                order.answer.add_done_callback(_seen)

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self._work.wait()
            await self.linked.wait()
            batch = self._next_batch()
            if batch:
                await self._send(batch)
            self._check_ready()

    def _next_batch(self) -> list[_Order]:
        batch: list[_Order] = []
        named: set[str] = set()
        while self._orders and len(batch) < BATCH:
            order = self._orders[0]
            if batch and (order.adds != batch[0].adds):
                break
            self._orders.popleft()
            # somebody else may want it again, or nobody any more
            if (self._demux.wanted(order.topic_filter) is not None) != order.adds or order.topic_filter in named:
                self._settle_with(order, batch)
                continue
            named.add(order.topic_filter)
            batch.append(order)
        if not self._orders:
            self._work.clear()
        return batch

    def _settle_with(self, order: _Order, batch: Sequence[_Order]) -> None:
        """Answer an order that needs no packet of its own: at once, or as the one in this batch that does the same."""
        same = next(
            (other for other in batch if other.topic_filter == order.topic_filter and other.adds == order.adds), None
        )
        if same is None:
            if not order.answer.done():
                order.answer.set_result(None)
        else:
            same.answer.add_done_callback(lambda answer: _copy(answer, order.answer))

    async def _send(self, batch: list[_Order]) -> None:
        try:
            if batch[0].adds:
                filters = [self._demux.wanted(o.topic_filter) or Filter(topic_filter=o.topic_filter) for o in batch]
                codes = await self._wire.send_subscribe(filters)
            else:
                await self._wire.send_unsubscribe([order.topic_filter for order in batch])
                codes = [0] * len(batch)
        except LinkDown:
            self._put_back(batch)
            self.link_down()  # at once: the library may tell it a turn later
            return
        except TimeoutError:
            self._put_back(batch)
            return
        for order, code in zip(batch, codes, strict=True):
            if order.answer.done():
                continue
            if code < 0x80:
                order.answer.set_result(None)
            else:
                order.answer.set_exception(
                    BrokerUnreachable(f"the broker refused the subscription to {order.topic_filter!r}: {reason(code)}")
                )
                order.answer.add_done_callback(_seen)

    def _put_back(self, batch: Sequence[_Order]) -> None:
        self._orders.extendleft(reversed(batch))
        self._work.set()

    def _check_ready(self) -> None:
        if self.linked.is_set() and not any(order.renews for order in self._orders):
            self.ready.set()

    def fail(self, failure: FabricError) -> None:
        """The session ended for good: nobody waits any longer."""
        for order in self._orders:
            if not order.answer.done():
                order.answer.set_exception(failure)
                order.answer.add_done_callback(_seen)
        self._orders.clear()
        self.linked.set()
        self.ready.set()


def _seen(answer: "asyncio.Future[None]") -> None:
    if not answer.cancelled():
        answer.exception()  # its asker was cancelled, or it renews what nobody waits for


def _copy(source: "asyncio.Future[None]", target: "asyncio.Future[None]") -> None:
    if target.done():
        return
    error = source.exception()
    if error is None:
        target.set_result(None)
    else:
        target.set_exception(error)
        target.add_done_callback(_seen)
