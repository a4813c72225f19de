"""A load generator for MQTT brokers: connections that count, and answer as their role asks.

Without a library, so that little of what is measured is the client.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

HOST = "127.0.0.1"
PAYLOAD = b"x" * 256


def length(value: int) -> bytes:
    """A variable byte integer of at most two bytes."""
    return bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7))


def string(text: bytes) -> bytes:
    """Two bytes of length, then the text."""
    return len(text).to_bytes(2, "big") + text


def connect(client_id: str, *, session_seconds: int = 0) -> bytes:
    """A CONNECT: receive maximum 65 535, clean start, or a session that stays."""
    properties = b"\x21\xff\xff" + (b"\x11" + session_seconds.to_bytes(4, "big") if session_seconds else b"")
    clean = b"\0" if session_seconds else b"\2"
    body = string(b"MQTT") + b"\5" + clean + b"\0\0" + length(len(properties)) + properties + string(client_id.encode())
    return b"\x10" + length(len(body)) + body


def subscribe(topic: bytes, qos: int) -> bytes:
    """A SUBSCRIBE to one topic."""
    body = b"\0\1\0" + string(topic) + bytes((qos,))
    return b"\x82" + length(len(body)) + body


def publish_parts(topic: bytes, payload: bytes, qos: int) -> tuple[bytes, bytes]:
    """A PUBLISH, as what stands before and behind its packet identifier."""
    tail = b"\0" + payload
    size = 2 + len(topic) + (2 if qos else 0) + len(tail)
    return bytes((0x30 | qos << 1,)) + length(size) + string(topic), tail


class Connection(asyncio.Protocol):
    """One client. It acknowledges what comes with QoS 1, and counts.

    Args:
        hello: packets to send at once.
        on_message: called with topic and payload of every message; its bytes, if any, are sent.
    """

    def __init__(self, hello: bytes, on_message: Callable[[bytes], bytes] | None = None) -> None:
        self.messages = 0
        self.acknowledged = 0
        self.subscribed = asyncio.Event()
        self.done = asyncio.Event()
        self.wanted = 0  #: messages and PUBACKs together that make it done
        self.on_acknowledged: Callable[[], None] | None = None
        self._hello = hello
        self._on_message = on_message
        self._rest = b""

    @classmethod
    async def open(cls, port: int, hello: bytes, on_message: Callable[[bytes], bytes] | None = None) -> Self:
        """Connect, and return when it is subscribed if it subscribes."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: cls(hello, on_message), HOST, port)
        await made.subscribed.wait()
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position, size = 0, len(data)
        answers: list[bytes] = []
        while size - position >= 2:
            count, start = data[position + 1], position + 2
            if count > 127:
                if size - position < 3:
                    break
                count, start = count & 127 | data[position + 2] << 7, position + 3
            if start + count > size:
                break
            self._packet(data[position], data, start, start + count, answers)
            position = start + count
        self._rest = data[position:]
        if answers:
            self.transport.write(b"".join(answers))
        if self.on_acknowledged is not None:
            self.on_acknowledged()
        if self.wanted and self.messages + self.acknowledged >= self.wanted:
            self.done.set()

    def _packet(self, first: int, data: bytes, start: int, end: int, answers: list[bytes]) -> None:
        kind = first & 0xF0
        if kind == 0x30:
            self.messages += 1
            behind = start + 2 + (data[start] << 8 | data[start + 1])
            if first & 6:
                answers.append(b"\x40\x02" + data[behind : behind + 2])
                behind += 2
            if self._on_message is not None:
                answers.append(self._on_message(data[behind + 1 : end]))
        elif kind == 0x40:
            self.acknowledged += 1
        elif kind == 0x90 or (kind == 0x20 and b"\x82" not in self._hello):
            self.subscribed.set()

    def stream(self, topic: bytes, count: int, *, window: int) -> None:
        """Publish `count` messages with QoS 1, so many at once; `done` is set with the last PUBACK."""
        head, tail = publish_parts(topic, PAYLOAD, 1)
        sent = 0
        self.acknowledged = 0
        self.wanted = self.messages + count

        def more() -> None:
            nonlocal sent
            fresh: list[bytes] = []
            while sent < count and sent - self.acknowledged < window:
                sent += 1
                fresh.append(head + (sent % 65_535 + 1).to_bytes(2, "big") + tail)
            if fresh:
                self.transport.write(b"".join(fresh))

        self.on_acknowledged = more
        more()


def close(connections: Sequence[Connection]) -> None:
    """End them all."""
    for connection in connections:
        connection.transport.abort()
