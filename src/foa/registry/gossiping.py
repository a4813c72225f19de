"""Gossip over a transport: `foa/gossip/{orchestrator}`. For two brokers, run one of these on each side with one `Gossip`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from foa.errors import BadMessage
from foa.ports import Clock, Transport
from foa.registry.gossip import Gossip
from foa.values.ids import OrchestratorId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)


async def gossip(
    gossip: Gossip,
    *transports: Transport,
    me: OrchestratorId,
    topics: Topics,
    clock: Clock,
    ready: asyncio.Event | None = None,
) -> None:
    """Keep a registry alike with its peers' until cancelled.

    Args:
        transports: one for each broker; what is said is said on all of them, an answer on the one that asked.
        ready: set when all of them listen.

    Raises:
        BrokerUnreachable: a broker refuses the subscription.
    """

    async def tell(payloads: list[bytes]) -> None:
        for transport in transports:
            await _publish(transport, topics.gossip(me), payloads)

    listening = [asyncio.Event() for _ in transports]
    async with asyncio.TaskGroup() as group:
        for i, (transport, event) in enumerate(zip(transports, listening, strict=True)):
            group.create_task(_hear(gossip, transport, me, topics, event), name=f"gossip.hear[{i}]")
        for event in listening:
            await event.wait()
        if ready is not None:
            ready.set()
        group.create_task(_push(gossip, tell, clock), name="gossip.push")
        while True:
            await tell([gossip.digest()])
            await clock.sleep(gossip.rules.period_seconds)


async def _push(gossip: Gossip, tell: Callable[[list[bytes]], Awaitable[None]], clock: Clock) -> None:
    while True:
        await clock.sleep(gossip.rules.push_seconds)
        await tell(gossip.push())


async def _hear(gossip: Gossip, transport: Transport, me: OrchestratorId, topics: Topics, listening: asyncio.Event) -> None:
    async with transport.subscribe(Filter(topic_filter=topics.gossip(), no_local=True)) as inbox:
        listening.set()
        async for delivery in inbox:
            try:
                await _publish(transport, topics.gossip(me), await gossip.hear(delivery.publication.payload))
            except BadMessage as error:
                log.info("gossip refused", extra={"event": "gossip_refused", "reason": str(error)[:200]})
            await delivery.acknowledge()


async def _publish(transport: Transport, topic: str, payloads: list[bytes]) -> None:
    for payload in payloads:
        await transport.publish(Publication(topic=topic, payload=payload))
