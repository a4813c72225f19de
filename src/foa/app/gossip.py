"""Agent-0's part in gossip: who is heard, with which key it speaks, and the way to other brokers.

FOA_GOSSIP_PEERS   ─► started, with the keys of those that are heard
FOA_GOSSIP_BROKERS ─► a session at each of them beside the own broker's
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from foa.app.fabric import open_fabric
from foa.app.keys import orchestrator_key
from foa.app.services import running
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.ports import Clock, Transport
from foa.registry.gossip import Gossip, GossipRules
from foa.registry.gossiping import Connect, gossip
from foa.registry.keys import public_key
from foa.registry.registry import Registry
from foa.transport.address import parse_address
from foa.values.ids import OrchestratorId
from foa.values.topics import Topics


@asynccontextmanager
async def run_gossip(
    settings: Settings, registry: Registry, transport: Transport, *, me: OrchestratorId, clock: Clock
) -> AsyncGenerator[None]:
    """Keep a registry alike with the peers' of the settings while the block lasts; without peers, do nothing.

    Args:
        settings: peers, other brokers, period.
        registry: of this orchestrator.
        transport: its session at its own broker.
        me: its name.
        clock: time.

    Raises:
        BadInput: an address is none, or the peers give this orchestrator another key than it has.
        StoreFailed: the key cannot be read.
    """
    if not settings.gossip_peers:
        yield
        return
    key, peers = orchestrator_key(settings.state_dir), dict(settings.peers())
    if (given := peers.pop(me, public_key(key))) != public_key(key):
        raise BadInput(
            f"FOA_GOSSIP_PEERS gives {me} the key {given}, and its key on this machine is {public_key(key)}: "
            "is another orchestrator of that name?"
        )
    others = [_connect(settings, address, me) for address in settings.other_brokers()]
    rules = GossipRules(period_seconds=settings.gossip_seconds)
    ours = Gossip(registry, me=me, key=key, peers=peers, clock=clock, rules=rules)

    async def serve(ready: asyncio.Event) -> None:
        await gossip(ours, transport, *others, me=me, topics=Topics(settings.root), clock=clock, ready=ready)

    async with running("gossip", serve):
        yield


def _connect(settings: Settings, address: str, me: OrchestratorId) -> Connect:
    """The way to another broker, with the credentials of its own address: ours are not for it.

    Raises:
        BadInput: it is no address.
    """
    ca = settings.broker_ca if parse_address(address).encrypted else ""
    there = replace(settings, broker_url=address, broker_username="", broker_password="", broker_ca=ca)

    @asynccontextmanager
    async def session() -> AsyncGenerator[Transport]:
        async with AsyncExitStack() as stack:
            fabric = await stack.enter_async_context(open_fabric(there))
            yield await stack.enter_async_context(fabric.connect(f"{me}.gossip"))

    def connect() -> AbstractAsyncContextManager[Transport]:
        return session()

    return connect
