"""A small federation for tests of whole runs: the same sites in one process, and over a transport."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context

from foa.fl.blobs import FolderBlobs
from foa.fl.block import FlBlock, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import ClientAppCallable, context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import FlowerNode, FlTopics, MqttGrid, farewell
from foa.fl.guardian import Condition, Guardian, Limits
from foa.fl.ledger import PrivacyLedger
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from tests import fl_app
from tests.fakes import HandClock

AnyGrid = InProcessGrid | MqttGrid


@dataclass
class Place:
    """One site: its app, its state, its announcement."""

    name: AgentId
    app: ClientAppCallable
    context: Context
    block: FlBlock

    @property
    def node(self) -> int:
        """Flower's number of it."""
        return node_id(self.name)


@dataclass
class World:
    """A grid with its sites."""

    grid: AnyGrid
    profiles: Callable[[], Mapping[int, FlBlock]]
    transports: Mapping[AgentId, MemoryTransport] = field(default_factory=dict)


def guarded_site(
    number: int,
    limits: Limits | None = None,
    *,
    app: ClientAppCallable | None = None,
    ledger: PrivacyLedger | None = None,
    width: float = 1.0,
    keys: Mapping[str, str] | None = None,
) -> Place:
    """A site with a guardian in front of an ordinary app."""
    name = AgentId(f"site-{number}")
    behind = Site(
        guardian=Guardian(limits or Limits(), ledger),
        condition=lambda: Condition(records=2000),
        clock=HandClock(),
        keys=keys or {"epochs": "local-epochs"},
    )
    return Place(
        name=name,
        app=guarded(app or fl_app.make_app(), behind),
        context=context(node_id(name), {"partition-id": number}),
        block=FlBlock(agent=name, samples=20, width=width),
    )


@asynccontextmanager
async def in_process(places: list[Place], folder: Path) -> AsyncIterator[World]:
    """All of them in threads."""
    with InProcessGrid({place.node: (place.app, place.context) for place in places}, run="run-1") as grid:
        yield World(grid, lambda: {place.node: place.block for place in places})


@asynccontextmanager
async def over_memory(places: list[Place], folder: Path) -> AsyncIterator[World]:
    """Each at the other end of a transport."""
    hub, topics, blobs = MemoryHub(), FlTopics("foa", "run-1"), FolderBlobs(folder / "blobs")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(MemoryTransport(hub, client_id="server"))
        links = dict[AgentId, MemoryTransport]()
        for place in places:
            link = MemoryTransport(hub, client_id=place.name, will=farewell(topics, place.name))
            links[place.name] = await stack.enter_async_context(link)
        grid = await stack.enter_async_context(MqttGrid(server, topics, blobs=blobs))
        async with asyncio.TaskGroup() as group:
            tasks = list[asyncio.Task[None]]()
            for place in places:
                node = FlowerNode(links[place.name], topics, place.block, place.app, place.context, blobs=blobs)
                tasks.append(group.create_task(node.serve(), name=f"site[{place.name}]"))
            await grid.present(len(places), seconds=5)
            try:
                yield World(grid, grid.profiles, links)
            finally:
                for task in tasks:
                    task.cancel()


WORLDS: Mapping[str, Callable[[list[Place], Path], AbstractAsyncContextManager[World]]] = {
    "in-process": in_process,
    "transport": over_memory,
}
