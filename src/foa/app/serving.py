"""The parts of a federation as processes of their own: agents, an orchestrator, all of it on one machine.

up  =  broker (child process) + orchestrator + agents, on one address that others can join
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from foa.agents.brain import Agent
from foa.app.agents import AgentSource, build_agents
from foa.app.alive import held
from foa.app.broker_process import broker_process
from foa.app.clock import SystemClock
from foa.app.fabric import Fabric, open_fabric
from foa.app.federation import run_agents
from foa.app.gossip import run_gossip
from foa.app.models import check_endpoint, open_embedder, open_model
from foa.app.places import broker_folder, journal_file, registry_folder
from foa.app.search_place import open_place
from foa.app.settings import Settings
from foa.app.stores import open_stores
from foa.app.zero import Zero, run_agent_zero
from foa.job import one_error
from foa.values.ids import OrchestratorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What runs while the block lasts."""

    url: str  #: of the broker
    agents: tuple[Agent, ...] = ()
    zero: Zero | None = None


@asynccontextmanager
async def serve_agents(settings: Settings, sources: Sequence[AgentSource], *, over: Path | None) -> AsyncGenerator[Serving]:
    """Announce agents at the settings' broker and answer for them while the block lasts.

    Raises:
        BadInput: an agent file is not usable.
        BrokerUnreachable: no broker at that address.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(one_error())
        yield await _serve(stack, settings, sources, over=over)


@asynccontextmanager
async def serve_orchestrator(settings: Settings, *, name: str) -> AsyncGenerator[Serving]:
    """Serve jobs at the settings' broker while the block lasts; unfinished jobs of this name go on.

    Raises:
        BadInput: the name is no id, or is served on this machine already, or another one keeps its agents in FOA_INDEX_DIR.
        BrokerUnreachable: no broker at that address.
        StoreFailed: the journal or the index cannot be read, or the index's server does not answer.
    """
    with held(settings.state_dir, name):
        async with AsyncExitStack() as stack:
            stack.enter_context(one_error())
            kept = registry_folder(settings, name, keep=True)
            yield await _serve(stack, settings, (), over=None, orchestrator=name, kept=kept)


@asynccontextmanager
async def serve_all(
    settings: Settings, sources: Sequence[AgentSource], *, over: Path | None, name: str
) -> AsyncGenerator[Serving]:
    """A whole federation; with no broker in the settings, with one of its own on `settings.broker_port`.

    Raises:
        BadInput, BrokerUnreachable, StoreFailed: as its parts.
    """
    with held(settings.state_dir, name):
        async with AsyncExitStack() as stack:
            stack.enter_context(one_error())
            if not settings.broker_url:
                data_dir = broker_folder(settings)
                port = await stack.enter_async_context(broker_process(data_dir=data_dir, port=settings.broker_port))
                settings = replace(settings, broker_url=f"mqtt://127.0.0.1:{port}")
            kept = registry_folder(settings, name, keep=False)
            yield await _serve(stack, settings, sources, over=over, orchestrator=name, kept=kept)


async def _serve(
    stack: AsyncExitStack,
    settings: Settings,
    sources: Sequence[AgentSource],
    *,
    over: Path | None,
    orchestrator: str = "",
    kept: Path | None = None,
) -> Serving:
    clock, enter = SystemClock(), stack.enter_async_context
    stores = await enter(open_stores(journal_file(settings), clock))
    embedder = await enter(open_embedder(settings))
    if sources:
        await check_endpoint(settings)
    model = await enter(open_model(settings))
    fabric: Fabric = await enter(open_fabric(settings))
    zero = None
    if orchestrator:
        transport = await enter(fabric.connect(orchestrator))
        place = await enter(open_place(settings, embedder, orchestrator=orchestrator, folder=kept))
        zero = await enter(
            run_agent_zero(
                settings,
                transport,
                id=OrchestratorId(orchestrator),
                stores=stores,
                embedder=embedder,
                model=model,
                clock=clock,
                place=place,
            )
        )
        me = OrchestratorId(orchestrator)
        await enter(run_gossip(settings, zero.registry, transport, me=me, clock=clock))
    agents = await enter(build_agents(sources, model=model, embedder=embedder, clock=clock, settings=settings, over=over))
    await enter(run_agents(settings, fabric, agents, embedder=embedder, stores=stores, clock=clock))
    return Serving(url=settings.broker_url, agents=tuple(agents), zero=zero)
