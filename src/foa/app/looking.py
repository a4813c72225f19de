"""Who is there: a registry and a router without an orchestrator, for `foa agents`.

broker given    ─► listen to its retained cards until they stop coming
none            ─► the federation's files, announced to a fabric in memory
"""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from foa.app.agents import AgentSource, build_agents
from foa.app.clock import SystemClock
from foa.app.fabric import IN_MEMORY, open_fabric
from foa.app.federation import run_agents
from foa.app.models import open_embedder, open_model
from foa.app.settings import Settings
from foa.app.stores import memory_stores
from foa.app.zero import open_registry, route_rules
from foa.job import one_error
from foa.ports import Clock
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.route import Router
from foa.values.topics import Topics

QUIET_SECONDS = 0.4  #: no new card for this long: the retained ones have all come
FIRST_SECONDS = 3.0  #: how long to wait for the first
MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What there is to see."""

    registry: Registry
    router: Router
    settings: Settings


@asynccontextmanager
async def look(settings: Settings, sources: Sequence[AgentSource] = (), *, over: Path | None = None) -> AsyncGenerator[View]:
    """See the agents at the settings' broker, or, without one, those of `sources`.

    Raises:
        BadInput: an agent file is not usable.
        BrokerUnreachable: no broker at that address.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(one_error())
        enter = stack.enter_async_context
        embedder = await enter(open_embedder(settings))
        here = not settings.broker_url
        settings = replace(settings, broker_url=settings.broker_url or IN_MEMORY)
        fabric = await enter(open_fabric(settings))
        transport = await enter(fabric.connect(f"look-{secrets.token_hex(4)}"))
        topics = Topics(settings.root)
        labels = settings.known_policies()
        registry = await enter(open_registry(transport, embedder=embedder, clock=clock, topics=topics, policies=labels))
        if here:
            model = await enter(open_model(settings))
            agents = await enter(
                build_agents(sources, model=model, embedder=embedder, clock=clock, settings=settings, over=over)
            )
            stores = memory_stores(clock)
            await enter(run_agents(settings, fabric, agents, embedder=embedder, stores=stores, clock=clock))
            await registry.known([agent.profile.agent_id for agent in agents])
        else:
            await _settle(registry, clock)
        router = Router(registry, embedder, Reputation(), clock=clock, rules=route_rules(settings.parameters))
        yield View(registry=registry, router=router, settings=settings)


async def _settle(registry: Registry, clock: Clock) -> None:
    """Wait until cards stop coming. MQTT does not say which retained message is the last (3.3.1.3)."""
    began, seen = clock.monotonic(), 0
    while clock.monotonic() - began < MOST_SECONDS:
        await clock.sleep(QUIET_SECONDS)
        now = len(registry) + len(registry.refusals)
        if now == seen and (now or clock.monotonic() - began >= FIRST_SECONDS):
            return
        seen = now
