"""A broker in one process: what `MemoryTransport` connects to.

Sessions by client id, retained messages, wills, shared subscriptions, message expiry, no local, receive windows. A publish
is delivered inside the call: no task, no timer, no copy of what need not change.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from foa.transport.inbox import Packet
from foa.transport.matcher import FilterTable
from foa.values.publication import Filter, Publication, QoS

log = logging.getLogger(__name__)

MAX_QUEUED = 100_000  #: messages kept for one session that is away or behind its window
SWEEP = 1_024  #: fewest sessions, or retained messages, that are looked through for expired ones


class Link(Protocol):
    """The connected end of a session."""

    def arrive(self, publication: Publication, packet: Packet | None) -> None:
        """Take one message."""
        ...

    def taken_over(self) -> None:
        """Somebody else connected with the same client id (3.1.4-3)."""
        ...


class HubPacket(Packet):
    """A QoS 1 message in a session's window."""

    __slots__ = ("_session",)

    def __init__(self, publication: Publication, session: "Session") -> None:
        super().__init__(publication)
        self._session = session

    def acknowledge(self) -> None:
        """Free its place in the window at once."""
        self._session.acknowledged(self)


class Subscription:
    """One filter of one session."""

    __slots__ = ("filter", "group", "session")

    def __init__(self, session: "Session", wanted: Filter) -> None:
        self.session = session
        self.filter = wanted
        # of `$share/{group}/{filter}`: members of the same group and filter take turns
        self.group = wanted.topic_filter if wanted.topic_filter.startswith("$share/") else ""


class Session:
    """What the hub keeps of a client while it is connected and for a while after."""

    __slots__ = (
        "_clock",
        "client_id",
        "dropped",
        "expires_at",
        "inflight",
        "link",
        "queue",
        "receive_maximum",
        "subscriptions",
        "will",
    )

    def __init__(self, client_id: str, clock: Callable[[], float]) -> None:
        self.client_id = client_id
        self.subscriptions: dict[str, Subscription] = {}
        self.link: Link | None = None
        self.will: Publication | None = None
        self.receive_maximum = 1
        self.inflight: dict[HubPacket, None] = {}
        self.queue: deque[tuple[Publication, float]] = deque()  # with the moment it came
        self.expires_at = float("inf")
        self.dropped = 0  #: messages lost because the queue was full
        self._clock = clock

    def accept(self, publication: Publication, qos: QoS) -> None:
        """Take one message for this client, now or when there is room."""
        if qos == 0:
            if self.link is not None:
                self.link.arrive(publication, None)
        elif self.link is not None and not self.queue and len(self.inflight) < self.receive_maximum:
            self._send(publication)
        else:
            if len(self.queue) >= MAX_QUEUED:
                self.queue.popleft()
                self.dropped += 1
            self.queue.append((publication, self._clock()))

    def _send(self, publication: Publication) -> None:
        packet = HubPacket(publication, self)
        self.inflight[packet] = None
        if self.link is not None:
            self.link.arrive(publication, packet)

    def acknowledged(self, packet: HubPacket) -> None:
        """One place in the window is free."""
        self.inflight.pop(packet, None)
        if self.queue:
            self.pump()

    def pump(self) -> None:
        """Send what waited, as far as the window goes, without what expired meanwhile (3.3.2.3.3)."""
        while self.queue and self.link is not None and len(self.inflight) < self.receive_maximum:
            publication, since = self.queue.popleft()
            left = aged(publication, self._clock() - since)
            if left is not None:
                self._send(left)

    def resume(self) -> None:
        """A new link took the session up: what was not acknowledged comes again, then what waited."""
        again = [packet.publication for packet in self.inflight if not packet.settled]
        self.inflight.clear()
        for publication in again:
            self._send(publication)
        self.pump()


def aged(publication: Publication, seconds: float) -> Publication | None:
    """Give the message with what is left of its expiry interval; None when nothing is left."""
    expiry = publication.message_expiry_interval
    if expiry is None or seconds < 1 <= expiry:
        return publication
    if seconds >= expiry:
        return None
    return _changed(publication, retain=publication.retain, qos=publication.qos, expiry=expiry - int(seconds))


def _changed(publication: Publication, *, retain: bool, qos: QoS, expiry: int | None) -> Publication:
    return Publication(
        topic=publication.topic,
        payload=publication.payload,
        qos=qos,
        retain=retain,
        message_expiry_interval=expiry,
        response_topic=publication.response_topic,
        correlation_data=publication.correlation_data,
        content_type=publication.content_type,
        user_properties=publication.user_properties,
    )


class MemoryHub:
    """The broker. Make one, give it to every `MemoryTransport`.

    Args:
        monotonic: seconds that never go back, for expiry; a test may pass its own.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = monotonic
        self._sessions: dict[str, Session] = {}
        self._table: FilterTable[Subscription] = FilterTable()
        self._retained: dict[str, tuple[Publication, float]] = {}
        self._turns: dict[str, itertools.count[int]] = {}
        self._sweep_at = [SWEEP, SWEEP]  # how many sessions and retained messages before the next look at what expired
        self.published = 0  #: messages taken since the start

    @property
    def kept(self) -> tuple[int, int]:
        """How many sessions and retained messages it keeps."""
        return len(self._sessions), len(self._retained)

    def _sweep(self) -> None:
        """Drop what expired, once its number has doubled since the last time: nobody may ever ask for it again."""
        now = self._clock()
        if len(self._sessions) >= self._sweep_at[0]:
            for client_id in [name for name, one in self._sessions.items() if one.link is None and one.expires_at <= now]:
                self.forget(client_id)
            self._sweep_at[0] = max(SWEEP, 2 * len(self._sessions))
        if len(self._retained) >= self._sweep_at[1]:
            for topic in [topic for topic, (one, since) in self._retained.items() if aged(one, now - since) is None]:
                del self._retained[topic]
            self._sweep_at[1] = max(SWEEP, 2 * len(self._retained))

    # ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def connect(self, client_id: str, link: Link, *, will: Publication | None, receive_maximum: int) -> tuple[Session, bool]:
        """Take up a session, or begin one.

        Returns:
            The session, and whether it was there already (Session Present, 3.2.2.1.1).
        """
        self._sweep()
        session = self._sessions.get(client_id)
        if session is not None and session.link is None and session.expires_at <= self._clock():
            self.forget(client_id)
            session = None
        present = session is not None
        if session is None:
            session = self._sessions[client_id] = Session(client_id, self._clock)
        elif session.link is not None:
            session.link.taken_over()
            self.disconnect(session, clean=False, session_expiry_interval=0xFFFFFFFF)
        session.link = link
        session.will = will
        session.receive_maximum = receive_maximum
        return session, present

    def disconnect(self, session: Session, *, clean: bool, session_expiry_interval: int) -> None:
        """The client left (clean), or its link broke: then its will is published (3.1.2.5)."""
        session.link = None
        will, session.will = session.will, None
        session.expires_at = self._clock() + session_expiry_interval
        if session_expiry_interval == 0:
            self.forget(session.client_id)
        if will is not None and not clean:
            self.publish(will, publisher=session)

    def forget(self, client_id: str) -> None:
        """Lose a session: its subscriptions, its queue and its window."""
        session = self._sessions.get(client_id)
        if session is None:
            return
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)
        session.inflight.clear()
        session.queue.clear()
        if session.link is None:
            del self._sessions[client_id]

    def subscribe(self, session: Session, wanted: Filter) -> None:
        """Add or replace one subscription; retained messages that match are sent (3.3.1.3)."""
        self.unsubscribe(session, wanted.topic_filter)
        subscription = Subscription(session, wanted)
        session.subscriptions[wanted.topic_filter] = subscription
        self._table.add(wanted.topic_filter, subscription)
        if not subscription.group:
            for publication in self._retained_for(wanted.topic_filter):
                qos: QoS = 1 if wanted.qos and publication.qos else 0
                session.accept(_with_qos(publication, qos), qos)

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """Take one subscription away."""
        subscription = session.subscriptions.pop(topic_filter, None)
        if subscription is not None:
            self._table.discard(topic_filter, subscription)

    def _retained_for(self, topic_filter: str) -> Iterable[Publication]:
        wild = "+" in topic_filter or "#" in topic_filter
        wanted: FilterTable[bool] = FilterTable()
        wanted.add(topic_filter, True)
        for topic in list(self._retained) if wild else [topic_filter]:
            found = self._retained.get(topic)
            if found is None or not wanted.match(topic):
                continue
            publication = aged(found[0], self._clock() - found[1])
            if publication is None:
                del self._retained[topic]
            else:
                yield publication

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def publish(self, publication: Publication, *, publisher: Session | None = None) -> None:
        """Route one message to every session that asked for it, once each."""
        self.published += 1
        if publication.retain:
            self._retain(publication)
            publication = _changed(
                publication, retain=False, qos=publication.qos, expiry=publication.message_expiry_interval
            )
        subscriptions = self._table.match(publication.topic)
        if len(subscriptions) == 1 and not subscriptions[0].group:
            self._send(subscriptions[0], publication, publisher)
        elif subscriptions:
            for subscription in self._one_each(subscriptions, publisher):
                self._send(subscription, publication, publisher)

    def _retain(self, publication: Publication) -> None:
        if publication.payload:
            self._sweep()
            self._retained[publication.topic] = (publication, self._clock())
        else:
            self._retained.pop(publication.topic, None)

    def _send(self, subscription: Subscription, publication: Publication, publisher: Session | None) -> None:
        session = subscription.session
        if subscription.filter.no_local and session is publisher:
            return
        qos: QoS = 1 if subscription.filter.qos and publication.qos else 0
        session.accept(publication if qos == publication.qos else _with_qos(publication, qos), qos)

    def _one_each(self, subscriptions: Iterable[Subscription], publisher: Session | None) -> Iterable[Subscription]:
        best: dict[Session, Subscription] = {}
        groups: dict[str, list[Subscription]] = {}
        for subscription in subscriptions:
            if subscription.group:
                groups.setdefault(subscription.group, []).append(subscription)
                continue
            if subscription.filter.no_local and subscription.session is publisher:
                continue
            other = best.get(subscription.session)
            if other is None or other.filter.qos < subscription.filter.qos:
                best[subscription.session] = subscription
        yield from best.values()
        for group, members in groups.items():
            yield self._next_member(group, members)

    def _next_member(self, group: str, members: list[Subscription]) -> Subscription:
        awake = [member for member in members if member.session.link is not None] or members
        turn = next(self._turns.setdefault(group, itertools.count()))
        return awake[turn % len(awake)]


def _with_qos(publication: Publication, qos: QoS) -> Publication:
    if publication.qos == qos:
        return publication
    return _changed(publication, retain=publication.retain, qos=qos, expiry=publication.message_expiry_interval)
