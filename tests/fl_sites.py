"""Sites of federated learning on a transport, for tests: announced as any agent, with the small app of `tests.fl_app`."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from flwr.app import Context

from foa.agents.announce import last_will
from foa.agents.host import AgentHost
from foa.agents.profile import AgentProfile
from foa.agents.versions import Versions
from foa.app.federated_site import site_host
from foa.fl.block import FlBlock, fl_of, node_id
from foa.fl.flower import context
from foa.fl.grids.node import FlowerNode
from foa.ports import Clock, Transport
from foa.registry.keys import SigningKey, new_key
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics
from tests.agents import WordEmbedder

PROJECT = "lines"
TOPICS = Topics("foa")
BEGAN = 1_000.0


def block(site: AgentId, **given: Any) -> FlBlock:
    """What a site of the tests' project says of itself."""
    return FlBlock(agent=site, **{"project": PROJECT, "samples": 20, **given})


def will(site: AgentId, *, since: float = BEGAN) -> Publication:
    """Its last will."""
    return last_will(TOPICS, site, [site], since=since)


@asynccontextmanager
async def announced(
    transport: Transport,
    said: FlBlock,
    clock: Clock,
    *,
    key: SigningKey | None = None,
    began: float = BEGAN,
    versions: Versions | None = None,
) -> AsyncGenerator[AgentHost]:
    """Announce a site while the block lasts."""
    profile = AgentProfile(
        agent_id=said.id,
        name=said.agent,
        description="a site",
        spec="",
        policies=frozenset(said.policies),
        kinds=("fl",),
        fl=fl_of(said),
    )
    host = site_host(
        transport,
        profile,
        clock,
        embedder=WordEmbedder(),
        key=key or new_key(),
        versions=versions or Versions(),
        began=began,
        topics=TOPICS,
    )
    async with host.serve():
        yield host


def node(transport: Transport, site: AgentId, app: Any, clock: Clock, partition: int = 0, **given: Any) -> FlowerNode:
    """Its end of the Grid."""
    return FlowerNode(transport, TOPICS, site, opener(app, site, partition), clock, **given)


def opener(app: Any, site: AgentId, partition: int) -> Callable[[str], tuple[Any, Context]]:
    """The same app in every run, with a state of its own in each."""
    return lambda run: (app, context(node_id(site), {"partition-id": partition}))
