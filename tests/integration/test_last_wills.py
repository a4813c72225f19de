"""A last will waits for a link that comes back, on both MQTT libraries."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from foa.ports import Transport
from foa.transport.mqtt import MqttTransport
from foa.transport.paho import PahoTransport
from foa.values.publication import Filter, Publication
from tests.brokers import open_link, start_embedded

WILL = Publication(topic="foa/capabilities/vitals/a", payload=b"gone")


@pytest.mark.parametrize("make", [MqttTransport, PahoTransport], ids=["mqttium", "paho"])
@pytest.mark.parametrize("back", [True, False], ids=["back", "dead"])
async def test_only_who_stays_away_is_called_gone(make: Callable[..., AbstractAsyncContextManager[Transport]], back: bool):
    async with (
        asyncio.timeout(20),
        start_embedded() as broker,
        open_link(broker.host, broker.port) as link,
        make(f"mqtt://{broker.host}:{broker.port}", client_id="zero") as zero,
        zero.subscribe(Filter(topic_filter="foa/#")) as inbox,
        make(f"mqtt://127.0.0.1:{link.port}", client_id="a", will=WILL, will_delay_interval=60 if back else 1) as agent,
    ):
        await link.cut()
        if back:
            await link.restore()
            await agent.publish(Publication(topic="foa/here", payload=b""))  # waits for the link
        heard = await anext(inbox)
        await link.restore()
    assert heard.publication.topic == ("foa/here" if back else WILL.topic)
