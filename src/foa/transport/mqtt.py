"""The Transport port over a real broker, on `mqttium`."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Sequence
from typing import Any

from mqttium.api import AsyncClient, ConnAckPacket, Message, Properties, PublishMessage, ReconnectPolicy, SubscribeOptions
from mqttium.enums import MQTTProtocolVersion, QoS
from mqttium.errors import (
    BrokerDisconnectError,
    ConnectRefusedError,
    FlowControlError,
    MQTTError,
    MQTTTimeoutError,
    NotConnectedError,
    PacketTooLargeError,
    ProtocolError,
    PublishRejectedError,
    SubscribeError,
)

from foa.errors import BrokerUnreachable, PublishRefused
from foa.transport.address import Address
from foa.transport.desk import LinkDown
from foa.transport.inbox import Packet
from foa.transport.reasons import reason
from foa.transport.rules import check_publication
from foa.transport.session import BrokerSession
from foa.values.publication import Filter, Publication

BETWEEN_LINKS_SECONDS = 0.01  #: the library refuses for some turns between losing a link and looking for the next
HOOK_SECONDS = 1.0  #: how long its word on a lost link is waited for
MAX_PACKET_BYTES = 2_000_000  #: a payload of 1 MB with its properties


class MqttTransport(BrokerSession):
    """A Transport over one MQTT v5 session: `async with MqttTransport("mqtt://localhost", client_id="a7") as t: ...`.

    Entering fails at once when there is no broker; later cuts are repaired by the library's one reconnect loop, jittered and
    capped. Acknowledgements leave in the order of arrival (MQTT v5, 4.6), so a delivery that is kept unacknowledged for long
    holds back those of later ones on the same connection, until the receive window is full.

    Args:
        address: as `parse_address` reads it.
        client_id: whose session it is; two connections with the same one push each other out.
        will: published by the broker when this process dies without leaving.
        will_delay_interval: how long the broker waits with it, seconds: a link that is back by then was never away
            (3.1.3.2.2).
        session_expiry_interval: seconds the broker keeps the session after the link ends (3.1.2.11.2).
        receive_maximum: QoS 1 messages not yet acknowledged, at most (3.1.2.11.3). Mosquitto lowers it to its own
            `max_inflight_messages`, 20 unless set.
        send_maximum: QoS 1 publications on their way at the same time, at most; None: what the broker allows.
        connect_seconds: how long one attempt to connect may take.
        retry_seconds: longest pause between attempts to connect again.
        keep_alive: seconds of silence after which the link is checked; above 0.
        unclaimed_seconds: how long a message waits for a `subscribe` that wants it, after a restart.
    """

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
        self._tls = self._address.tls()
        # no retry until the first connection stands, so that a wrong address is told at once
        self._patience = ReconnectPolicy(
            initial_delay=min(0.05 + 0.1 * random.random(), retry_seconds),
            max_delay=retry_seconds,
            max_retries=0,
            stable_after=5.0,
        )
        self._client = AsyncClient(
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            clean_start=False,  # a session begun with 1 is forgotten by Mosquitto at its restart
            keepalive=keep_alive,
            username=self._address.username,
            password=self._address.password,
            connect_properties=Properties({"session_expiry_interval": session_expiry_interval}),
            will=None if will is None else _will(will, will_delay_interval),
            maximum_packet_size=MAX_PACKET_BYTES,
            max_inbound_inflight=receive_maximum,
            max_outbound_inflight=send_maximum,
            manual_ack=True,
            max_iterator_bytes=None,  # QoS 1 is bounded by the window, QoS 0 by the inboxes
            reconnect=self._patience,
            connect_timeout=connect_seconds,
        )
        self._client.on_connect = self._linked
        self._client.on_disconnect = self._unlinked
        self._held: dict[int, _Held] = {}
        self._loss: BaseException | None = None
        self._lost = asyncio.Event()

    # ── link ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def open_link(self) -> None:
        """Connect, or say at once why not."""
        address = self._address
        try:
            if address.websocket:
                await self._client.connect_ws(address.url, ssl=self._tls)
            else:
                await self._client.connect(address.host, address.port, ssl=self._tls)
        except ConnectRefusedError as error:
            raise self.refused(error.reason_code) from error
        except MQTTTimeoutError as error:
            raise self.unreachable("it does not answer") from error
        except (MQTTError, OSError) as error:
            raise self.unreachable(error.__cause__ or error) from error
        object.__setattr__(self._patience, "max_retries", None)  # from here on it never gives up
        self._arrivals = self._client.messages()

    async def close_link(self, *, with_will: bool) -> None:
        """DISCONNECT."""
        linked = self._client.is_connected
        await self._client.disconnect(0x04 if with_will else 0x00)
        if linked:
            await self._told_of_loss()

    def _linked(self, connack: ConnAckPacket) -> None:
        self._lost.clear()
        self._desk.link_up(session_present=connack.session_present)

    def _unlinked(self, loss: BaseException | None) -> None:
        self._loss = loss
        self._lost.set()
        self._desk.link_down()

    async def _told_of_loss(self) -> None:
        with contextlib.suppress(TimeoutError):  # the library tells some turns later, from a task of its own
            async with asyncio.timeout(HOOK_SECONDS):
                await self._lost.wait()

    async def run_link(self) -> None:
        """Hand on what arrives until the library gives up."""
        async for message in self._arrivals:
            again = self._take(message)
            if again is not None:
                await again
        await self._told_of_loss()
        loss = self._loss
        why = reason(loss.reason_code) if isinstance(loss, BrokerDisconnectError | ConnectRefusedError) else loss
        self.fail(BrokerUnreachable(f"the broker at {self._address} ended the session of {self._client_id!r}: {why}"))

    # ── arrivals ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _take(self, message: Message) -> Awaitable[None] | None:
        publication = _publication(message)
        mid = message.mid
        if mid is None:
            self._demux.deliver(publication, None)
            return None
        held = self._held.get(mid)
        if held is not None and message.dup and held.publication == publication:
            held.message = message  # sent again after a cut, and still here: nobody needs to see it twice
            return self.acknowledge(held) if held.settled else None
        held = self._held[mid] = _Held(publication, message, mid, self)
        self._demux.deliver(publication, held)
        return None

    async def acknowledge(self, held: "_Held") -> None:
        """Send PUBACK; with the link down, when the broker sends the message again."""
        try:
            await self._client.ack(held.message)
        except (NotConnectedError, OSError):
            return
        except ProtocolError:
            pass  # the session was lost meanwhile: the broker no longer knows this packet
        if self._held.get(held.mid) is held:
            del self._held[held.mid]

    # ── publish and subscribe ──────────────────────────────────────────────────────────────────────────────────────────
    async def publish(self, publication: Publication) -> None:
        """See `foa.ports.Transport.publish`."""
        check_publication(publication)
        if publication.qos == 0:
            await self.connected()
        properties = _properties(publication)
        while True:
            if await self._sent(publication, properties):
                return
            await asyncio.sleep(BETWEEN_LINKS_SECONDS)

    async def _sent(self, publication: Publication, properties: Properties | None) -> bool:
        """Send once; False where the link broke so that the library took nothing, or nobody can say whether it did."""
        try:
            await self._send(publication, properties)
        except (NotConnectedError, OSError) as error:
            if self._failure is not None:
                raise self._failure from error
            return publication.qos == 0  # at most once
        except PublishRejectedError as error:
            raise PublishRefused(f"the broker refused {publication.topic!r}: {reason(error.reason_code)}") from error
        except (PacketTooLargeError, ProtocolError) as error:
            raise PublishRefused(f"{publication.topic!r} cannot be sent: {error}") from error
        except MQTTError as error:
            raise self._failure or self.unreachable(error) from error
        return True

    async def _send(self, publication: Publication, properties: Properties | None) -> None:
        topic, payload, qos, retain = publication.topic, publication.payload, publication.qos, publication.retain
        try:
            receipt = self._client.publish_nowait(topic, payload, qos=qos, retain=retain, properties=properties)
        except FlowControlError:  # a queue is full: wait for room
            receipt = await self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        await receipt.wait()

    async def send_subscribe(self, filters: Sequence[Filter]) -> Sequence[int]:
        """SUBSCRIBE, and wait for SUBACK."""
        asked = [
            (wanted.topic_filter, SubscribeOptions(qos=QoS(wanted.qos), no_local=wanted.no_local)) for wanted in filters
        ]
        try:
            return (await self._client.subscribe(asked)).reason_codes
        except SubscribeError as error:
            return error.result.reason_codes
        except MQTTTimeoutError:
            raise
        except ProtocolError:
            return [0x82] * len(filters)  # what the broker said at CONNACK forbids it: wildcards, shares
        except (MQTTError, OSError) as error:
            raise LinkDown from error

    async def send_unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """UNSUBSCRIBE, and wait for UNSUBACK."""
        try:
            await self._client.unsubscribe(topic_filters)
        except MQTTTimeoutError:
            raise
        except (MQTTError, OSError) as error:
            raise LinkDown from error


class _Held(Packet):
    """A packet the broker waits to see acknowledged, with the library's handle."""

    __slots__ = ("_session", "message", "mid")

    def __init__(self, publication: Publication, message: Message, mid: int, session: MqttTransport) -> None:
        super().__init__(publication)
        self.message = message
        self.mid = mid
        self._session = session

    def acknowledge(self) -> Awaitable[None]:
        return self._session.acknowledge(self)


def _properties(publication: Publication) -> Properties | None:
    values: dict[str, Any] = {}
    if publication.message_expiry_interval is not None:
        values["message_expiry_interval"] = publication.message_expiry_interval
    if publication.response_topic is not None:
        values["response_topic"] = publication.response_topic
    if publication.correlation_data is not None:
        values["correlation_data"] = publication.correlation_data
    if publication.content_type is not None:
        values["content_type"] = publication.content_type
    if publication.user_properties:
        values["user_property"] = publication.user_properties
    return Properties(values) if values else None


def _will(will: Publication, delay: int) -> PublishMessage:
    found = _properties(will)
    properties = Properties({**(found.values if found is not None else {}), "will_delay_interval": delay})
    return PublishMessage(
        topic=will.topic, payload=will.payload, qos=QoS(will.qos), retain=will.retain, properties=properties
    )


def _publication(message: Message) -> Publication:
    got = message.properties.values if message.properties is not None else None
    qos = 1 if message.qos else 0
    if not got:
        return Publication(topic=message.topic, payload=message.payload, qos=qos, retain=message.retain)
    return Publication(
        topic=message.topic,
        payload=message.payload,
        qos=qos,
        retain=message.retain,
        message_expiry_interval=got.get("message_expiry_interval"),
        response_topic=got.get("response_topic"),
        correlation_data=got.get("correlation_data"),
        content_type=got.get("content_type"),
        user_properties=got.get("user_property", ()),
    )


__all__ = ["MqttTransport"]
