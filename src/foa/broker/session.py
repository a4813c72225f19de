"""A client's session (MQTT v5, 4.1): what the broker owes it, and how far each exchange has come.

deliver ──► room and window? ──yes──► inflight ──PUBACK / PUBREC, PUBCOMP──► done
                  │no                    ▲
                  └──► queue ──── pump ──┘

A new connection puts what is in flight back before the queue, to be sent again.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from foa.broker.message import OVERHEAD, Message
from foa.broker.packets import PUBREL, Will, write_acknowledgement
from foa.broker.reason import Reason
from foa.broker.topics import Subscription

if TYPE_CHECKING:
    from foa.broker.shared import Group
    from foa.broker.store import Store

DUP = 0x08


class Outgoing:
    """One message on its way to one session.

    Attributes:
        packet_id: 0 until it is sent the first time.
        sent: on the current connection.
        released: QoS 2, PUBREC has come: PUBREL is what is sent from now on.
        row: its key in the store; 0: not stored.
        group: the shared subscription it came by; None: none.
    """

    __slots__ = ("group", "identifiers", "message", "packet_id", "qos", "released", "retain", "row", "sent", "size")

    def __init__(
        self, message: Message, qos: int, retain: bool, identifiers: bytes, group: "Group | None", size: int
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.group = group
        self.size = size
        self.packet_id = 0
        self.sent = False
        self.released = False
        self.row = 0


class Link(Protocol):
    """A session's connection, as far as the session needs it."""

    room: int  #: bytes it takes before it is full

    def send(self, packet: bytes) -> None:
        """Put a packet out."""
        ...

    def publish(self, message: Message, flags: int, identifiers: bytes, packet_id: int) -> bool:
        """Put a PUBLISH out; False when it is larger than the client takes."""
        ...

    def close(self, reason: Reason, text: str = "") -> None:
        """Send DISCONNECT and end it; the hub has been told before it returns."""
        ...


class Budget:
    """Bytes that all queues of the broker may hold together, and what was dropped for want of them."""

    __slots__ = ("dropped", "each", "inflight", "left")

    def __init__(self, *, total: int, each: int, inflight: int) -> None:
        self.left = total  #: bytes
        self.each = each  #: bytes one session's queue may hold
        self.inflight = inflight  #: bytes one session may have sent and not acknowledged
        self.dropped = 0  #: messages


class Session:
    """The state of one client, over any number of connections."""

    def __init__(self, client_id: str, user: str | None, number: int, budget: Budget, clock: Callable[[], float]) -> None:
        self.client_id = client_id
        self.user = user  #: who it belongs to; None: anonymous
        self.number = number  #: its key in the store, never used twice
        self.clock = clock  #: monotonic seconds
        self.subscriptions: dict[str, Subscription] = {}
        self.link: Link | None = None
        self.inflight: dict[int, Outgoing] = {}
        self.queue: deque[Outgoing] = deque()
        self.queue_bytes = 0
        self.inflight_bytes = 0
        self.window = 0  #: QoS 1 and 2 messages the client takes before it acknowledges (4.9)
        self.received: set[int] = set()  #: QoS 2 packet identifiers the client has not released
        self.expiry_seconds = 0
        self.will: Will | None = None
        self.store: Store | None = None  #: None: it does not outlive the process
        self.readable: Callable[[str], bool] | None = None  #: may it read this topic? None: any
        self._budget = budget
        self._last_id = 0
        self._waiting = 0  # QoS 0 entries of the queue

    # ── towards the client ─────────────────────────────────────────────────────────────────────────────────────────
    @property
    def ready(self) -> bool:
        """Whether it would be sent a QoS 1 message at once."""
        link = self.link
        return link is not None and self.window > 0 and not self.queue and link.room > 0

    def deliver(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: bytes,
        group: "Group | None" = None,
        *,
        patient: bool = False,
    ) -> bool:
        """Send a message now or as soon as the client takes it.

        Args:
            message: what to send.
            qos: as granted, at most as published.
            retain: the RETAIN flag the client sees.
            identifiers: subscription identifiers, encoded.
            group: the shared subscription it comes by.
            patient: a QoS 0 message waits for room too; it is a retained one, which its store holds anyway.

        Returns:
            Whether somebody will get it; False: its queue is full, or it is QoS 0 and the client is away.
        """
        link = self.link
        if qos == 0 and not self._must_wait(link, patient):
            if link is None:
                return False
            if link.room <= 0:
                self._budget.dropped += 1
                return False
            link.publish(message, 0x31 if retain else 0x30, identifiers, 0)
            return True
        outgoing = Outgoing(message, qos, retain, identifiers, group, OVERHEAD if patient else message.size)
        if link is not None and self.window > 0 and not self.queue and link.room > 0 and self._inflight_room():
            outgoing.packet_id = packet_id = self._next_id()
            if self.store is not None:
                self.store.enqueue(self, outgoing)
            self.inflight[packet_id] = outgoing
            self._transmit(link, outgoing, 0)
            return True
        return self._enqueue(outgoing)

    def _must_wait(self, link: Link | None, patient: bool) -> bool:
        """Whether a QoS 0 message is queued: behind a retained one that waits, or being one for which there is no room."""
        if self._waiting:
            return True
        return patient and link is not None and (bool(self.queue) or link.room <= 0)

    def _inflight_room(self) -> bool:
        return self.inflight_bytes < self._budget.inflight

    def _enqueue(self, outgoing: Outgoing) -> bool:
        budget = self._budget
        if self.queue_bytes + outgoing.size > budget.each or outgoing.size > budget.left:
            budget.dropped += 1
            return False
        if self.store is not None and outgoing.qos:
            self.store.enqueue(self, outgoing)
        self._append(outgoing)
        return True

    def _append(self, outgoing: Outgoing) -> None:
        self.queue.append(outgoing)
        self._waiting += outgoing.qos == 0
        self.queue_bytes += outgoing.size
        self._budget.left -= outgoing.size

    def _pop(self) -> Outgoing:
        outgoing = self.queue.popleft()
        self._waiting -= outgoing.qos == 0
        self.queue_bytes -= outgoing.size
        self._budget.left += outgoing.size
        return outgoing

    def _next_id(self) -> int:
        candidate = self._last_id
        while True:
            candidate = candidate % 65_535 + 1
            if candidate not in self.inflight:
                self._last_id = candidate
                return candidate

    def _transmit(self, link: Link, outgoing: Outgoing, flags: int) -> None:
        """Send an entry that is in `inflight`, for the first time or again; counts it in the window."""
        outgoing.sent = True
        self.window -= 1
        self.inflight_bytes += outgoing.size
        if outgoing.released:
            link.send(write_acknowledgement(PUBREL, outgoing.packet_id, 0))
            return
        flags |= 0x30 | outgoing.qos << 1 | outgoing.retain
        if not link.publish(outgoing.message, flags, outgoing.identifiers, outgoing.packet_id):
            self._finish(outgoing.packet_id)  # too large for this client: as if it were done [MQTT-3.1.2-25]

    def pump(self) -> None:
        """Send from the queue while the client takes it."""
        while self.queue and self.link is not None and self.link.room > 0:
            head = self.queue[0]
            if head.qos and (self.window <= 0 or not self._inflight_room()):
                return
            self._send_head(self.link, self._pop())

    def _send_head(self, link: Link, outgoing: Outgoing) -> None:
        if outgoing.packet_id:  # sent on an earlier connection, and again now (4.4)
            if self.inflight.get(outgoing.packet_id) is outgoing:
                self._transmit(link, outgoing, DUP)
        elif outgoing.message.expired(self.clock()):
            self._forget(outgoing)
        elif outgoing.qos == 0:
            link.publish(outgoing.message, 0x30 | outgoing.retain, outgoing.identifiers, 0)
        else:
            outgoing.packet_id = self._next_id()
            self.inflight[outgoing.packet_id] = outgoing
            if self.store is not None:
                self.store.update(self, outgoing)
            self._transmit(link, outgoing, 0)

    # ── from the client ────────────────────────────────────────────────────────────────────────────────────────────
    def acknowledged(self, packet_id: int) -> None:
        """PUBACK, PUBCOMP, or a PUBREC that refuses: the exchange is over. An unknown identifier does nothing."""
        self._finish(packet_id)
        if self.queue:
            self.pump()

    def _finish(self, packet_id: int) -> None:
        outgoing = self.inflight.pop(packet_id, None)
        if outgoing is None:
            return
        if outgoing.sent:
            self.window += 1
            self.inflight_bytes -= outgoing.size
        self._forget(outgoing)

    def _forget(self, outgoing: Outgoing) -> None:
        if outgoing.row and self.store is not None:
            self.store.dequeue(outgoing)

    def accepted(self, packet_id: int) -> bool:
        """PUBREC: the client has the message, so that only PUBREL is ever sent again.

        Returns:
            Whether the identifier was in use.
        """
        outgoing = self.inflight.get(packet_id)
        if outgoing is None or outgoing.qos != 2:
            return False
        if not outgoing.released:
            outgoing.released = True
            if self.store is not None:
                self.store.update(self, outgoing)
        return True

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────────
    def attach(self, link: Link, receive_maximum: int) -> None:
        """Take up a connection. What was in flight goes back before the queue [MQTT-4.4.0-1]; call `pump` to send it."""
        self.link = link
        self.window = receive_maximum
        self.inflight_bytes = 0
        waiting = [entry for entry in self.queue if entry.qos and not entry.packet_id]
        self._clear_queue()
        for outgoing in [*self.inflight.values(), *waiting]:
            outgoing.sent = False
            self._append(outgoing)

    def detach(self) -> None:
        """The connection is gone."""
        self.link = None

    def _clear_queue(self) -> None:
        self._budget.left += self.queue_bytes
        self.queue.clear()
        self.queue_bytes = self._waiting = 0

    def take_shared(self, group: "Group | None" = None) -> Iterator[Outgoing]:
        """Take out what came by a shared subscription and may go to another member (4.8.2).

        A QoS 2 message that was sent stays: only this client may get it [MQTT-4.8.2-4, MQTT-4.8.2-5].

        Args:
            group: only of this one; None: of any.
        """

        def movable(entry: Outgoing) -> bool:
            fits = entry.group is not None if group is None else entry.group is group
            return fits and (entry.qos < 2 or not entry.packet_id)

        moved = [entry for entry in self.inflight.values() if movable(entry)]
        moved += [entry for entry in self.queue if movable(entry) and not entry.packet_id]
        if not moved:
            return
        taken = {id(entry) for entry in moved}
        kept = [entry for entry in self.queue if id(entry) not in taken]
        self._clear_queue()
        for entry in kept:
            self._append(entry)
        for entry in moved:
            self.inflight.pop(entry.packet_id, None)
            self._forget(entry)
            yield entry

    def restore(self, outgoing: Outgoing) -> None:
        """Put an entry read from the store back, in order."""
        if outgoing.packet_id:
            self.inflight[outgoing.packet_id] = outgoing
            self._last_id = outgoing.packet_id
        else:
            self._append(outgoing)

    def end(self) -> None:
        """The session is over: give back what its queue held."""
        self._clear_queue()
        self.inflight.clear()
        self.link = None
