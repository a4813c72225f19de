"""MQTT over WebSocket (MQTT v5, 6; RFC 6455), server side: the upgrade, and frames in and out.

To the connection behind it a WebSocket is a transport: what arrives in binary frames is one stream of bytes, wherever frames
begin and end [MQTT-6.0.0-2]; what it writes leaves in binary frames.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  #: RFC 6455, 1.3
LONGEST_REQUEST = 16_384  #: bytes of an upgrade request
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, PROTOCOL_ERROR, UNSUPPORTED_DATA = 1000, 1002, 1003


class WebSocketError(Exception):
    """The peer broke RFC 6455; `code` is what the close frame says."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class UpgradeRefused(Exception):
    """The HTTP request is not one that is upgraded; `status` is the answer's status line."""

    def __init__(self, status: str, text: str) -> None:
        self.status = status
        super().__init__(text)

    def answer(self) -> bytes:
        """The whole HTTP response."""
        body = f"{self}\n".encode()
        lines = [f"HTTP/1.1 {self.status}", "Content-Type: text/plain", f"Content-Length: {len(body)}", "Connection: close"]
        if self.status.startswith("426"):
            lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


def answer_upgrade(request: bytes, origins: frozenset[str]) -> bytes:
    """The answer to an upgrade request, head only (RFC 6455, 4.2).

    Args:
        request: everything up to the empty line.
        origins: web origins that may connect; a request without Origin is not from a web page and may.

    Raises:
        UpgradeRefused: not a WebSocket request for MQTT, or from a page of another origin.
    """
    line, _, rest = request.decode("latin-1").partition("\r\n")
    headers: dict[str, str] = {}
    for field in rest.split("\r\n"):
        name, _, value = field.partition(":")
        headers[name.strip().lower()] = value.strip()
    if not line.startswith("GET ") or not line.endswith(" HTTP/1.1"):
        raise UpgradeRefused("400 Bad Request", "a WebSocket begins with GET … HTTP/1.1")
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in words(headers.get("connection", "").lower()):
        raise UpgradeRefused("426 Upgrade Required", "this port speaks MQTT over WebSocket")
    if headers.get("sec-websocket-version") != "13":
        raise UpgradeRefused("426 Upgrade Required", "WebSocket version 13 is needed")
    if "mqtt" not in words(headers.get("sec-websocket-protocol", "")):
        raise UpgradeRefused("400 Bad Request", "the subprotocol must be mqtt")  # [MQTT-6.0.0-3]
    origin = headers.get("origin")
    if origin is not None and origin not in origins:
        raise UpgradeRefused("403 Forbidden", "web pages of this origin may not connect")
    key = headers.get("sec-websocket-key", "")
    if not valid_key(key):
        raise UpgradeRefused("400 Bad Request", "Sec-WebSocket-Key is not 16 bytes in base64")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"  # [MQTT-6.0.0-4]
    ).encode()


def words(value: str) -> list[str]:
    """Items of a comma-separated header."""
    return [item.strip() for item in value.split(",")]


def valid_key(key: str) -> bool:
    """Whether a Sec-WebSocket-Key is 16 bytes in base64."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (ValueError, binascii.Error):
        return False


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked frame, as servers send them (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Undo a client's masking (RFC 6455, 5.3): XOR as one large number, which runs at memory speed."""
    size = len(payload)
    if not size:
        return b""
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


class Frames:
    """Takes frames out of a stream of bytes, each when it is whole.

    Args:
        limit: largest payload of a frame, bytes.
    """

    def __init__(self, *, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._fragmented = False

    def feed(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        """Frames that are complete now: opcode and unmasked payload, continuations as BINARY.

        Raises:
            WebSocketError: not masked, reserved bits, text, too long, control frame fragmented or longer than 125.
        """
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        self._check(first, second)
        length, start = second & 127, 2
        if length > 125:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if length > self._limit:
            raise WebSocketError(1009, f"a frame has {length} bytes, {self._limit} are taken")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        del buffer[:end]
        opcode = first & 15
        if opcode < CLOSE:
            self._fragmented = not first & 0x80
            opcode = BINARY
        return opcode, payload

    def _check(self, first: int, second: int) -> None:
        opcode = first & 15
        if first & 0x70 or not second & 0x80:
            raise WebSocketError(PROTOCOL_ERROR, "reserved bits are set, or a frame is not masked")
        if opcode == TEXT:
            raise WebSocketError(UNSUPPORTED_DATA, "MQTT needs binary frames")  # [MQTT-6.0.0-1]
        if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            raise WebSocketError(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if opcode >= CLOSE and (not first & 0x80 or second & 127 > 125):
            raise WebSocketError(PROTOCOL_ERROR, "a control frame is fragmented or too long")
        if opcode < CLOSE and (opcode == CONTINUATION) != self._fragmented:
            raise WebSocketError(PROTOCOL_ERROR, "a continuation without a start, or a start within a message")


class FramedTransport(asyncio.Transport):
    """A transport that frames what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._closing = False

    def write(self, data: Any) -> None:
        self._transport.write(encode_frame(BINARY, data))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._transport.write(encode_frame(CLOSE, NORMAL.to_bytes(2, "big")))
            self._transport.close()

    def can_write_eof(self) -> bool:
        return False  # the close frame says it

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()


class WebSocket(asyncio.Protocol):
    """The socket's protocol: upgrades, then passes bytes to the connection behind it.

    Args:
        inner: the MQTT connection.
        origins: web origins that may connect.
        limit: largest payload of a frame, bytes.
    """

    def __init__(self, inner: asyncio.Protocol, *, origins: frozenset[str], limit: int) -> None:
        self._inner = inner
        self._origins = origins
        self._frames = Frames(limit=limit)
        self._request: bytearray | None = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(FramedTransport(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        try:
            if self._request is not None:
                data = self._upgrade(transport, self._request, data)
            for opcode, payload in self._frames.feed(data):
                self._take(transport, opcode, payload)
        except UpgradeRefused as refusal:
            transport.write(refusal.answer())
            transport.close()
        except WebSocketError as error:
            log.info("websocket refused: %s", error, extra={"action": "broker_websocket_refused"})
            transport.write(encode_frame(CLOSE, error.code.to_bytes(2, "big")))
            transport.close()

    def _upgrade(self, transport: asyncio.Transport, request: bytearray, data: bytes) -> bytes:
        """Collect the request; once it is whole, answer it. Returns what came behind it."""
        request += data
        head, end, rest = bytes(request).partition(b"\r\n\r\n")
        if len(head) > LONGEST_REQUEST:
            raise UpgradeRefused("431 Request Header Fields Too Large", "the request is too long")
        if not end:
            return b""
        transport.write(answer_upgrade(head, self._origins))
        self._request = None
        return rest

    def _take(self, transport: asyncio.Transport, opcode: int, payload: bytes) -> None:
        if opcode == BINARY:
            self._inner.data_received(payload)
        elif opcode == PING:
            transport.write(encode_frame(PONG, payload))
        elif opcode == CLOSE and not transport.is_closing():
            transport.write(encode_frame(CLOSE, payload[:2]))
            transport.close()
