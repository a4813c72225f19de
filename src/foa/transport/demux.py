"""From one MQTT session to many inboxes, by topic filter."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Sequence

from foa.errors import FabricError
from foa.transport.inbox import Inbox, Packet
from foa.transport.matcher import FilterTable, matches
from foa.transport.rules import check_filter
from foa.values.publication import Filter, Publication

log = logging.getLogger(__name__)


class Demultiplexer:
    """Knows the inboxes of a session, what each asked for, and who else asked for the same.

    A packet that no inbox asks for is kept for a while unacknowledged: after a restart the broker sends what waited in the
    session before the program has subscribed again. When its time is over it is acknowledged and counted, so that it cannot
    fill the receive window for ever.
    """

    def __init__(self, *, unclaimed_seconds: float = 10.0) -> None:
        self._table: FilterTable[Inbox] = FilterTable()
        self._asked: dict[str, dict[Inbox, Filter]] = {}
        self._unclaimed: deque[tuple[float, Packet]] = deque()
        self._unclaimed_seconds = unclaimed_seconds
        self._failure: FabricError | None = None
        self.unclaimed = asyncio.Event()  #: set while packets wait for an inbox
        self.strangers = 0  #: publications that arrived and nobody wanted

    def open(self, filters: Sequence[Filter], *, capacity: int) -> Inbox:
        """Make an inbox and lead these filters to it; unclaimed packets that match are put in at once.

        Raises:
            ValueError: a filter is malformed, or is subscribed already on this connection with another `no_local`.
        """
        if not filters:
            raise ValueError("subscribe needs at least one Filter")
        for wanted in filters:
            check_filter(wanted)
            for other in self._asked.get(wanted.topic_filter, {}).values():
                if other.no_local != wanted.no_local:
                    raise ValueError(
                        f"{wanted.topic_filter!r} is subscribed on this connection with no_local={other.no_local}, and MQTT "
                        "keeps one subscription a filter: use the same option or another connection"
                    )
        inbox = Inbox(tuple(filters), capacity=capacity)
        for wanted in inbox.filters:
            self._table.add(wanted.topic_filter, inbox)
            self._asked.setdefault(wanted.topic_filter, {})[inbox] = wanted
        self._claim(inbox)
        if self._failure is not None:
            inbox.close(self._failure)
        return inbox

    def _claim(self, inbox: Inbox) -> None:
        kept: deque[tuple[float, Packet]] = deque()
        for since, packet in self._unclaimed:
            if packet.settled:
                continue
            if any(matches(wanted.topic_filter, packet.publication.topic) for wanted in inbox.filters):
                inbox.put(packet.publication, packet)
            else:
                kept.append((since, packet))
        self._unclaimed = kept

    def close(self, inbox: Inbox) -> list[str]:
        """Forget an inbox.

        Returns:
            The topic filters that nobody asks for any more, to be unsubscribed.
        """
        gone: list[str] = []
        for wanted in inbox.filters:
            self._table.discard(wanted.topic_filter, inbox)
            holders = self._asked.get(wanted.topic_filter)
            if holders is not None and holders.pop(inbox, None) is not None and not holders:
                del self._asked[wanted.topic_filter]
                gone.append(wanted.topic_filter)
        inbox.close()
        now = asyncio.get_running_loop().time()
        abandoned = [packet for parcel in inbox.held if (packet := parcel.packet()) is not None]
        self._leave([(now, packet) for packet in abandoned])
        return gone

    def wanted(self, topic_filter: str) -> Filter | None:
        """What to ask the broker for: the highest QoS that any inbox wants. None: nobody wants it."""
        holders = self._asked.get(topic_filter)
        if not holders:
            return None
        asked = list(holders.values())
        return max(asked, key=lambda wanted: wanted.qos)

    def all_wanted(self) -> list[Filter]:
        """Everything to ask for again when the broker lost the session."""
        return [wanted for topic_filter in self._asked if (wanted := self.wanted(topic_filter)) is not None]

    def deliver(self, publication: Publication, packet: Packet | None) -> None:
        """Put an arrival into every inbox that asked for it, once each."""
        inboxes = self._table.match(publication.topic)
        for inbox in inboxes:
            inbox.put(publication, packet)
        if not inboxes:
            if packet is None:
                self.strangers += 1
            else:
                self._leave([(asyncio.get_running_loop().time(), packet)])

    def _leave(self, packets: Sequence[tuple[float, Packet]]) -> None:
        if packets:
            self._unclaimed.extend(packets)
            self.unclaimed.set()

    def fail(self, failure: FabricError) -> None:
        """The session ended for good: every inbox says so to its reader."""
        self._failure = failure
        for inbox in {inbox for holders in self._asked.values() for inbox in holders}:
            inbox.close(failure)

    def seconds_to_sweep(self) -> float | None:
        """How long the oldest unclaimed packet may still wait; None: there is none."""
        while self._unclaimed and self._unclaimed[0][1].settled:
            self._unclaimed.popleft()
        if not self._unclaimed:
            return None
        return max(0.0, self._unclaimed[0][0] + self._unclaimed_seconds - asyncio.get_running_loop().time())

    def sweep(self) -> list[Awaitable[None]]:
        """Acknowledge what nobody claimed in its time; gives what is to be waited for."""
        waits: list[Awaitable[None]] = []
        while (seconds := self.seconds_to_sweep()) is not None and seconds <= 0:
            _, packet = self._unclaimed.popleft()
            self.strangers += 1
            log.info("nobody claimed a message in its time", extra={"topic": packet.publication.topic})
            if (wait := packet.settle()) is not None:
                waits.append(wait)
        return waits
