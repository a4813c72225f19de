"""One suite for every Grid: the same unchanged Flower app, strategy and figures in one process and over a transport."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from tests import fl_app
from tests.fl_sites import PROJECT, TOPICS, announced, block, node, will

from foa.app.clock import SystemClock
from foa.errors import JobCancelled
from foa.fl.blobs import FolderBlobs
from foa.fl.block import FlBlock, node_id
from foa.fl.flower import context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.roll import Roll, Wanted
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId

AnyGrid = InProcessGrid | MqttGrid
SITES = [AgentId(f"site-{i}") for i in range(4)]


@dataclass
class World:
    """A grid with its sites."""

    grid: AnyGrid
    blocks: dict[int, FlBlock]
    tasks: dict[AgentId, asyncio.Task[None]]
    transports: dict[AgentId, MemoryTransport]


@asynccontextmanager
async def in_process(app: ClientApp, folder: Path) -> AsyncIterator[World]:
    blocks = {node_id(site): FlBlock(agent=site, samples=20) for site in SITES}
    apps = {node_id(site): (app, context(node_id(site), {"partition-id": i})) for i, site in enumerate(SITES)}
    with InProcessGrid(apps, workers=2) as grid:
        yield World(grid, blocks, {}, {})


@asynccontextmanager
async def over_memory(app: ClientApp, folder: Path) -> AsyncIterator[World]:
    hub, clock = MemoryHub(), SystemClock()
    blobs = FolderBlobs(folder / "blobs", run="run-1")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await enter(MemoryTransport(hub, client_id="server"))
        roll = Roll(Wanted(project=PROJECT), clock)
        grid = await enter(MqttGrid(server, TOPICS, "run-1", roll, blobs=blobs))
        transports = {site: await enter(MemoryTransport(hub, client_id=site, will=will(site))) for site in SITES}
        async with asyncio.TaskGroup() as group:
            tasks = {}
            for i, site in enumerate(SITES):
                end, ready = node(transports[site], site, app, clock, i, reach=lambda place: blobs), asyncio.Event()
                tasks[site] = group.create_task(end.serve(ready=ready), name=f"site[{site}]")
                await ready.wait()
            async with AsyncExitStack() as hosts:
                for site in SITES:
                    await hosts.enter_async_context(announced(transports[site], block(site), clock))
                await grid.present(len(SITES), seconds=5)
                try:
                    yield World(grid, grid.profiles(), tasks, transports)
                finally:
                    for task in tasks.values():
                        task.cancel()


GRIDS: dict[str, Callable[..., object]] = {"in-process": in_process, "transport": over_memory}


@pytest.fixture(params=GRIDS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[ClientApp], object]:
    return lambda app: GRIDS[request.param](app, tmp_path)


def strategy() -> FedAvg:
    return FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


async def trained(grid: AnyGrid, rounds: int = 4) -> tuple[list[float], dict[int, float]]:
    result = await asyncio.to_thread(
        strategy().start, grid, fl_app.start(), num_rounds=rounds, train_config=fl_app.config(), timeout=30
    )
    accuracies = {number: float(record["accuracy"]) for number, record in result.evaluate_metrics_clientapp.items()}
    return result.arrays["w"].numpy().tolist(), accuracies


async def test_an_ordinary_flower_app_trains_unchanged(world) -> None:
    async with world(fl_app.make_app()) as there:
        weights, accuracies = await trained(there.grid)
    assert weights == pytest.approx([2.0, -1.0], abs=0.1)
    assert accuracies[4] > 0.95


async def test_every_grid_gives_the_very_same_figures(tmp_path: Path) -> None:
    found = []
    for make in GRIDS.values():
        # Flower draws the order of messages from the global generator, and floats add up in that order
        random.seed(1)
        async with make(fl_app.make_app(), tmp_path) as there:
            found.append(await trained(there.grid))
    assert found[0] == found[1]


async def test_a_client_keeps_its_state_between_rounds(world) -> None:
    app = ClientApp()

    @app.query()
    def count(message: Message, kept) -> Message:
        number = int(kept.state["n"]["n"]) if "n" in kept.state else 0
        kept.state["n"] = ConfigRecord({"n": number + 1})
        return Message(RecordDict({"metrics": MetricRecord({"n": number})}), reply_to=message)

    async with world(app) as there:
        seen = []
        for _ in range(3):
            asks = [Message(RecordDict(), node, "query") for node in there.blocks]
            replies = await asyncio.to_thread(there.grid.send_and_receive, asks, timeout=10)
            seen.append({int(reply.content["metrics"]["n"]) for reply in replies})
    assert seen == [{0}, {1}, {2}]


async def test_a_client_that_raises_is_an_error_reply_and_the_others_answer(world) -> None:
    app = ClientApp()

    @app.query()
    def fail_once(message: Message, kept) -> Message:
        if kept.node_config["partition-id"] == 0:
            raise ZeroDivisionError("no data")
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        asks = [Message(RecordDict(), node, "query") for node in there.blocks]
        replies = list(await asyncio.to_thread(there.grid.send_and_receive, asks, timeout=10))
    failed = [reply for reply in replies if reply.has_error()]
    assert len(replies) == 4
    assert [reply.error.reason for reply in failed] == ["ZeroDivisionError: no data"]


async def test_replies_come_in_the_order_of_the_messages(world) -> None:
    app = ClientApp()

    @app.query()
    def echo(message: Message, kept) -> Message:
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        nodes = sorted(there.blocks, reverse=True)
        asks = [Message(RecordDict(), node, "query") for node in nodes]
        replies = await asyncio.to_thread(there.grid.send_and_receive, asks, timeout=10)
    assert [reply.metadata.src_node_id for reply in replies] == nodes


async def test_a_client_cannot_touch_the_servers_arrays(world) -> None:
    app = ClientApp()

    @app.query()
    def spoil(message: Message, kept) -> Message:
        message.content["arrays"] = ArrayRecord({"w": Array(np.full(2, 9.0))})
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        ask = Message(RecordDict({"arrays": fl_app.start()}), next(iter(there.blocks)), "query")
        await asyncio.to_thread(there.grid.send_and_receive, [ask], timeout=10)
    assert ask.content["arrays"]["w"].numpy().tolist() == [0.0, 0.0]


async def test_push_and_pull_give_each_reply_once(world) -> None:
    app = ClientApp()

    @app.query()
    def echo(message: Message, kept) -> Message:
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        ids = list(there.grid.push_messages([Message(RecordDict(), node, "query") for node in there.blocks]))
        found = []
        async with asyncio.timeout(10):
            while len(found) < len(ids):
                found += await asyncio.to_thread(lambda: list(there.grid.pull_messages(ids)))
                await asyncio.sleep(0)
        assert list(there.grid.pull_messages(ids)) == []
    assert sorted(reply.metadata.reply_to_message_id for reply in found) == sorted(ids)


async def test_cancelling_ends_a_waiting_exchange_at_once(world) -> None:
    app, entered, leave = ClientApp(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @app.query()
    def hang(message: Message, kept) -> Message:
        loop.call_soon_threadsafe(entered.set)
        leave.wait(10)
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        ask = Message(RecordDict(), next(iter(there.blocks)), "query")

        async def cancel_when_busy() -> None:
            await entered.wait()
            there.grid.cancel()

        async with asyncio.TaskGroup() as group:
            group.create_task(cancel_when_busy(), name="cancel")
            async with asyncio.timeout(1.0):
                with pytest.raises(JobCancelled):
                    await asyncio.to_thread(there.grid.send_and_receive, [ask], timeout=60)
        with pytest.raises(JobCancelled):
            there.grid.get_node_ids()
        leave.set()


async def test_a_late_client_is_left_behind(world) -> None:
    app, leave = ClientApp(), threading.Event()

    @app.query()
    def some_hang(message: Message, kept) -> Message:
        if kept.node_config["partition-id"] == 0:
            leave.wait(10)
        return Message(RecordDict(), reply_to=message)

    async with world(app) as there:
        asks = [Message(RecordDict(), node, "query") for node in there.blocks]
        replies = list(await asyncio.to_thread(there.grid.send_and_receive, asks, timeout=0.5))
        leave.set()
    assert len(replies) == 3


async def test_a_site_cannot_answer_in_the_name_of_another(tmp_path: Path) -> None:
    app = ClientApp()

    @app.query()
    def pose(message: Message, kept) -> Message:
        reply = Message(RecordDict(), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id + 1
        return reply

    async with over_memory(app, tmp_path) as there:
        nodes = sorted(there.blocks)
        asks = [Message(RecordDict(), node, "query") for node in nodes]
        replies = await asyncio.to_thread(there.grid.send_and_receive, asks, timeout=10)
    assert [(reply.metadata.src_node_id, reply.error.reason) for reply in replies] == [
        (node, "its reply speaks for another site") for node in nodes
    ]


async def test_a_model_above_a_megabyte_goes_by_claim_check(tmp_path: Path) -> None:
    app = ClientApp()

    @app.query()
    def double(message: Message, kept) -> Message:
        big = message.content["arrays"]["w"].numpy() * 2
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(big)})}), reply_to=message)

    async with over_memory(app, tmp_path) as there:
        assert isinstance(there.grid, MqttGrid)
        model = ArrayRecord({"w": Array(np.ones(400_000, np.float64))})
        ask = Message(RecordDict({"arrays": model}), next(iter(there.blocks)), "query")
        (reply,) = await asyncio.to_thread(there.grid.send_and_receive, [ask], timeout=30)
        assert there.grid.bytes_out < 1_000
    assert reply.content["arrays"]["w"].numpy().sum() == 800_000
    # both ends let go of what has arrived
    assert list((tmp_path / "blobs").iterdir()) == []


async def test_a_site_that_is_cut_off_is_lost_by_its_will_and_not_by_a_timeout(tmp_path: Path) -> None:
    app, entered, leave = ClientApp(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @app.query()
    def hang(message: Message, kept) -> Message:
        loop.call_soon_threadsafe(entered.set)
        leave.wait(10)
        return Message(RecordDict(), reply_to=message)

    async with over_memory(app, tmp_path) as there:
        ask = Message(RecordDict(), node_id(SITES[0]), "query")

        async def cut_when_busy() -> None:
            await entered.wait()
            there.transports[SITES[0]].cut()

        async with asyncio.TaskGroup() as group:
            group.create_task(cut_when_busy(), name="cut")
            async with asyncio.timeout(5):
                assert list(await asyncio.to_thread(there.grid.send_and_receive, [ask], timeout=60)) == []
        assert node_id(SITES[0]) not in there.grid.profiles()
        there.transports[SITES[0]].restore()
        leave.set()
