"""Gossip over transports: `foa/gossip/{orchestrator}` on the own broker, and on others.

    own broker ◄──► Gossip ◄──► another broker     one session on each; what is said is said on all of them
                      │
                      ├─► foa/capabilities/remote/{agent} on the own broker: agents of other brokers, retained
                      └─► its retained cards, where a peer says that an agent of it left (doubts.py)

A broker that cannot be reached holds nobody up: what should be said there waits, a bounded number of messages; then the
oldest is dropped, and the next digest finds what it would have told.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from foa.errors import BadInput, BadMessage, BrokerUnreachable, PublishRefused
from foa.ports import Clock, Transport
from foa.registry.doubts import without_card
from foa.registry.gossip import Gossip
from foa.registry.remote import RemoteAgents
from foa.values.ids import OrchestratorId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)

#: Opens a session at another broker. Raises BrokerUnreachable.
Connect = Callable[[], AbstractAsyncContextManager[Transport]]

WAITING = 64  #: messages that wait for one broker
AGAIN_SECONDS = 15.0  #: until a broker that could not be reached is tried again


async def gossip(
    gossip: Gossip,
    transport: Transport,
    *others: Connect,
    me: OrchestratorId,
    topics: Topics,
    clock: Clock,
    ready: asyncio.Event | None = None,
) -> None:
    """Keep a registry alike with its peers' until cancelled.

    Args:
        gossip: the registry's end.
        transport: the session at the own broker.
        others: one for each other broker; tried again for as long as it cannot be reached.
        me: name of this orchestrator.
        topics: topic names, the same on all brokers.
        clock: time.
        ready: set when it listens on its own broker.

    Raises:
        BrokerUnreachable: the own broker refuses the subscription.
    """
    outlets = [_Outlet() for _ in (transport, *others)]
    remote = RemoteAgents(gossip.registry, topics=topics, clock=clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(_talk(gossip, transport, outlets[0], me, topics, ready), name="gossip")
        for i, connect in enumerate(others, start=1):
            talking = _keep_talking(gossip, connect, outlets[i], me, topics, clock)
            group.create_task(talking, name=f"gossip[{i}]")
        group.create_task(_push(gossip, outlets, clock), name="gossip.push")
        group.create_task(_tell(remote, transport, gossip.rules.push_seconds, clock), name="gossip.remote")
        while True:
            await clock.sleep(gossip.rules.period_seconds)
            if doubted := gossip.doubted():
                gone = await without_card(transport, doubted, topics=topics, name=me)
                await gossip.left({agent: doubted[agent] for agent in gone})
            for outlet in outlets:
                outlet.say([gossip.digest()])


class _Outlet:
    """What waits to be said on one broker."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING)

    def say(self, payloads: Iterable[bytes]) -> None:
        """Say it when the broker takes it; where too much waits, the oldest is dropped."""
        for payload in payloads:
            if self.waiting.full():
                self.waiting.get_nowait()
            self.waiting.put_nowait(payload)


async def _push(gossip: Gossip, outlets: list[_Outlet], clock: Clock) -> None:
    while True:
        await clock.sleep(gossip.rules.push_seconds)
        changed = gossip.push()
        for outlet in outlets:
            outlet.say(changed)


async def _keep_talking(
    gossip: Gossip, connect: Connect, outlet: _Outlet, me: OrchestratorId, topics: Topics, clock: Clock
) -> None:
    while True:
        try:
            async with connect() as transport:
                await _talk(gossip, transport, outlet, me, topics, None)
        except* BrokerUnreachable as error:
            reason = str(error.exceptions[0])[:200]
            log.warning("another broker is not reached: %s", reason, extra={"event": "gossip_unreachable"})
        await clock.sleep(AGAIN_SECONDS)


async def _talk(
    gossip: Gossip,
    transport: Transport,
    outlet: _Outlet,
    me: OrchestratorId,
    topics: Topics,
    ready: asyncio.Event | None,
) -> None:
    """Hear and speak on one broker; who joins begins with a digest, and is told at once what it does not know."""
    async with (
        transport.subscribe(Filter(topic_filter=topics.gossip(), no_local=True)) as inbox,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_say(transport, outlet, topics.gossip(me)), name="gossip.say")
        outlet.say([gossip.digest()])
        if ready is not None:
            ready.set()
        async for delivery in inbox:
            try:
                for answer in await gossip.hear(delivery.publication.payload):
                    await outlet.waiting.put(answer)
            except BadMessage as error:
                log.info("gossip refused", extra={"event": "gossip_refused", "reason": str(error)[:200]})
            await delivery.acknowledge()


async def _say(transport: Transport, outlet: _Outlet, topic: str) -> None:
    while True:
        payload = await outlet.waiting.get()
        await _publish(transport, Publication(topic=topic, payload=payload))


async def _tell(remote: RemoteAgents, transport: Transport, seconds: float, clock: Clock) -> None:
    """Tell the own broker of agents at others."""
    while True:
        for publication in remote.news():
            await _publish(transport, publication)
        await clock.sleep(seconds)


async def _publish(transport: Transport, publication: Publication) -> None:
    try:
        await transport.publish(publication)
    except (PublishRefused, BadInput) as error:
        log.warning("gossip not published: %s", error, extra={"event": "gossip_not_published"})
