"""Agent-0, joined: index, registry, router, reputation, exchange and the service around them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from foa.agent_zero import AgentZero
from foa.agents.announce import gone_agents, gone_since
from foa.app.search_place import Place
from foa.app.services import running
from foa.app.settings import Settings
from foa.app.stores import Stores
from foa.calls import Calls
from foa.enforce import Enforcer
from foa.exchange import Exchange
from foa.index.exact import ExactIndex
from foa.job import one_error
from foa.orchestrator import Orchestrator
from foa.policy.safety import SafetyFilter
from foa.ports import Clock, Embedder, KeptIndex, Model, Transport
from foa.registry.admission import RegistryLimits
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.registry.score import ScoreRules
from foa.route import Router, RouteRules
from foa.settle import remember
from foa.values.ids import AgentId, OrchestratorId
from foa.values.parameters import Parameters
from foa.values.publication import Filter
from foa.values.topics import Topics

SAVE_SECONDS = 10.0  #: how often what is new in a kept index is written to disk: what a kill costs is indexed again


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """A running Agent-0 and what others may ask it."""

    service: AgentZero
    registry: Registry
    router: Router


@asynccontextmanager
async def open_registry(
    transport: Transport,
    *,
    embedder: Embedder,
    clock: Clock,
    topics: Topics,
    name: str = "",
    place: Place | None = None,
    policies: frozenset[str] = frozenset(),
    taught: Callable[[Registry], Awaitable[None]] | None = None,
) -> AsyncGenerator[Registry]:
    """A registry that hears every card and all vitals of the federation while the block lasts.

    Args:
        transport: its subscriptions live as long as the block.
        embedder: ψ.
        clock: time.
        topics: topic names.
        name: which only this session has: the block begins when the cards that are retained have been taken.
        place: where it searches and where cards lie, closed with the block; by default both are in memory and the search is
            exact, which for the agents of one question is the quickest.
        policies: labels that cards may claim; none: any.
        taught: run before the first card is heard, so that an agent goes into the index with what it has proved, once.
    """
    limits = RegistryLimits(policies=policies)
    index = place.index if place else ExactIndex(embedder.dimension)
    registry = Registry(index, embedder, clock=clock, limits=limits, shelf=place.shelf if place else None)

    async def hear(ready: asyncio.Event) -> None:
        await listen(registry, transport, topics=topics, clock=clock, ready=ready, name=name)

    async def save(ready: asyncio.Event) -> None:
        ready.set()
        while True:
            await clock.sleep(SAVE_SECONDS)
            if isinstance(index, KeptIndex):
                await index.save()

    try:
        if taught is not None:
            await taught(registry)
        async with running("registry", hear), running("registry.save", save):
            yield registry
    finally:
        await registry.aclose()


@asynccontextmanager
async def run_agent_zero(
    settings: Settings,
    transport: Transport,
    *,
    id: OrchestratorId,  # noqa: A002 - the field's own name
    stores: Stores,
    embedder: Embedder,
    model: Model | None,
    clock: Clock,
    place: Place | None = None,
    resume: bool = True,
) -> AsyncGenerator[Zero]:
    """Serve jobs on this transport while the block lasts.

    Args:
        settings: parameters, root.
        transport: Agent-0's own session.
        id: its name; a restarted Agent-0 takes its jobs up again under the same one.
        stores: its journal and outcomes.
        embedder: ψ.
        model: for synthesis; None: reports are joined.
        clock: time.
        place: where agents are searched and their cards lie, closed with the block; by default in memory, by exact search.
        resume: whether to go on with this id's unfinished jobs.

    Raises:
        StoreFailed: the journal cannot be read.
    """
    topics = Topics(settings.root)
    reputation = Reputation()
    async with AsyncExitStack() as stack:
        stack.enter_context(one_error())
        enter = stack.enter_async_context
        labels = settings.known_policies()

        async def teach(registry: Registry) -> None:
            await remember(reputation, registry, stores.outcomes)

        registry = await enter(
            open_registry(
                transport,
                embedder=embedder,
                clock=clock,
                topics=topics,
                name=id,
                place=place,
                policies=labels,
                taught=teach,
            )
        )
        exchange = await enter(Exchange(transport, reply_topic=topics.replies(id)))
        calls = Calls(exchange, transport)
        router = Router(registry, embedder, reputation, clock=clock, rules=route_rules(settings.parameters))
        service = AgentZero(
            id=id,
            orchestrator=Orchestrator(
                transport=transport,
                calls=calls,
                registry=registry,
                enforcer=Enforcer(transport=transport, registry=registry),
                router=router,
                reputation=reputation,
                outcomes=stores.outcomes,
                embedder=embedder,
                model=model,
            ),
            transport=transport,
            journal=stores.journal,
            safety=SafetyFilter.default(),
            clock=clock,
            topics=topics,
            parameters=settings.parameters,
            resume=resume,
        )

        async def hear_losses(ready: asyncio.Event) -> None:
            async with transport.subscribe(Filter(topic_filter=topics.vitals())) as inbox:
                ready.set()
                async for delivery in inbox:
                    await delivery.acknowledge()
                    gone = gone_agents(delivery.publication, topics)
                    since = gone_since(delivery.publication) if gone else None
                    for agent in gone:
                        if not registry.outlived(agent, since):
                            calls.agent_left(agent)
                    if not gone:
                        calls.agent_is_here(AgentId(topics.id_of(delivery.publication.topic)))

        async with running("losses", hear_losses), running("agent-0", service.run):
            yield Zero(service=service, registry=registry, router=router)


def route_rules(parameters: Parameters) -> RouteRules:
    """The router's rules, as the parameters say."""
    return RouteRules(
        threshold=parameters.decomp_threshold,
        fallback=parameters.fallback_agents,
        fit=parameters.fit_threshold,
        reputation=parameters.reputation,
        score=ScoreRules(beta=parameters.beta),
    )
