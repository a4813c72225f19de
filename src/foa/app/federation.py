"""A whole federation in one block: broker, agents, Agent-0 and a client.

async with foa.Federation.start(agents=["agents/*.md"]) as federation:
    job = await federation.submit("How does Agent-0 decide?")
    async for event in job.events(): ...
    result = await job.result()
"""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foa.agents.announce import last_will
from foa.agents.brain import Agent
from foa.agents.host import AgentHost
from foa.agents.versions import Versions
from foa.app.agents import AgentSource, build_agents
from foa.app.alive import PASSING, close_abandoned, held
from foa.app.client import Client, JobHandle
from foa.app.clock import SystemClock
from foa.app.fabric import Fabric, open_fabric
from foa.app.keys import host_key
from foa.app.models import check_endpoint, open_embedder, open_model
from foa.app.settings import Settings, read_settings
from foa.app.stores import Stores, open_stores
from foa.app.zero import Zero, run_agent_zero
from foa.job import one_error
from foa.ports import Clock, Embedder, Model
from foa.values.budget import Budget
from foa.values.ids import AgentId, OrchestratorId
from foa.values.task import Submission, Task
from foa.values.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """A running federation and the way to give it work."""

    settings: Settings
    client: Client
    zero: Zero
    stores: Stores
    fabric: Fabric

    @staticmethod
    @asynccontextmanager
    async def start(
        settings: Settings | None = None,
        *,
        agents: Sequence[AgentSource] = (),
        over: Path | str | None = None,
        state: Path | str | None = None,
        model: Model | None = None,
        embedder: Embedder | None = None,
    ) -> AsyncGenerator["Federation"]:
        """Start everything; when the block begins, every agent is announced and can be found.

        Args:
            settings: read from environment and files by default.
            agents: agent files, `@foa.agent` functions, or agents with a brain of your own.
            over: the folder that agents with relative tools look at.
            state: file or database URL for jobs, reputation and replies; None: memory, gone with the block.
            model: for language-model agents and synthesis; the settings' by default, started when it is first asked.
            embedder: ψ; the settings' by default.

        Raises:
            BadInput: an agent file or setting is not usable.
            BrokerUnreachable: no broker.
            ModelUnreachable: agent files need a model, and nobody answers at its endpoint.
            StoreFailed: the state cannot be opened.
        """
        settings = settings or read_settings()
        clock = SystemClock()
        async with AsyncExitStack() as stack:
            stack.enter_context(one_error())
            enter = stack.enter_async_context
            name = OrchestratorId(f"{PASSING}{secrets.token_hex(4)}")
            kept_here = state is not None and "://" not in str(state)
            if kept_here:
                stack.enter_context(held(settings.state_dir, name))
            stores = await enter(open_stores(state, clock))
            if kept_here:
                await close_abandoned(stores.journal, settings.state_dir, now=clock.now())
            embedder = embedder or await enter(open_embedder(settings))
            if model is None:
                if any(not isinstance(source, Agent) for source in agents):
                    await check_endpoint(settings)
                model = await enter(open_model(settings))
            fabric = await enter(open_fabric(settings))
            built = await enter(
                build_agents(agents, model=model, embedder=embedder, clock=clock, settings=settings, over=over)
            )
            zero = await enter(_zero(settings, name, fabric, stores, embedder, model, clock))
            await enter(run_agents(settings, fabric, built, embedder=embedder, stores=stores, clock=clock))
            await zero.registry.known([agent.profile.agent_id for agent in built])
            client = await enter(_client(settings, fabric))
            yield Federation(settings=settings, client=client, zero=zero, stores=stores, fabric=fabric)

    async def submit(
        self,
        task: str | Task | Submission,
        *,
        budget: Budget | None = None,
        synth: Literal["concatenate", "rebase", "merge"] | None = None,
    ) -> JobHandle:
        """Give the federation work; returns as soon as Agent-0 has taken it.

        Args:
            task: words, a task with policies and needs, or a whole submission.
            budget: what it may spend; the settings' by default.
            synth: how the answer is put together; the settings' by default.

        Raises:
            Unreachable: no Agent-0 took it.
        """
        if isinstance(task, str):
            task = Task(text=task)
        if isinstance(task, Task):
            task = Submission(task=task, budget=budget or self.settings.budget, synth=synth)
        return await self.client.submit(task)


@asynccontextmanager
async def run_agents(
    settings: Settings,
    fabric: Fabric,
    agents: Sequence[Agent],
    *,
    embedder: Embedder,
    stores: Stores,
    clock: Clock,
    host: str = "",
) -> AsyncGenerator[AgentHost | None]:
    """Announce agents on one connection and answer for them while the block lasts.

    Args:
        settings: root, state folder (key and versions of the cards).
        fabric: the way to the broker.
        agents: who lives here; none is allowed.
        embedder: for their cards.
        stores: for their replies.
        clock: time.
        host: name of the connection; a random one by default.

    Raises:
        BadInput: two agents have one id.
        BrokerUnreachable: no broker.
    """
    if not agents:
        yield None
        return
    topics = Topics(settings.root)
    host = host or f"host-{secrets.token_hex(4)}"
    began = clock.now()
    will = last_will(topics, host, [AgentId(agent.profile.agent_id) for agent in agents], since=began)
    async with fabric.connect(host, will=will, away_seconds=settings.away_seconds) as transport:
        served = AgentHost(
            transport,
            agents,
            embedder=embedder,
            replies=stores.replies,
            clock=clock,
            topics=topics,
            key=host_key(settings.state_dir),
            versions=Versions(settings.state_dir / "versions.json"),
            host=host,
            began=began,
        )
        async with served.serve() as running:
            yield running


@asynccontextmanager
async def _zero(
    settings: Settings, name: OrchestratorId, fabric: Fabric, stores: Stores, embedder: Embedder, model: Model, clock: Clock
) -> AsyncGenerator[Zero]:
    async with (
        fabric.connect(name) as transport,
        run_agent_zero(
            settings,
            transport,
            id=name,
            stores=stores,
            embedder=embedder,
            model=model,
            clock=clock,
            resume=False,
        ) as zero,
    ):
        yield zero


@asynccontextmanager
async def _client(settings: Settings, fabric: Fabric) -> AsyncGenerator[Client]:
    async with (
        fabric.connect(f"client-{secrets.token_hex(4)}") as transport,
        Client(transport, Topics(settings.root)) as client,
    ):
        yield client
