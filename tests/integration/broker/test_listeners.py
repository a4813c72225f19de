"""TLS, WebSocket, and the errors of a listener."""

import asyncio
import base64
import os
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.rawmqtt import (
    CONNACK,
    DISCONNECT,
    PUBLISH,
    Packet,
    Raw,
    connect_packet,
    decode,
    packet,
    publish_packet,
    raw,
    subscribe_packet,
)
from tests.tls import make_certificate

from foa.broker import Broker, BrokerConfig, BrokerLimits
from foa.errors import BadInput


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_mqtt_over_tls(certificate: tuple[Path, Path]) -> None:
    certfile, keyfile = certificate
    context = ssl.create_default_context(cafile=str(certfile))
    async with Broker(BrokerConfig(port=None, tls_port=0, certfile=certfile, keyfile=keyfile)) as broker:
        assert broker.port is None
        assert broker.tls_port is not None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", broker.tls_port, ssl=context, server_hostname="localhost"
        )
        client = Raw(reader, writer)
        await client.connect("c")
        await client.subscribe("a")
        await client.publish("a", b"x" * 200_000, qos=0)
        assert len((await client.message()).payload) == 200_000
        client.send(b"\x00\x00")
        last = await client.closed()
        assert last is not None
        assert last.kind == DISCONNECT


async def test_a_tls_port_gives_nothing_to_plain_text(certificate: tuple[Path, Path]) -> None:
    certfile, keyfile = certificate
    async with Broker(BrokerConfig(port=None, tls_port=0, certfile=certfile, keyfile=keyfile)) as broker:
        assert broker.tls_port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.tls_port)
        writer.write(connect_packet("c"))
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer[:1] != b"\x20"
        writer.close()


async def test_tls_files_that_do_not_serve_are_named(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    certfile, keyfile = certificate
    with pytest.raises(BadInput, match="does not exist"):
        await Broker(BrokerConfig(port=None, tls_port=0, certfile=tmp_path / "no.pem", keyfile=keyfile)).__aenter__()
    with pytest.raises(BadInput, match="not a certificate"):
        await Broker(BrokerConfig(port=None, tls_port=0, certfile=keyfile, keyfile=certfile)).__aenter__()


# ── WebSocket ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class WebSocketClient:
    """RFC 6455, the client's side, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._stream = b""

    @classmethod
    async def open(cls, port: int, *, headers: str = "", protocol: str = "mqtt") -> "tuple[WebSocketClient, str]":
        """Connect and ask for the upgrade; returns the answer's head too."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            (
                f"GET /mqtt HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: {protocol}\r\n{headers}\r\n"
            ).encode()
        )
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer), head.decode()

    def frame(self, payload: bytes, *, opcode: int = 2, fin: bool = True, masked: bool = True) -> None:
        """Send one frame."""
        first = (0x80 if fin else 0) | opcode
        size = len(payload)
        bit = 0x80 if masked else 0
        if size < 126:
            head = bytes((first, bit | size))
        elif size < 65_536:
            head = bytes((first, bit | 126)) + struct.pack("!H", size)
        else:
            head = bytes((first, bit | 127)) + struct.pack("!Q", size)
        mask = os.urandom(4) if masked else b""
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if masked else payload
        self.writer.write(head + mask + body)

    async def read_frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        async with asyncio.timeout(5):
            first, second = await self.reader.readexactly(2)
            size = second & 127
            assert not second & 0x80, "a server does not mask (RFC 6455, 5.1)"
            if size == 126:
                size = struct.unpack("!H", await self.reader.readexactly(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
            return first & 15, await self.reader.readexactly(size)

    async def receive(self) -> Packet:
        """The next MQTT packet, wherever frames begin and end."""
        while True:
            size = shift = 0
            for index, byte in enumerate(self._stream[1:5]):
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    end = 2 + index + size
                    if len(self._stream) >= end:
                        found = decode(self._stream[0], self._stream[2 + index : end])
                        self._stream = self._stream[end:]
                        return found
                    break
            opcode, payload = await self.read_frame()
            assert opcode == 2, "MQTT control packets come in binary frames [MQTT-6.0.0-1]"
            self._stream += payload


@pytest.fixture
async def ws_port() -> AsyncIterator[int]:
    """A broker that speaks WebSocket only, with small limits."""
    config = BrokerConfig(port=None, ws_port=0, ws_origins=frozenset({"https://good.example"}))
    async with Broker(config) as broker:
        assert broker.ws_port is not None
        yield broker.ws_port


async def test_mqtt_over_websocket(ws_port: int) -> None:
    """[MQTT-6.0.0-1 to MQTT-6.0.0-4]"""
    client, head = await WebSocketClient.open(ws_port)
    assert head.startswith("HTTP/1.1 101 ")
    assert "sec-websocket-protocol: mqtt" in head.lower()
    client.frame(connect_packet("c"))
    assert (await client.receive()).kind == CONNACK
    client.frame(subscribe_packet(("a", 0)) + publish_packet("a", b"x" * 100_000))
    assert (await client.receive()).reasons == (0,)
    found = await client.receive()
    assert (found.kind, len(found.payload)) == (PUBLISH, 100_000)
    client.writer.close()


async def test_packets_may_be_split_over_frames_and_fragments(ws_port: int) -> None:
    """[MQTT-6.0.0-2]; RFC 6455, 5.4: a ping may come in between."""
    client, _ = await WebSocketClient.open(ws_port)
    whole = connect_packet("c") + subscribe_packet(("a", 1))
    client.frame(whole[:3])
    client.frame(whole[3:10], fin=False)
    client.frame(b"are you there", opcode=9)
    client.frame(whole[10:], opcode=0)
    assert await client.read_frame() == (10, b"are you there")
    assert (await client.receive()).kind == CONNACK
    assert (await client.receive()).reasons == (1,)
    client.writer.close()


@pytest.mark.parametrize(
    ("opcode", "masked", "fin", "code"),
    [(1, True, True, 1003), (2, False, True, 1002), (3, True, True, 1002), (9, True, False, 1002), (0, True, True, 1002)],
)
async def test_frames_against_the_rules_close_the_websocket(
    ws_port: int, opcode: int, masked: bool, fin: bool, code: int
) -> None:
    """[MQTT-6.0.0-1]: text; RFC 6455, 5: not masked, unknown opcode, fragmented control frame, continuation of nothing"""
    client, _ = await WebSocketClient.open(ws_port)
    client.frame(b"x", opcode=opcode, masked=masked, fin=fin)
    assert await client.read_frame() == (8, struct.pack("!H", code))
    client.writer.close()


async def test_a_close_frame_is_answered_and_the_will_is_sent(ws_port: int) -> None:
    """RFC 6455, 5.5.1"""
    client, _ = await WebSocketClient.open(ws_port)
    client.frame(connect_packet("c"))
    await client.receive()
    client.frame(struct.pack("!H", 1000), opcode=8)
    assert await client.read_frame() == (8, struct.pack("!H", 1000))
    assert await client.reader.read() == b""
    client.writer.close()


@pytest.mark.parametrize(
    ("headers", "protocol", "status"),
    [
        ("", "chat", "400"),
        ("Origin: https://evil.example\r\n", "mqtt", "403"),
        ("Origin: https://good.example\r\n", "mqtt", "101"),
        ("X: " + "y" * 20_000 + "\r\n", "mqtt", "431"),
        ("", "mqttv3.1, mqtt", "101"),
    ],
)
async def test_an_upgrade_is_for_mqtt_from_here(ws_port: int, headers: str, protocol: str, status: str) -> None:
    """[MQTT-6.0.0-3]; a web page of a foreign origin cannot reach a broker on this machine."""
    client, head = await WebSocketClient.open(ws_port, headers=headers, protocol=protocol)
    assert head.startswith(f"HTTP/1.1 {status} ")
    client.writer.close()


async def test_plain_http_is_told_what_this_port_is(ws_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ws_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 426 ")
    writer.close()


# ── listeners ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_port_in_use_is_named() -> None:
    async with Broker(BrokerConfig(port=0)) as broker:
        with pytest.raises(BadInput, match=f"port {broker.port} on 127.0.0.1 is in use"):
            await Broker(BrokerConfig(port=broker.port)).__aenter__()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_open_listener_needs_passwords(host: str) -> None:
    with pytest.raises(BadInput, match="without passwords"):
        BrokerConfig(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_loopback_listener_does_not(host: str) -> None:
    assert BrokerConfig(host=host).host == host


async def test_the_brokers_statistics_are_retained() -> None:
    """4.7.2"""
    async with Broker(BrokerConfig(port=0, limits=BrokerLimits(statistics_seconds=0.5))) as broker:
        assert broker.port is not None
        async with raw(broker.port, "c") as client:
            await client.subscribe("$SYS/broker/clients/connected", "$SYS/broker/version")
            found = {item.topic: item for item in await client.messages(2)}
            assert all(item.retain for item in found.values())
            assert found["$SYS/broker/version"].payload.startswith(b"foa ")
            later = await client.message()
            while later.topic != "$SYS/broker/clients/connected":
                later = await client.message()
            assert (later.payload, later.retain) == (b"1", False)


async def test_an_http_request_on_the_mqtt_port_is_cut() -> None:
    async with Broker(BrokerConfig(port=0)) as broker:
        assert broker.port is not None
        async with raw(broker.port) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await client.closed() is None
        async with raw(broker.port, "c") as client:
            client.send(packet(12, b""))
            await client.receive()
