"""The registry's ear: cards and vitals off the fabric, refusals back onto it for the auditors.

Cards come in bursts (a late joiner gets every retained one at once), so they are taken in batches: one embedding call and one
index update for as many as have arrived.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from foa.errors import BadCapability, BadMessage
from foa.messages import encode
from foa.policy.gate import Enforcement
from foa.ports import Clock, Delivery, Transport
from foa.registry.registry import Registry
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)

BATCH = 512  #: most cards taken at once
WAITING = 4_096  #: most deliveries read ahead


async def listen(
    registry: Registry, transport: Transport, *, topics: Topics, clock: Clock, ready: asyncio.Event | None = None
) -> None:
    """Keep the registry up to date until cancelled.

    Args:
        registry: who takes the cards.
        transport: its subscriptions live as long as this runs.
        topics: topic names.
        clock: for the times of refusals.
        ready: set when it listens.

    Raises:
        BrokerUnreachable: the broker refuses the subscription.
    """
    waiting: asyncio.Queue[Delivery] = asyncio.Queue(WAITING)
    filters = (Filter(topic_filter=topics.capability()), Filter(topic_filter=topics.vitals(), qos=0))
    async with transport.subscribe(*filters) as inbox, asyncio.TaskGroup() as group:
        group.create_task(_read(inbox, waiting), name="cards")
        if ready is not None:
            ready.set()
        while True:
            batch = [await waiting.get()]
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            await _take(registry, transport, batch, topics, clock)
            for delivery in batch:
                await delivery.acknowledge()


async def _read(inbox: AsyncIterator[Delivery], waiting: asyncio.Queue[Delivery]) -> None:
    async for delivery in inbox:
        await waiting.put(delivery)


async def _take(registry: Registry, transport: Transport, batch: list[Delivery], topics: Topics, clock: Clock) -> None:
    """Cards of one batch together, in order; a leave or vitals between them keeps its place."""
    cards: list[tuple[AgentId, bytes]] = []

    async def admit() -> None:
        taken = await registry.admit_many(cards)
        for (agent, _), outcome in zip(cards, taken, strict=True):
            if isinstance(outcome, BadCapability):
                await _tell(transport, agent, outcome, topics, clock)
        cards.clear()

    for delivery in batch:
        publication = delivery.publication
        agent = AgentId(topics.id_of(publication.topic))
        if publication.topic == topics.capability(agent) and publication.payload:
            cards.append((agent, publication.payload))
            continue
        if cards:
            await admit()
        if publication.topic == topics.capability(agent):
            await registry.leave(agent)
        else:
            await _hear(registry, agent, publication)
    if cards:
        await admit()


async def _hear(registry: Registry, agent: AgentId, publication: Publication) -> None:
    try:
        await registry.hear_vitals(agent, publication.payload)
    except BadMessage as error:
        log.info("vitals passed over: %s", error, extra={"agent": agent})


async def _tell(transport: Transport, agent: AgentId, refusal: BadCapability, topics: Topics, clock: Clock) -> None:
    refused = Enforcement(at=clock.now(), decision="deny", gate="admission", agent=agent, reason=str(refusal)[:2_000])
    await transport.publish(Publication(topic=topics.enforcement(), payload=encode(refused), qos=0))
