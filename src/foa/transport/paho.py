"""The Transport port over a real broker, on `paho-mqtt`, in this event loop (no thread but for connecting).

The second adapter, kept so that leaving the first takes a day. Needs the extra `paho`.
"""

import asyncio
import contextlib
import os
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from foa.errors import BadInput, BrokerUnreachable, PublishRefused
from foa.transport.address import Address
from foa.transport.desk import LinkDown
from foa.transport.inbox import Packet
from foa.transport.reasons import FINAL, reason
from foa.transport.rules import check_publication
from foa.transport.session import BrokerSession
from foa.values.publication import Filter, Publication

try:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions
except ImportError as missing:
    raise BadInput("PahoTransport needs the package paho-mqtt: install it with `pip install foa[paho]`") from missing

TICK_SECONDS = 1.0  #: between looks at the keep alive
FAREWELL_SECONDS = 2.0  #: how long DISCONNECT may take
FIRST_PAUSE_SECONDS = 0.1  #: before the first attempt to connect again; doubles


class PahoTransport(BrokerSession):
    """A Transport over one MQTT v5 session on `paho-mqtt`. Same promises and arguments as `MqttTransport`."""

    def __init__(
        self,
        address: Address | str,
        *,
        client_id: str,
        will: Publication | None = None,
        will_delay_interval: int = 0,
        session_expiry_interval: int = 3_600,
        receive_maximum: int = 10_000,
        send_maximum: int | None = None,
        connect_seconds: float = 10.0,
        retry_seconds: float = 10.0,
        keep_alive: int = 30,
        unclaimed_seconds: float = 10.0,
    ) -> None:
        super().__init__(address, client_id=client_id, will=will, unclaimed_seconds=unclaimed_seconds)
        if keep_alive < 1:
            raise ValueError("keep_alive is at least 1 second: brokers treat 0 differently")
        self._keep_alive = keep_alive
        self._connect_seconds = connect_seconds
        self._retry_seconds = retry_seconds
        self._send_maximum = send_maximum or 65_535
        self._settings = Properties(PacketTypes.CONNECT)
        self._settings.SessionExpiryInterval = session_expiry_interval
        self._settings.ReceiveMaximum = receive_maximum
        self._client = self._make_client(will, will_delay_interval)
        self._slots = asyncio.Semaphore(self._send_maximum)
        self._sending: dict[int, asyncio.Future[int]] = {}  # by packet identifier: the reason code of PUBACK
        self._asking: dict[int, asyncio.Future[Sequence[int]]] = {}
        self._held: dict[int, _Held] = {}
        self._order: deque[_Held] = deque()  # as they came on this link: PUBACKs leave in this order (4.6)
        self._connack: asyncio.Future[int] | None = None
        self._broken = asyncio.Event()
        self._final: int | None = None

    def _make_client(self, will: Publication | None, delay: int) -> Client:
        address = self._address
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport="websockets" if address.websocket else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = self._connect_seconds
        client.max_inflight_messages = 0  # the slots here bound it
        if address.username is not None:
            client.username_pw_set(address.username, address.password)
        if (tls := address.tls()) is not None:
            client.tls_set_context(tls)
        if address.websocket:
            client.ws_set_options(path=address.path, headers=_as_no_web_page)
        if will is not None:
            properties = _properties(will, PacketTypes.WILLMESSAGE) or Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = delay
            client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain, properties=properties)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        client.connect_async(address.host, address.port, self._keep_alive, clean_start=False, properties=self._settings)
        return client

    # ── link ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def open_link(self) -> None:
        """Connect, or say at once why not."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        try:
            code = await self._connect()
        except TimeoutError as error:
            raise self.unreachable("it does not answer") from error
        except (OSError, ValueError) as error:
            raise self.unreachable(error) from error
        if code >= 0x80:
            raise self.refused(code)

    async def _connect(self) -> int:
        self._broken.clear()
        self._connack = self._loop.create_future()
        try:
            async with asyncio.timeout(self._connect_seconds):
                await asyncio.to_thread(self._client.reconnect)  # it blocks while the socket connects
                return await self._connack
        except BaseException:
            self._drop_socket()
            raise

    def _drop_socket(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError), _same(sock) as plain:
                plain.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()  # so that it sees the end

    async def run_link(self) -> None:
        """Look after the keep alive; connect again when the link broke, jittered and capped."""
        pause = FIRST_PAUSE_SECONDS
        while self._final is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._broken.wait()
            if not self._broken.is_set():
                pause = FIRST_PAUSE_SECONDS
                self._client.loop_misc()
                continue
            if self._final is not None:
                break
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(pause, self._retry_seconds))
            pause = min(2 * pause, self._retry_seconds)
            try:
                code = await self._connect()
            except (OSError, ValueError):  # TimeoutError too
                self._broken.set()
                continue
            if code in FINAL:
                self._final = code
            elif code >= 0x80:
                self._broken.set()
        why = reason(self._final or 0)
        self.fail(BrokerUnreachable(f"the broker at {self._address} ended the session of {self._client_id!r}: {why}"))
        for waiting in self._sending.values():
            waiting.cancel()

    async def close_link(self, *, with_will: bool) -> None:
        """DISCONNECT."""
        farewell = ReasonCode(PacketTypes.DISCONNECT, identifier=0x04 if with_will else 0x00)
        self._client.disconnect(reasoncode=farewell)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                while self._client.want_write() and self._client.socket() is not None:
                    self._client.loop_write()
                    await asyncio.sleep(0)
        self._drop_socket()

    # ── the library's calls: from connecting in a thread, the rest in the loop ─────────────────────────────────────────
    def _on_socket_open(self, _client: Client, _data: Any, sock: Any) -> None:
        with _same(sock) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in_loop(self._watch_reads, sock)

    def _on_socket_close(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock.fileno())
        self._loop.remove_writer(sock.fileno())

    def _on_register_write(self, _client: Client, _data: Any, sock: Any) -> None:
        self._in_loop(self._watch_writes, sock)

    def _on_unregister_write(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.remove_writer(sock.fileno())

    def _in_loop(self, call: Callable[[Any], None], sock: Any) -> None:
        if threading.get_ident() == self._thread:
            call(sock)
        else:
            self._loop.call_soon_threadsafe(call, sock)

    def _watch_reads(self, sock: Any) -> None:
        if self._client.socket() is sock:  # by now it may be closed, and its number another's
            self._loop.add_reader(sock.fileno(), self._readable, sock)

    def _watch_writes(self, sock: Any) -> None:
        if self._client.socket() is sock:
            self._loop.add_writer(sock.fileno(), self._client.loop_write)

    def _readable(self, sock: Any) -> None:
        self._client.loop_read()
        pending = getattr(sock, "pending", None)  # TLS and WebSocket have bytes that the selector does not see
        while pending is not None and self._client.socket() is sock and pending():
            self._client.loop_read()

    def _on_connect(
        self, _client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, got: Properties | None
    ) -> None:
        if self._connack is None or self._connack.done():
            return
        self._connack.set_result(code.value)
        if code.value < 0x80:
            allowed = min(getattr(got, "ReceiveMaximum", 65_535), self._send_maximum)
            if not self._desk.linked.is_set() and not self._sending and allowed < self._send_maximum:
                self._send_maximum = allowed
                self._slots = asyncio.Semaphore(allowed)
            self._desk.link_up(session_present=flags.session_present)

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, code: ReasonCode, _got: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server and code.value in FINAL:
            self._final = code.value
        self._order.clear()
        self._desk.link_down()
        for asking in self._asking.values():
            if not asking.done():
                asking.set_exception(LinkDown())
        if self._connack is not None and not self._connack.done():
            self._connack.set_exception(OSError("the connection was closed"))
        self._broken.set()

    # ── arrivals ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        publication = _publication(message)
        if not message.qos:
            self._demux.deliver(publication, None)
            return
        held = self._held.get(message.mid)
        if held is not None and message.dup and held.publication == publication:
            self._order.append(held)  # sent again after a cut, and still here: nobody needs to see it twice
            self.flush_acknowledgements()
            return
        held = self._held[message.mid] = _Held(publication, message.mid, self)
        self._order.append(held)
        self._demux.deliver(publication, held)

    def flush_acknowledgements(self) -> None:
        """Send PUBACK for every settled packet that is next in order."""
        order = self._order
        while order and order[0].settled:
            held = order.popleft()
            self._client.ack(held.mid, 1)
            if self._held.get(held.mid) is held:
                del self._held[held.mid]

    # ── publish and subscribe ──────────────────────────────────────────────────────────────────────────────────────────
    async def publish(self, publication: Publication) -> None:
        """See `foa.ports.Transport.publish`."""
        check_publication(publication)
        properties = _properties(publication, PacketTypes.PUBLISH)
        if publication.qos == 0:
            await self._linked()
            self._client.publish(publication.topic, publication.payload, 0, publication.retain, properties)
            return
        slots = self._slots
        await slots.acquire()
        try:
            await self._linked()  # before CONNACK the library could send it ahead of CONNECT
        except BaseException:
            slots.release()
            raise
        sent = self._client.publish(publication.topic, publication.payload, 1, publication.retain, properties)
        answered = self._sending[sent.mid] = self._loop.create_future()
        answered.add_done_callback(lambda _: slots.release())  # with the PUBACK, whether anybody still waits or not
        try:
            code = await asyncio.shield(answered)
        except asyncio.CancelledError:
            if answered.cancelled() and self._failure is not None:
                raise self._failure from None
            raise
        if code >= 0x80:
            raise PublishRefused(f"the broker refused {publication.topic!r}: {reason(code)}")

    async def _linked(self) -> None:
        await self._desk.linked.wait()
        if self._failure is not None:
            raise self._failure

    def _on_publish(self, _client: Client, _data: Any, mid: int, code: ReasonCode, _got: Properties | None) -> None:
        answered = self._sending.pop(mid, None)
        if answered is not None and not answered.done():
            answered.set_result(code.value)

    async def send_subscribe(self, filters: Sequence[Filter]) -> Sequence[int]:
        """SUBSCRIBE, and wait for SUBACK."""
        asked = [(wanted.topic_filter, SubscribeOptions(qos=wanted.qos, noLocal=wanted.no_local)) for wanted in filters]
        _, mid = self._client.subscribe(asked)
        return await self._answer(mid)

    async def send_unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """UNSUBSCRIBE, and wait for UNSUBACK."""
        _, mid = self._client.unsubscribe(list(topic_filters))
        await self._answer(mid)

    async def _answer(self, mid: int | None) -> Sequence[int]:
        if mid is None:
            raise LinkDown
        answer = self._asking[mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await answer
        finally:
            del self._asking[mid]

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _got: Properties | None) -> None:
        asking = self._asking.get(mid)
        if asking is not None and not asking.done():
            asking.set_result([code.value for code in codes])

    def _on_unsubscribe(self, client: Client, data: Any, mid: int, codes: list[ReasonCode], got: Properties | None) -> None:
        self._on_subscribe(client, data, mid, codes, got)


class _Held(Packet):
    """A packet the broker waits to see acknowledged."""

    __slots__ = ("_session", "mid")

    def __init__(self, publication: Publication, mid: int, session: PahoTransport) -> None:
        super().__init__(publication)
        self.mid = mid
        self._session = session

    def acknowledge(self) -> None:
        self._session.flush_acknowledgements()


def _as_no_web_page(headers: dict[str, str]) -> dict[str, str]:
    """Leave out the Origin that the library makes up: a broker takes it for a web page's and may refuse it."""
    return {name: value for name, value in headers.items() if name != "Origin"}


@contextmanager
def _same(sock: Any) -> Generator[socket.socket, None, None]:
    """Give the connection of a socket or of the library's WebSocket, for options that need a plain one."""
    with socket.socket(fileno=os.dup(sock.fileno())) as plain:
        yield plain


def _properties(publication: Publication, kind: int) -> Properties | None:
    properties = Properties(kind)
    if publication.message_expiry_interval is not None:
        properties.MessageExpiryInterval = publication.message_expiry_interval
    if publication.response_topic is not None:
        properties.ResponseTopic = publication.response_topic
    if publication.correlation_data is not None:
        properties.CorrelationData = publication.correlation_data
    if publication.content_type is not None:
        properties.ContentType = publication.content_type
    if publication.user_properties:
        properties.UserProperty = list(publication.user_properties)
    return None if properties.isEmpty() else properties


def _publication(message: MQTTMessage) -> Publication:
    got = message.properties
    return Publication(
        topic=message.topic,
        payload=bytes(message.payload),
        qos=1 if message.qos else 0,
        retain=bool(message.retain),
        message_expiry_interval=getattr(got, "MessageExpiryInterval", None),
        response_topic=getattr(got, "ResponseTopic", None),
        correlation_data=getattr(got, "CorrelationData", None),
        content_type=getattr(got, "ContentType", None),
        user_properties=tuple((name, value) for name, value in getattr(got, "UserProperty", ())),
    )


__all__ = ["PahoTransport"]
