"""One client's connection: what each packet asks, done (MQTT v5, chapter 3).

PUBLISH and PUBACK, which are nearly all of the traffic, are read right here; the rest goes through `packets`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from foa.broker import packets, properties
from foa.broker.codec import decode_length
from foa.broker.message import Message
from foa.broker.packets import Connect
from foa.broker.properties import NOTHING, MessageProperties, Property, Value
from foa.broker.reason import PacketError, Reason, malformed, violation
from foa.broker.session import Session
from foa.broker.topics import Subscription
from foa.broker.wire import State, Stranger, Wire

if TYPE_CHECKING:
    from foa.broker.broker import Broker

log = logging.getLogger(__name__)


class Link(Wire):
    """A connection that speaks MQTT."""

    def __init__(self, broker: "Broker") -> None:
        super().__init__(broker)
        self._aliases: dict[int, bytes] = {}  # the client's
        self._may_write: Callable[[Session, str], bool] = broker.hub.may_write

    def handle(self, first: int, data: bytes, start: int, end: int) -> None:
        if first & 0xF0 == 0x30 and self.session is not None:
            self._publish(self.session, first, data, start, end)
        elif first == 0x40 and end - start == 2 and self.session is not None:
            packet_id = data[start] << 8 | data[start + 1]
            if not packet_id:
                raise malformed("an acknowledgement has packet identifier 0")
            self.session.acknowledged(packet_id)
        else:
            self._packet(first, data, start, end)

    # ── packets ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _publish(self, session: Session, first: int, data: bytes, start: int, end: int) -> None:
        qos = first >> 1 & 3
        if qos == 3 or first & 0x0E == 0x08:
            raise malformed("a PUBLISH has QoS 3, or is a duplicate of QoS 0")  # [MQTT-3.3.1-4, MQTT-3.3.1-2]
        position = start + 2 + (data[start] << 8 | data[start + 1])
        topic = data[start + 2 : position]
        packet_id = 0
        if qos:
            packet_id = data[position] << 8 | data[position + 1]
            position += 2
            if not packet_id:
                raise violation("packet identifier 0")
        if position >= end:
            raise malformed("a PUBLISH ends before its properties")
        found = NOTHING
        if data[position]:
            found, position = read_publish_properties(data, position, end)
        else:
            position += 1
        if found.topic_alias or not topic:
            topic = self._unalias(topic, found.topic_alias)
        expires_at = None if found.expiry_seconds is None else self._clock() + found.expiry_seconds
        message = Message(topic, data[position:end], found.forward, qos, bool(first & 1), expires_at)
        self.hub.messages_received += 1
        if qos == 2:
            self._receive(session, message, packet_id)
            return
        reason = self._forward(session, message)
        if qos:
            if reason:
                self.send(packets.write_acknowledgement(packets.PUBACK, packet_id, reason))
            else:
                self.send(b"\x40\x02" + packet_id.to_bytes(2, "big"))

    def _forward(self, session: Session, message: Message) -> Reason:
        route = self.hub.router.route(message.topic)
        if not self._may_write(session, route.topic):
            return Reason.NOT_AUTHORIZED
        return self.hub.publish(message, route, session)

    def _receive(self, session: Session, message: Message, packet_id: int) -> None:
        """QoS 2: deliver at once, and remember the identifier until PUBREL [MQTT-4.3.3-10]."""
        reason = Reason.SUCCESS
        if packet_id not in session.received:
            if len(session.received) >= self.hub.limits.receive_maximum:
                raise PacketError(
                    Reason.RECEIVE_MAXIMUM_EXCEEDED, f"over {self.hub.limits.receive_maximum} unreleased messages"
                )
            reason = self._forward(session, message)
            if reason < Reason.UNSPECIFIED_ERROR:
                session.received.add(packet_id)
                if session.store is not None:
                    session.store.receive(session, packet_id, open_=True)
        self.send(packets.write_acknowledgement(packets.PUBREC, packet_id, reason))

    def _unalias(self, topic: bytes, alias: int) -> bytes:
        """The topic an alias stands for, or note what it stands for from now on (3.3.2.3.4)."""
        if alias > self.hub.limits.topic_alias_maximum:
            raise PacketError(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias} is above the maximum")  # [MQTT-3.3.2-9]
        if topic:
            self._aliases[alias] = topic
            return topic
        if alias not in self._aliases:
            raise violation("a topic alias that was not set, or no topic at all")
        return self._aliases[alias]

    def _packet(self, first: int, data: bytes, start: int, end: int) -> None:
        kind, flags = first >> 4, first & 15
        session = self.session
        if session is None:
            if first != packets.CONNECT << 4:
                raise Stranger(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")  # [MQTT-3.1.0-1]
            self._connect(packets.read_connect(data, start, end))
            return
        if flags != (2 if kind in (packets.PUBREL, packets.SUBSCRIBE, packets.UNSUBSCRIBE) else 0):
            raise malformed("reserved flags of a packet are wrong")  # [MQTT-2.1.3-1]
        if kind in (packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP):
            self._acknowledgement(session, kind, packets.read_acknowledgement(data, start, end))
        elif kind == packets.SUBSCRIBE:
            self._subscribe(session, packets.read_subscribe(data, start, end))
        elif kind == packets.UNSUBSCRIBE:
            request = packets.read_unsubscribe(data, start, end)
            reasons = [self.hub.unsubscribe(session, filter_) for filter_ in request.filters]
            self.send(packets.write_suback(packets.UNSUBACK, request.packet_id, reasons))
        elif kind == packets.PINGREQ:
            self.send(packets.PINGRESP_PACKET)
        elif kind == packets.DISCONNECT:
            self._disconnect(session, packets.read_disconnect(data, start, end))
        else:
            raise violation(f"a client may not send packets of type {kind} now")

    def _acknowledgement(self, session: Session, kind: int, packet: packets.Acknowledgement) -> None:
        packet_id = packet.packet_id
        if kind == packets.PUBREL:
            known = packet_id in session.received
            session.received.discard(packet_id)
            if known and session.store is not None:
                session.store.receive(session, packet_id, open_=False)
            reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
            self.send(packets.write_acknowledgement(packets.PUBCOMP, packet_id, reason))
        elif kind == packets.PUBREC and packet.reason < Reason.UNSPECIFIED_ERROR:
            reason = Reason.SUCCESS if session.accepted(packet_id) else Reason.PACKET_IDENTIFIER_NOT_FOUND
            self.send(packets.write_acknowledgement(packets.PUBREL, packet_id, reason))
        else:  # no PUBREL follows a PUBREC of 0x80 or more (4.3.3)
            session.acknowledged(packet_id)

    def _subscribe(self, session: Session, packet: packets.Subscribe) -> None:
        reasons: list[int] = []
        added: list[Subscription] = []
        for line in packet.lines:
            if isinstance(line, PacketError):
                reasons.append(line.reason)
                continue
            reason, wanted = self.hub.subscribe(session, line)
            reasons.append(reason)
            if wanted:
                added.append(line)
        self.send(packets.write_suback(packets.SUBACK, packet.packet_id, reasons))
        for subscription in added:
            self.hub.send_waiting(session, subscription)

    def _disconnect(self, session: Session, packet: packets.Disconnect) -> None:
        if packet.session_expiry_seconds is not None:
            if packet.session_expiry_seconds and not session.expiry_seconds:
                raise violation("a DISCONNECT lengthens a session that was to end with the connection")  # [MQTT-3.14.2-2]
            session.expiry_seconds = min(packet.session_expiry_seconds, self.hub.limits.session_expiry_seconds)
        self._leave(with_will=packet.reason != Reason.SUCCESS)
        self._shut()

    # ── CONNECT ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _connect(self, connect: Connect) -> None:
        passwords = self.broker.passwords
        if passwords is None:
            self._open(connect, None)
            return
        self.state = State.CHECKING
        if self._transport is not None:
            self._transport.pause_reading()
        checked = self.broker.loop.run_in_executor(None, passwords.verify, connect.user, connect.password)
        checked.add_done_callback(lambda found: self._checked(connect, found.result()))

    def _checked(self, connect: Connect, right: bool) -> None:
        if self.state is not State.CHECKING or self._transport is None:
            return
        self.state = State.ACCEPTED
        self._transport.resume_reading()
        try:
            if not right:
                raise PacketError(Reason.BAD_USER_NAME_OR_PASSWORD, "user name or password is wrong")
            self._open(connect, connect.user)
        except PacketError as error:
            self.refuse(error)
            return
        data = bytes(self._tail)
        self._tail.clear()
        self._read(data)

    def _open(self, connect: Connect, user: str | None) -> None:
        if self.broker.crowded and not self.hub.connected(connect.client_id):
            raise PacketError(Reason.QUOTA_EXCEEDED, f"the broker has {self.hub.limits.connections} connections")
        found: dict[Property, Value] = {}
        if not connect.client_id:
            connect = replace(connect, client_id=self.hub.new_client_id())
            found[Property.ASSIGNED_CLIENT_IDENTIFIER] = connect.client_id
        session, present = self.hub.enter(connect, user, self)
        self.session = session
        self.state = State.OPEN
        self.broker.opened(self)
        self._packet_limit = connect.maximum_packet_bytes
        self._read_limit = self.hub.limits.packet_bytes
        self._own_alias_limit = min(connect.topic_alias_maximum, self.hub.limits.topic_alias_maximum)
        self._keep_alive(connect, found)
        self._announce(connect, session, found)
        self.send(packets.write_connack(Reason.SUCCESS, session_present=present, found=found))
        if present:
            self.hub.resume(session)
            session.pump()

    def _keep_alive(self, connect: Connect, found: dict[Property, Value]) -> None:
        seconds, most = connect.keep_alive_seconds, self.hub.limits.keep_alive_seconds
        if most < 65_535 and not 0 < seconds <= most:
            seconds = found[Property.SERVER_KEEP_ALIVE] = most  # [MQTT-3.1.2-21]
        self.silence_seconds = seconds * 1.5  # [MQTT-3.1.2-22]

    def _announce(self, connect: Connect, session: Session, found: dict[Property, Value]) -> None:
        limits = self.hub.limits
        found[Property.RECEIVE_MAXIMUM] = limits.receive_maximum
        found[Property.MAXIMUM_PACKET_SIZE] = limits.packet_bytes
        found[Property.TOPIC_ALIAS_MAXIMUM] = limits.topic_alias_maximum
        if session.expiry_seconds != connect.session_expiry_seconds:
            found[Property.SESSION_EXPIRY_INTERVAL] = session.expiry_seconds

    def refuse(self, error: PacketError) -> None:
        """End it for what the client did, with a reason where the protocol has a packet for it."""
        log.info("client refused: %s", error, extra={"action": "broker_client_refused", "reason": error.reason})
        if self.session is not None:
            self.close(error.reason, str(error))
            return
        self._refused = True
        if isinstance(error, packets.OldClient):
            self.send(packets.REFUSE_OLD_CLIENT)
        elif not isinstance(error, Stranger):
            self.send(packets.write_connack(error.reason, session_present=False, found={Property.REASON_STRING: str(error)}))
        self._shut()


def read_publish_properties(data: bytes, position: int, end: int) -> tuple[MessageProperties, int]:
    """The properties of a PUBLISH, and where its payload begins."""
    decoded = decode_length(data, position, end)
    if decoded is None or decoded[0] + decoded[1] > end:
        raise malformed("properties are longer than their packet")
    length, start = decoded
    return properties.read_message(data, start, start + length), start + length
