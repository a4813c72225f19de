"""One client's socket: bytes into packets, packets into one joined write a turn.

accepted ──CONNECT──► checking (password, in a thread) ──► open ──DISCONNECT, error, silence──► closed
"""

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING

from foa.broker.codec import decode_length
from foa.broker.hub import Hub
from foa.broker.message import Message
from foa.broker.packets import CONNECT, write_disconnect
from foa.broker.properties import Property
from foa.broker.reason import PacketError, Reason, malformed
from foa.broker.session import Session

if TYPE_CHECKING:
    from foa.broker.broker import Broker

log = logging.getLogger(__name__)

#: largest CONNECT taken: nobody who has not given a password may make the broker hold more, bytes
LARGEST_CONNECT = 262_144


class Stranger(PacketError):
    """What came first is not MQTT: there is no answer to it."""


class State(Enum):
    """How far a connection has come."""

    ACCEPTED = "waits for CONNECT"
    CHECKING = "waits for its password to be checked"
    OPEN = "has its session"
    CLOSED = "is over; what was written may still be leaving"


class Wire(asyncio.Protocol):
    """A connection as bytes. What a packet means is up to the class built on it, `link.Link`.

    Attributes:
        session: set once the client has one.
        room: what it takes in this turn before it is full, bytes.
        heard_at: when something came last, monotonic seconds.
        silence_seconds: how long nothing may come; 0: for ever.
    """

    def __init__(self, broker: "Broker") -> None:
        self.broker = broker
        self.hub: Hub = broker.hub
        self.session: Session | None = None
        self.state = State.ACCEPTED
        self.room = self._write_limit = broker.hub.limits.write_bytes
        self.heard_at = broker.hub.clock()
        self.silence_seconds = broker.hub.limits.connect_seconds
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._tail = bytearray()  # of a packet that is not complete
        self._need = 0  # bytes of it, as far as known
        self._clock = broker.hub.clock
        self._packet_limit = 0xFFFFFFFF  # of the client, bytes
        self._read_limit = LARGEST_CONNECT  # ours, bytes
        self._own_aliases: dict[bytes, int] = {}  # ours
        self._own_alias_limit = 0
        self._refused = False  # ended by us

    # ── asyncio ────────────────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=self._write_limit - 1)
        if not self.broker.admit(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = State.CLOSED
        self.broker.gone(self)
        self._leave(with_will=True)

    def pause_writing(self) -> None:
        """The client does not read: nothing of it is read either until it does, or its requests would pile up as answers."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.resume_reading()
        self.heard_at = self._clock()
        self._measure(transport)

    def data_received(self, data: bytes) -> None:
        if self.state is State.CLOSED:
            return
        self.heard_at = self._clock()
        if self._tail:
            self._tail += data
            if len(self._tail) < self._need:
                return
            data = bytes(self._tail)
            self._tail.clear()
        self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            position = self._packets(data)
        except PacketError as error:
            self.refuse(error)
        except IndexError:
            self.refuse(malformed("a packet ends in the middle of a field"))
        else:
            if position < len(data) and self.state is not State.CLOSED:
                self._tail += data[position:]

    def _packets(self, data: bytes) -> int:
        """Handle every whole packet; returns where the first incomplete one begins."""
        position, size = 0, len(data)
        while size - position >= 2 and (self.state is State.OPEN or self.state is State.ACCEPTED):
            first, length, start = data[position], data[position + 1], position + 2
            if length > 127:
                decoded = decode_length(data, position + 1, size)
                if decoded is None:
                    break
                length, start = decoded
            end = start + length
            if end - position > self._read_limit:
                raise too_large(end - position, self._read_limit)
            if end > size:
                if self.state is State.ACCEPTED and first != CONNECT << 4:
                    raise Stranger(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")  # [MQTT-3.1.0-1]
                self._need = end - position
                return position
            self.handle(first, data, start, end)
            position = end
        self._need = 0
        return position

    def handle(self, first: int, data: bytes, start: int, end: int) -> None:
        """Do what a packet asks.

        Args:
            first: first byte of its fixed header.
            data: holds the packet.
            start: where its body begins in `data`.
            end: and ends.

        Raises:
            PacketError: it breaks the protocol; IndexError does the same.
        """
        raise NotImplementedError  # a connection's class says how

    def refuse(self, error: PacketError) -> None:
        """End it for what the client did."""
        raise NotImplementedError  # a connection's class says how

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, packet: bytes) -> None:
        """Put a packet out; it is written at the end of the turn."""
        if not self._out:
            self.broker.outflow.mark(self)
        self._out.append(packet)
        self.room -= len(packet)

    def publish(self, message: Message, flags: int, identifiers: bytes, packet_id: int) -> bool:
        """Put a PUBLISH out; False when it is larger than the client takes [MQTT-3.1.2-24]."""
        if self._own_alias_limit:
            head, tail = self._alias(message, flags, identifiers)
        else:
            head, tail = message.encode(flags, identifiers, 0.0 if message.expires_at is None else self._clock())
        size = len(head) + len(tail) + 2
        if size > self._packet_limit:
            return False
        out = self._out
        if not out:
            self.broker.outflow.mark(self)
        out.append(head)
        if packet_id:
            out.append(packet_id.to_bytes(2, "big"))
        out.append(tail)
        self.room -= size
        self.hub.messages_sent += 1
        return True

    def _alias(self, message: Message, flags: int, identifiers: bytes) -> tuple[bytes, bytes]:
        """A PUBLISH with a topic alias in place of its topic where the client knows it, or setting one (3.3.2.3.4)."""
        alias = self._own_aliases.get(message.topic, 0)
        left = message.seconds_left(self._clock())
        if alias:
            return message.build(flags, b"", alias_property(alias) + identifiers, left)
        alias = len(self._own_aliases) + 1
        if alias > self._own_alias_limit:
            return message.build(flags, message.topic, identifiers, left)
        parts = message.build(flags, message.topic, alias_property(alias) + identifiers, left)
        if len(parts[0]) + len(parts[1]) + 2 <= self._packet_limit:
            self._own_aliases[message.topic] = alias
        return parts

    @property
    def unsent_bytes(self) -> int:
        """What waits for the client to read it."""
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return buffered + sum(len(part) for part in self._out)

    def flush(self) -> None:
        """Write what this turn put out."""
        transport = self._transport
        out, self._out = self._out, []
        if transport is None or transport.is_closing():
            return
        transport.write(b"".join(out))
        if self.state is State.CLOSED:
            self._hang_up(transport)
        else:
            self._measure(transport)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        """Close the socket; after a refusal only our half, until the client closes or our patience ends.

        Closing over what the client still sends would reset the connection, and the reason would be lost with it.
        """
        if self._refused and transport.can_write_eof() and not self.hub.stopping:
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()

    def _measure(self, transport: asyncio.Transport) -> None:
        self.room = self._write_limit - transport.get_write_buffer_size()
        if self.session is not None and self.session.queue:
            self.session.pump()

    # ── ending ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def close(self, reason: Reason, text: str = "") -> None:
        """Send DISCONNECT and end the connection; its session is left, with its will."""
        if self.state is State.CLOSED:
            return
        self._refused = True
        if self.state is State.OPEN:
            packet = write_disconnect(reason, text)
            self.send(packet if len(packet) <= self._packet_limit else write_disconnect(reason))
        self._shut()
        self._leave(with_will=True)

    def _shut(self) -> None:
        """Close the transport once what was put out is written."""
        self.state = State.CLOSED
        self.broker.closed(self)
        self.heard_at = self._clock()
        self._tail.clear()
        if not self._out and self._transport is not None:
            self._hang_up(self._transport)

    def abort(self) -> None:
        """End it without another word."""
        self._out = []
        if self._transport is not None:
            self._transport.abort()

    def _leave(self, *, with_will: bool) -> None:
        session, self.session = self.session, None
        if session is not None:
            self.hub.leave(session, self, with_will=with_will)
            self.broker.outflow.wake()


def too_large(size: int, limit: int) -> PacketError:
    """A packet beyond what the broker takes (3.2.2.3.6), both in bytes."""
    return PacketError(Reason.PACKET_TOO_LARGE, f"a packet may have {limit} bytes, this one has {size}")


def alias_property(alias: int) -> bytes:
    """A topic alias as a property."""
    return bytes((Property.TOPIC_ALIAS,)) + alias.to_bytes(2, "big")
