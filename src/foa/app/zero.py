"""Agent-0, joined: index, registry, router, reputation, exchange and the service around them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from foa.agent_zero import AgentZero
from foa.agents.announce import gone_agents, gone_since
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
from foa.ports import Clock, Embedder, Model, Transport, VectorIndex
from foa.registry.admission import RegistryLimits
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.registry.score import ScoreRules
from foa.registry.vitals import GONE
from foa.route import Router, RouteRules
from foa.settle import remember
from foa.values.ids import AgentId, OrchestratorId
from foa.values.parameters import Parameters
from foa.values.publication import Filter
from foa.values.topics import Topics


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
    index: VectorIndex | None = None,
    policies: frozenset[str] = frozenset(),
) -> AsyncGenerator[Registry]:
    """A registry that hears every card and all vitals of the federation while the block lasts.

    With a name, which only this session has, the block begins when the cards that are retained have been taken. Without an
    index the search is exact, which for the agents of one question is the quickest.
    """
    limits = RegistryLimits(policies=policies)
    registry = Registry(index or ExactIndex(embedder.dimension), embedder, clock=clock, limits=limits)

    async def hear(ready: asyncio.Event) -> None:
        await listen(registry, transport, topics=topics, clock=clock, ready=ready, name=name)

    try:
        async with running("registry", hear):
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
    index: VectorIndex | None = None,
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
        index: where agents are searched, closed with the block; exact search by default.
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
        registry = await enter(
            open_registry(transport, embedder=embedder, clock=clock, topics=topics, name=id, index=index, policies=labels)
        )
        exchange = await enter(Exchange(transport, reply_topic=topics.replies(id)))
        await remember(reputation, registry, stores.outcomes)
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
                        if registry.outlived(agent, since):
                            continue
                        calls.agent_left(agent)
                        await registry.hear_vitals(agent, GONE)
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
