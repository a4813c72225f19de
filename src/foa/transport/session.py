"""What every adapter on a real broker shares: inboxes, subscriptions that come back, packets acknowledged once.

client library ── take(…) ─► Demultiplexer ─► inboxes
Desk ─► send_subscribe / send_unsubscribe ─► client library
three named tasks: link (the adapter's) · subscriptions · unclaimed
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from foa.errors import BrokerUnreachable
from foa.transport.address import Address, parse_address
from foa.transport.demux import Demultiplexer
from foa.transport.desk import Desk
from foa.transport.inbox import Inbox
from foa.transport.reasons import BAD_CREDENTIALS, reason
from foa.transport.rules import check_publication
from foa.values.publication import Filter, Publication

UNSUBSCRIBE_SECONDS = 2.0  #: how long leaving a `subscribe` block waits for UNSUBACK; it is asked for later all the same


class BrokerSession(ABC):
    """Base of the adapters over MQTT. The life of one session, from `async with` to DISCONNECT."""

    def __init__(
        self, address: Address | str, *, client_id: str, will: Publication | None, unclaimed_seconds: float
    ) -> None:
        if not client_id:
            raise ValueError("a session needs a client id of its own: the broker keeps its messages under it")
        if will is not None:
            check_publication(will)
        self._address = parse_address(address) if isinstance(address, str) else address
        self._client_id = client_id
        self._demux = Demultiplexer(unclaimed_seconds=unclaimed_seconds)
        self._desk = Desk(self, self._demux)
        self._failure: BrokerUnreachable | None = None
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []

    # ── what an adapter adds ───────────────────────────────────────────────────────────────────────────────────────────
    @abstractmethod
    async def open_link(self) -> None:
        """Connect for the first time, at once or never.

        Raises:
            BrokerUnreachable: nobody answers, or it refused.
        """

    @abstractmethod
    async def close_link(self, *, with_will: bool) -> None:
        """DISCONNECT; with reason 0x04 where the will is to be published (3.14.2.1)."""

    @abstractmethod
    async def run_link(self) -> None:
        """Hand arrivals on and keep the link up; return when the session ended for good."""

    @abstractmethod
    async def publish(self, publication: Publication) -> None:
        """See `foa.ports.Transport.publish`."""

    @abstractmethod
    async def send_subscribe(self, filters: Sequence[Filter]) -> Sequence[int]:
        """See `desk.SubscribingWire`."""

    @abstractmethod
    async def send_unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """See `desk.SubscribingWire`."""

    # ── life ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def __aenter__(self) -> Self:
        await self.open_link()
        await self._tasks.__aenter__()
        for name, loop in (
            ("link", self.run_link()),
            ("subscriptions", self._desk.run()),
            ("unclaimed", self._sweep()),
        ):
            self._loops.append(self._tasks.create_task(loop, name=f"{name}[{self._client_id}]"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        await self._end_loops()
        # an error of the body goes on as it is, where the group would wrap it; a cancellation the group must see
        seen = (kind, error, trace) if cancelled else (None, None, None)
        try:
            await self._tasks.__aexit__(*seen)
        finally:
            self.fail(BrokerUnreachable(f"the transport of {self._client_id!r} is closed"))
            await self.close_link(with_will=error is not None and not cancelled)

    async def _end_loops(self) -> None:
        running = set(self._loops)
        while running:
            for loop in running:
                loop.cancel()
            # again until it works: before Python 3.12 `wait_for`, which the library uses, may lose a cancellation
            _, running = await asyncio.wait(running, timeout=0.1)

    @asynccontextmanager
    async def subscribe(self, *filters: Filter, capacity: int = 1024) -> AsyncGenerator[Inbox, None]:
        """See `foa.ports.Transport.subscribe`.

        A filter that another inbox of this connection has already is asked for again, so that this inbox gets the
        retained messages too; the other one may then see them twice (at least once).
        """
        if self._failure is not None:
            raise self._failure
        inbox = self._demux.open(filters, capacity=capacity)
        try:
            await self._desk.subscribe(filters)
            yield inbox
        finally:
            gone = self._demux.close(inbox)
            if gone and self._failure is None:
                with contextlib.suppress(TimeoutError, BrokerUnreachable):
                    async with asyncio.timeout(UNSUBSCRIBE_SECONDS):
                        await self._desk.unsubscribe(gone)

    async def connected(self) -> None:
        """Return when the link is up and every subscription is there.

        Raises:
            BrokerUnreachable: the session ended for good.
        """
        await self._desk.ready.wait()
        if self._failure is not None:
            raise self._failure

    async def _sweep(self) -> None:
        while True:
            await self._demux.unclaimed.wait()
            while (seconds := self._demux.seconds_to_sweep()) is not None:
                await asyncio.sleep(seconds)
                for wait in self._demux.sweep():
                    await wait
            self._demux.unclaimed.clear()

    def fail(self, failure: BrokerUnreachable) -> None:
        """The session ended for good: say so to everyone who waits."""
        if self._failure is None:
            self._failure = failure
            self._demux.fail(failure)
            self._desk.fail(failure)

    # ── sentences ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def unreachable(self, why: object) -> BrokerUnreachable:
        """Nobody answers there."""
        return BrokerUnreachable(
            f"no MQTT broker at {self._address}: {why}. Start one with `foa broker --port {self._address.port}`, "
            "or give the address of one that runs"
        )

    def refused(self, code: int) -> BrokerUnreachable:
        """It answered, and would not."""
        hint = "check USER and PASSWORD in mqtt://USER:PASSWORD@HOST" if code in BAD_CREDENTIALS else "see its log"
        return BrokerUnreachable(f"the broker at {self._address} refused {self._client_id!r}: {reason(code)}; {hint}")
