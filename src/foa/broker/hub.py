"""The broker without its sockets: sessions, subscriptions, retained messages, wills; who gets what."""

import logging
import secrets
from collections.abc import Callable
from typing import Protocol

from foa.broker.acl import WRITE, AccessControl, Permissions
from foa.broker.config import BrokerLimits
from foa.broker.message import Message
from foa.broker.packets import Connect, Will
from foa.broker.reason import PacketError, Reason
from foa.broker.retained import Retained
from foa.broker.router import Route, Router
from foa.broker.session import Budget, Link, Outgoing, Session
from foa.broker.shared import encode_identifier
from foa.broker.store import SavedSession, Store
from foa.broker.topics import Subscription, read_subscription

log = logging.getLogger(__name__)

FOR_EVER = 0xFFFFFFFF  #: session expiry interval that never passes (3.1.2.11.2)
#: how long clients have to come back after a restart before their wills are sent (3.1.2.5 lets a server defer them)
RESTART_GRACE_SECONDS = 10.0
RESERVED = b"$SYS"  #: topics under it are the broker's own (4.7.2)


class Timer(Protocol):
    """What `loop.call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Hub:
    """State of one broker.

    Args:
        limits: what it holds at most.
        acl: who may do what; None: everyone everything.
        store: where durable sessions and retained messages are kept; None: nowhere.
        clock: monotonic seconds.
        later: call a function after so many seconds.
    """

    def __init__(
        self,
        *,
        limits: BrokerLimits,
        acl: AccessControl | None,
        store: Store | None,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.router = Router(cache=limits.routes)
        self.retained = Retained(limit=limits.retained_bytes)
        self.sessions: dict[str, Session] = {}
        self.budget = Budget(
            total=limits.queue_bytes, each=limits.session_queue_bytes, inflight=limits.session_inflight_bytes
        )
        self.messages_received = 0
        self.messages_sent = 0
        self._acl = acl
        self._store = store
        self._later = later
        self._permissions: dict[Session, Permissions] = {}
        self._expiry: dict[Session, Timer] = {}
        self._wills: dict[Session, Timer] = {}
        self._numbers = 0
        self.stopping = False  #: the broker ends; what durable sessions would do now, they do after its restart

    # ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────
    def enter(self, connect: Connect, user: str | None, link: Link) -> tuple[Session, bool]:
        """Give a connection its session, a new one or the one it left (3.1.2.4).

        A connection that holds the session is closed first, with reason 0x8E [MQTT-3.1.4-3].

        Args:
            connect: with the client id filled in.
            user: verified user name; None: anonymous.
            link: the new connection.

        Returns:
            The session, and whether it was there before (Session Present).

        Raises:
            PacketError: the session is another user's (0x87), or there are too many (0x97).
        """
        session = self.sessions.get(connect.client_id)
        if session is not None:
            self._take_over(session, connect, user)
            session = self.sessions.get(connect.client_id)
        present = session is not None
        if session is None:
            session = self._begin(connect.client_id, user)
        self._stop_timers(session)
        session.expiry_seconds = min(connect.session_expiry_seconds, self.limits.session_expiry_seconds)
        session.will = connect.will
        if self._store is not None and (session.expiry_seconds or session.store is not None):
            session.store = self._store
            self._store.save_session(session, gone=False)
        session.attach(link, connect.receive_maximum)
        return session, present

    def _take_over(self, session: Session, connect: Connect, user: str | None) -> None:
        if session.user != user:
            raise PacketError(Reason.NOT_AUTHORIZED, "this client identifier belongs to another user")
        link = session.link
        if link is not None:
            link.close(Reason.SESSION_TAKEN_OVER)
        if connect.clean_start and self.sessions.get(session.client_id) is session:
            self.end(session)

    def _begin(self, client_id: str, user: str | None) -> Session:
        if len(self.sessions) >= self.limits.sessions:
            raise PacketError(Reason.QUOTA_EXCEEDED, f"the broker holds {self.limits.sessions} sessions")
        if self._store is not None:
            number = self._store.next_session()
        else:
            self._numbers += 1
            number = self._numbers
        return self._add(Session(client_id, user, number, self.budget, self.clock))

    def _add(self, session: Session) -> Session:
        self.sessions[session.client_id] = session
        if self._acl is not None:
            permissions = self._permissions[session] = self._acl.of(session.user, session.client_id)
            session.readable = permissions.may_read
        return session

    def connected(self, client_id: str) -> bool:
        """Whether a client has a connection, which a new one would replace."""
        session = self.sessions.get(client_id)
        return session is not None and session.link is not None

    @staticmethod
    def new_client_id() -> str:
        """A client identifier for a client without one [MQTT-3.1.3-6]; nobody can guess it."""
        return f"auto-{secrets.token_hex(8)}"

    def leave(self, session: Session, link: Link, *, with_will: bool) -> None:
        """A connection is gone. The session ends, or waits for its expiry; the will is sent, now or after its delay.

        Args:
            session: whose connection it was.
            link: the connection; nothing happens if the session has another by now.
            with_will: False after a normal DISCONNECT [MQTT-3.14.4-3].
        """
        if session.link is not link:
            return
        session.detach()
        if not with_will:
            session.will = None
        if self.stopping and session.store is not None and session.expiry_seconds:
            session.store.save_session(session, gone=True)
            return
        if session.expiry_seconds == 0:
            self.end(session)
            return
        if session.store is not None:
            session.store.save_session(session, gone=True)
        self._pass_on(session, anyone=False)
        self._start_timers(session, session.expiry_seconds)

    def _start_timers(self, session: Session, seconds: float, *, grace: float = 0.0) -> None:
        """Let a session without a connection expire, and its will be sent, after `grace` seconds at the earliest."""
        if session.expiry_seconds != FOR_EVER:
            self._expiry[session] = self._later(seconds, lambda: self.end(session))
        will = session.will
        if will is None:
            return
        delay = min(max(will.delay_seconds, grace), seconds)
        if delay:
            self._wills[session] = self._later(delay, lambda: self.send_will(session))
        else:
            self.send_will(session)

    def _stop_timers(self, session: Session) -> None:
        for timers in (self._expiry, self._wills):
            timer = timers.pop(session, None)
            if timer is not None:
                timer.cancel()

    def end(self, session: Session) -> None:
        """Forget a session: its will is sent, what others of a shared subscription may have goes to them."""
        self._stop_timers(session)
        self.send_will(session)
        self._pass_on(session, anyone=True)
        for filter_ in list(session.subscriptions):
            self.router.unsubscribe(session, filter_)
        if session.store is not None:
            session.store.end_session(session)
        session.end()
        self._permissions.pop(session, None)
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]

    @staticmethod
    def _pass_on(session: Session, *, anyone: bool) -> None:
        """Give messages of shared subscriptions to other members; `anyone`: also to one that is away."""
        groups = {entry.group for entry in [*session.inflight.values(), *session.queue] if entry.group is not None}
        for group in groups:
            if anyone or group.online:
                for outgoing in list(session.take_shared(group)):
                    group.pass_on(outgoing, leaving=session)

    def send_will(self, session: Session) -> None:
        """Publish a session's will, once [MQTT-3.1.2-8]."""
        self._wills.pop(session, None)
        will, session.will = session.will, None
        if will is None:
            return
        if session.store is not None:
            session.store.save_session(session, gone=True)
        if self.may_write(session, will.topic.decode()):
            self.publish(self.will_message(will), self.router.route(will.topic), session)

    def will_message(self, will: Will) -> Message:
        """The publication a will becomes."""
        expires_at = None if will.expiry_seconds is None else self.clock() + will.expiry_seconds
        return Message(will.topic, will.payload, will.properties, will.qos, will.retain, expires_at)

    def stop(self) -> None:
        """Let go of every timer: the broker ends, its durable sessions do not."""
        for session in list(self.sessions.values()):
            self._stop_timers(session)

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────
    def may_write(self, session: Session, topic: str) -> bool:
        """Whether a session may publish to a topic name."""
        if topic.startswith("$SYS"):
            return False
        permissions = self._permissions.get(session)
        return permissions is None or permissions.allow(topic, WRITE)

    def publish(self, message: Message, route: Route, sender: Session | None) -> Reason:
        """Deliver a message, and keep it if it is to be retained.

        Returns:
            SUCCESS, NO_MATCHING_SUBSCRIBERS, or QUOTA_EXCEEDED: there was no room to keep it, or in none of the queues it
            was for.
        """
        if message.retain and not self.retain(route.topic, message):
            return Reason.QUOTA_EXCEEDED
        taken = refused = False
        for target in route.targets:
            session = target.session
            if session is sender:
                if target.own is None:
                    continue
                target = target.own
            qos = target.qos if target.qos < message.qos else message.qos
            retain = message.retain and target.retain_as_published
            if session.deliver(message, qos, retain, target.identifiers):
                taken = True
            elif qos:
                refused = True
        for group in route.groups:
            if group.dispatch(message, message.qos):
                taken = True
            elif message.qos:
                refused = True
        if taken:
            return Reason.SUCCESS
        return Reason.QUOTA_EXCEEDED if refused else Reason.NO_MATCHING_SUBSCRIBERS

    def retain(self, topic: str, message: Message) -> bool:
        """Keep a message as its topic's; returns whether there was room."""
        if not self.retained.set(topic, message):
            return False
        if self._store is not None and not message.topic.startswith(RESERVED):
            self._store.retain(message.topic, message if message.payload else None)
        return True

    def forget_expired(self) -> None:
        """Drop retained messages that have expired."""
        for topic in self.retained.expired(self.clock()):
            self.retained.remove(topic)
            if self._store is not None:
                self._store.retain(topic.encode(), None)

    # ── subscriptions ──────────────────────────────────────────────────────────────────────────────────────────────
    def subscribe(self, session: Session, subscription: Subscription) -> tuple[Reason, bool]:
        """Add a subscription.

        Returns:
            The reason code of its SUBACK, and whether to call `send_waiting` after the SUBACK.
        """
        permissions = self._permissions.get(session)
        if permissions is not None and not permissions.may_subscribe(subscription.topic_filter):
            return Reason.NOT_AUTHORIZED, False
        new = subscription.filter not in session.subscriptions
        if new and len(session.subscriptions) >= self.limits.subscriptions:
            return Reason.QUOTA_EXCEEDED, False
        self.router.subscribe(session, subscription)
        if session.store is not None:
            session.store.subscribe(session, subscription)
        wanted = bool(subscription.share) or subscription.retain_handling == 0 or (subscription.retain_handling == 1 and new)
        return Reason(subscription.qos), wanted

    def send_waiting(self, session: Session, subscription: Subscription) -> None:
        """Send what was there before the subscription: retained messages; if it is shared, what lost members hold."""
        if subscription.share:
            self._adopt(session, subscription)
        else:
            self._send_retained(session, subscription)

    def _adopt(self, session: Session, subscription: Subscription) -> None:
        group = self.router.group(subscription.filter, subscription.topic_filter, subscription.share)
        if group is not None:
            group.adopt(session)

    def resume(self, session: Session) -> None:
        """A session that was away is back: its shared subscriptions take over what other lost members hold."""
        for subscription in session.subscriptions.values():
            if subscription.share:
                self._adopt(session, subscription)

    def _send_retained(self, session: Session, subscription: Subscription) -> None:
        """Send the retained messages a new subscription matches, with RETAIN set [MQTT-3.3.1-8]."""
        identifiers = encode_identifier(subscription.identifier)
        now = self.clock()
        for message in self.retained.match(subscription.topic_filter):
            if message.expired(now) or not (session.readable is None or session.readable(message.topic.decode())):
                continue
            session.deliver(message, min(message.qos, subscription.qos), True, identifiers, patient=True)

    def unsubscribe(self, session: Session, filter_: str) -> Reason:
        """Remove a subscription; what was queued for it is still delivered (3.10.4)."""
        if not self.router.unsubscribe(session, filter_):
            return Reason.NO_SUBSCRIPTION_EXISTED
        if session.store is not None:
            session.store.unsubscribe(session, filter_)
        return Reason.SUCCESS

    # ── a restart ──────────────────────────────────────────────────────────────────────────────────────────────────
    def restore(self) -> None:
        """Take up what the store kept. A session that was connected counts as lost from now on."""
        store = self._store
        if store is None:
            return
        for message in store.retained():
            self.retained.set(message.topic.decode(), message)
        numbers: dict[int, Session] = {}
        sessions = list(store.sessions())
        for saved in sessions:
            numbers[saved.number] = self._restore_session(saved, store)
        for entry in store.outgoing():
            session = numbers[entry.session]
            self._restore_group(session, entry.outgoing, entry.share)
            session.restore(entry.outgoing)
        for saved in sessions:
            session = numbers[saved.number]
            left = saved.expiry_seconds - (saved.gone_seconds or 0.0)
            if left <= 0:
                self.end(session)
            else:
                self._start_timers(session, left, grace=RESTART_GRACE_SECONDS)

    def _restore_session(self, saved: SavedSession, store: Store) -> Session:
        session = self._add(Session(saved.client_id, saved.user, saved.number, self.budget, self.clock))
        session.store = store
        session.expiry_seconds = saved.expiry_seconds
        session.will = saved.will
        session.received = set(saved.received)
        for filter_, options, identifier in saved.subscriptions:
            self.router.subscribe(session, read_subscription(filter_, options, identifier))
        return session

    def _restore_group(self, session: Session, outgoing: Outgoing, share: str) -> None:
        subscription = session.subscriptions.get(share)
        if subscription is not None and subscription.share:
            outgoing.group = self.router.group(subscription.filter, subscription.topic_filter, subscription.share)
