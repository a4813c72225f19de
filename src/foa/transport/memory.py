"""The Transport port inside one process, for tests, trials and federations that need no network."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType

from foa.errors import BrokerUnreachable
from foa.transport.demux import Demultiplexer
from foa.transport.hub import MemoryHub, Session
from foa.transport.inbox import TURN, Inbox, Packet
from foa.transport.rules import check_publication
from foa.values.publication import Filter, Publication

__all__ = ["MemoryHub", "MemoryTransport"]


class MemoryTransport:
    """A Transport over a `MemoryHub`: `async with MemoryTransport(hub, client_id="a7") as transport: ...`.

    Args:
        hub: the broker of this process.
        client_id: whose session it is; an open transport with the same one is pushed out.
        will: published by the hub when this end is cut off rather than left.
        receive_maximum: QoS 1 messages not yet acknowledged, at most (3.1.2.11.3).
        session_expiry_interval: seconds the hub keeps the session after the link ends (3.1.2.11.2).
    """

    def __init__(
        self,
        hub: MemoryHub,
        *,
        client_id: str,
        will: Publication | None = None,
        receive_maximum: int = 65_535,
        session_expiry_interval: int = 3_600,
    ) -> None:
        if will is not None:
            check_publication(will)
        self._hub = hub
        self._client_id = client_id
        self._will = will
        self._receive_maximum = receive_maximum
        self._session_expiry_interval = session_expiry_interval
        self._demux = Demultiplexer()
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._failure: BrokerUnreachable | None = None
        self._streak = 0
        self._stale: set[str] = set()

    async def __aenter__(self) -> "MemoryTransport":
        self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and self._session.link is self:
            clean = error is None or isinstance(error, asyncio.CancelledError)
            self._hub.disconnect(self._session, clean=clean, session_expiry_interval=self._session_expiry_interval)
        self._fail(BrokerUnreachable(f"the transport of {self._client_id!r} is closed"))

    def _connect(self) -> None:
        held = self._session
        self._session, present = self._hub.connect(
            self._client_id, self, will=self._will, receive_maximum=self._receive_maximum
        )
        self._up.set()
        if not present:
            for wanted in self._demux.all_wanted():
                self._hub.subscribe(self._session, wanted)
        self._unsubscribe_stale()
        if held is self._session:
            self._session.pump()  # this end still holds what is not acknowledged
        else:
            self._session.resume()

    # ── the port ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def publish(self, publication: Publication) -> None:
        """See `foa.ports.Transport.publish`."""
        check_publication(publication)
        if self._failure is not None or not self._up.is_set():
            await self.connected()
        self._hub.publish(publication, publisher=self._session)
        self._streak += 1
        if self._streak >= TURN:  # so that a loop of publishes lets readers run
            self._streak = 0
            await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribe(self, *filters: Filter, capacity: int = 1024) -> AsyncGenerator[Inbox, None]:
        """See `foa.ports.Transport.subscribe`."""
        await self.connected()
        inbox = self._demux.open(filters, capacity=capacity)
        try:
            if self._session is not None:
                for wanted in filters:
                    self._hub.subscribe(self._session, self._demux.wanted(wanted.topic_filter) or wanted)
            yield inbox
        finally:
            self._stale.update(self._demux.close(inbox))
            self._unsubscribe_stale()

    def _unsubscribe_stale(self) -> None:
        """Tell the hub what nobody wants any more; without a link, when it is back."""
        session = self._session
        if session is None or session.link is not self:
            return
        for topic_filter in self._stale:
            if self._demux.wanted(topic_filter) is None:
                self._hub.unsubscribe(session, topic_filter)
        self._stale.clear()

    async def connected(self) -> None:
        """See `foa.ports.Transport.connected`.

        Raises:
            BrokerUnreachable: the session ended for good: closed, or taken over by another with its client id.
        """
        await self._up.wait()
        if self._failure is not None:
            raise self._failure

    # ── the hub's side ─────────────────────────────────────────────────────────────────────────────────────────────────
    def arrive(self, publication: Publication, packet: Packet | None) -> None:
        """Take one message from the hub."""
        self._demux.deliver(publication, packet)
        if self._demux.unclaimed.is_set():
            self._demux.sweep()

    def taken_over(self) -> None:
        """Somebody else connected with this client id."""
        self._fail(BrokerUnreachable(f"another connection took over the client id {self._client_id!r}: give each its own"))

    def _fail(self, failure: BrokerUnreachable) -> None:
        self._failure = failure
        self._demux.fail(failure)
        self._up.set()

    # ── for tests of what happens when a network fails ─────────────────────────────────────────────────────────────────
    def cut(self) -> None:
        """Break the link as a network would: the will is published, publishes wait, messages wait in the session."""
        if self._session is not None and self._session.link is self:
            self._up.clear()
            self._hub.disconnect(self._session, clean=False, session_expiry_interval=self._session_expiry_interval)

    def restore(self) -> None:
        """Mend a cut link."""
        if self._failure is None and not self._up.is_set():
            self._connect()
