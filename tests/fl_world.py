"""A small federation for tests of whole runs: the same sites in one process, and over a transport."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flwr.app import Context

from foa.app.clock import SystemClock
from foa.fl.blobs import FolderBlobs
from foa.fl.block import FlBlock, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import ClientAppCallable, context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.grids.node import FlowerNode
from foa.fl.guardian import Condition, Guardian, Limits
from foa.fl.ledger import PrivacyLedger
from foa.fl.roll import Roll, Wanted
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from tests import fl_app
from tests.fakes import HandClock
from tests.fl_sites import PROJECT, TOPICS, announced, will

AnyGrid = InProcessGrid | MqttGrid


@dataclass
class Place:
    """One site: its app, its state, its announcement."""

    name: AgentId
    app: ClientAppCallable
    context: Context
    block: FlBlock

    def open(self, run: str) -> tuple[ClientAppCallable, Context]:
        """App and state; the same in any run."""
        return self.app, self.context

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
        keys=keys or fl_app.KEYS,
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
    hub, clock, blobs = MemoryHub(), SystemClock(), FolderBlobs(folder / "blobs", run="run-1")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(MemoryTransport(hub, client_id="server"))
        grid = await enter(MqttGrid(server, TOPICS, "run-1", Roll(Wanted(project=PROJECT), clock), blobs=blobs))
        links = {
            place.name: await enter(MemoryTransport(hub, client_id=place.name, will=will(place.name))) for place in places
        }
        async with asyncio.TaskGroup() as group:
            tasks = list[asyncio.Task[None]]()
            for place in places:
                node = FlowerNode(links[place.name], TOPICS, place.name, place.open, clock, reach=lambda where: blobs)
                ready = asyncio.Event()
                tasks.append(group.create_task(node.serve(ready=ready), name=f"site[{place.name}]"))
                await ready.wait()
            async with AsyncExitStack() as hosts:
                for place in places:
                    said = replace(place.block, project=PROJECT)
                    await hosts.enter_async_context(announced(links[place.name], said, clock))
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
