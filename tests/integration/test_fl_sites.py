"""Sites as agents: any run of their project, one at a time, one ledger for all of them; who is not asked, and why."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from foa.app.clock import SystemClock
from foa.app.federated import Asked, run_project
from foa.app.federated_home import LEDGER, SiteHome, site_home
from foa.app.federated_site import at, serve_site
from foa.app.settings import Settings, read_settings
from foa.broker import Broker, BrokerConfig
from foa.errors import AgentLost, BadInput
from foa.fl.block import node_id
from foa.fl.flower import REFUSED
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.roll import Roll, Wanted
from foa.fl.rounds import RoundRow
from foa.fl.training import Trained
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from tests.agents import WordEmbedder
from tests.fl_sites import PROJECT, TOPICS, announced, block, node, will

CLOCK = SystemClock()
SITE = AgentId("clinic")
APP = """
from flwr.serverapp.strategy import FedAvg
from tests.fl_app import config, make_app, start as arrays
app = make_app()
def strategy():
    return FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)
"""
TOML = """
name = "lines"
rounds = 2
k = 2
purpose = "lines"
policies = ["gdpr"]
terms = { epochs = 1, steps = 50, width = 1.0, batch = 4, noise_multiplier = 1.5, clip = 1.0 }
keys = { noise_multiplier = "noise", steps = "steps", batch = "batch" }
privacy = { epsilon = 4.0 }
bounds = { k_max = 2, deadline_min_seconds = 30.0, deadline_max_seconds = 30.0 }
[[sites]]
name = "clinic"
records = 2000
policies = ["gdpr"]
[[sites]]
name = "ward"
partition = 1
records = 2000
policies = ["gdpr", "hipaa"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "FL.toml").write_text(TOML)
    (folder / "app.py").write_text(APP)
    return folder


class Network:
    """A broker, sites as they come, and runs."""

    def __init__(self, folder: Path, project: Path, url: str, group: asyncio.TaskGroup) -> None:
        self.folder, self.project, self.url = folder, project, url
        self.group = group
        self.said: list[str] = []
        self.sites: list[asyncio.Task[None]] = []

    def settings(self, who: str) -> Settings:
        return at(read_settings(environ={}, overrides={"FOA_STATE_DIR": str(self.folder / who)}), self.url)

    async def site(self, name: str) -> asyncio.Task[None]:
        ready = asyncio.Event()

        async def be() -> None:
            async with site_home(self.project, name, self.settings(name)) as home:
                await serve_site(
                    home,
                    self.settings(name),
                    CLOCK,
                    embedder=WordEmbedder(),
                    on_ready=ready.set,
                    say=self.said.append,
                )

        task = self.group.create_task(be(), name=name)
        self.sites.append(task)
        await ready.wait()
        return task

    async def run(
        self, name: str, *, wait: float = 20.0, on_round: Callable[[RoundRow], None] | None = None, rounds: int | None = None
    ) -> Trained:
        asked = Asked(folder=self.project, run=name, broker=self.url, wait_seconds=wait, rounds=rounds)
        return await run_project(asked, self.settings("server"), CLOCK, None, on_round=on_round)


@asynccontextmanager
async def network(folder: Path, project: Path) -> AsyncIterator[Network]:
    async with Broker(BrokerConfig(host="127.0.0.1", port=0)) as broker, asyncio.TaskGroup() as group:
        there = Network(folder, project, f"mqtt://127.0.0.1:{broker.port}", group)
        try:
            yield there
        finally:
            for task in there.sites:
                task.cancel()


def kinds(row: RoundRow) -> dict[str, str]:
    return {client.client: client.kind for client in row.clients}


async def test_runs_one_after_the_other_spend_from_one_ledger(tmp_path: Path, project: Path) -> None:
    async with network(tmp_path, project) as there:
        await there.site("clinic")
        second = await there.site("ward")
        for name in ("one", "two"):
            trained = await there.run(name)
            assert [kinds(row) for row in trained.state.rows] == [{"clinic": "trained", "ward": "trained"}] * 2
        second.cancel()
    for site in ("clinic", "ward"):
        async with site_home(project, site, there.settings(site)) as home:
            assert home.ledger is not None
            keys = [entry.key for entry in home.ledger.entries()]
            assert keys == ["one/round-1", "one/round-2", "two/round-1", "two/round-2"]
            assert 0 < home.ledger.epsilon_spent <= 4.0
            assert "4 rounds of 2 runs are paid" in home.budget()
            assert home.folder == tmp_path / site / "fl" / "sites" / "lines" / site
            # the replies of the first run are let go, and its rounds stay answered
            assert home.ledger.find("two/round-2")


async def test_a_site_that_comes_late_is_asked_from_the_next_round_on(tmp_path: Path, project: Path) -> None:
    async with network(tmp_path, project) as there:
        await there.site("clinic")
        coming: list[asyncio.Task[asyncio.Task[None]]] = []

        def come(row: RoundRow) -> None:
            if row.round == 1:
                coming.append(there.group.create_task(there.site("ward"), name="come"))

        trained = await there.run("late", wait=0.5, on_round=come, rounds=12)
    rounds = [row.round for row in trained.state.rows if "ward" in kinds(row)]
    assert kinds(trained.state.rows[0]) == {"clinic": "trained"}
    assert rounds
    assert rounds[0] > 1
    assert rounds == list(range(rounds[0], 13))


async def test_a_site_without_a_clearance_is_not_asked_and_each_round_says_why(tmp_path: Path, project: Path) -> None:
    (project / "FL.toml").write_text(TOML.replace('policies = ["gdpr"]\nterms', 'policies = ["hipaa"]\nterms'))
    async with network(tmp_path, project) as there:
        await there.site("clinic")
        await there.site("ward")
        trained = await there.run("strict", wait=2.0)
    for row in trained.state.rows:
        assert kinds(row) == {"clinic": "refused", "ward": "trained"}
        assert next(one.reason for one in row.clients if one.client == "clinic") == "it is not cleared for hipaa"


async def test_a_run_that_nobody_may_join_says_why(tmp_path: Path, project: Path) -> None:
    (project / "FL.toml").write_text(TOML.replace('policies = ["gdpr"]\nterms', 'policies = ["phi"]\nterms'))
    async with network(tmp_path, project) as there:
        await there.site("clinic")
        with pytest.raises(AgentLost, match="clinic: it is not cleared for phi"):
            await there.run("strict", wait=2.0)


async def test_a_spent_budget_is_told_once_and_the_card_says_what_is_left(tmp_path: Path, project: Path) -> None:
    limits = "records = 2000\nlimits = { share_a_round = 1.0, noise_max = 1.5 }\n"
    # one step in ten records: 50 steps cost 1.87 of the 0.79 there is, 12 cost 0.45, and 0.34 are left
    text = (
        TOML.replace("records = 2000\n", limits)
        .replace("epsilon = 4.0", "epsilon = 2.0")
        .replace("batch = 4", "batch = 200")
    )
    (project / "FL.toml").write_text(text)
    async with network(tmp_path, project) as there:
        await there.site("clinic")
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(MqttTransport(there.url, client_id="looks-on"))
            grid = await stack.enter_async_context(MqttGrid(link, TOPICS, "look", Roll(Wanted(project="lines"), CLOCK)))
            await grid.present(1, seconds=20)
            first = await there.run("one", wait=1.0, rounds=1)
            await left_told(grid, at_most=0.5)
        second = await there.run("two", wait=1.0, rounds=1)
    assert (kinds(first.state.rows[0]), kinds(second.state.rows[0])) == ({"clinic": "trained"}, {"clinic": "refused"})
    assert "nearly used up" in second.state.rows[0].clients[0].reason
    (told,) = there.said
    assert "is spent" in told
    assert str(tmp_path / "clinic" / "fl" / "sites" / "lines" / "clinic" / LEDGER) in told


async def left_told(grid: MqttGrid, *, at_most: float) -> None:
    """Wait until the card of the only site says that so little is left."""
    await grid.until(lambda roll: (roll.present[node_id(SITE)].epsilon_left or 0.0) <= at_most, seconds=20)


async def test_a_site_that_is_served_already_or_has_another_budget_is_refused(tmp_path: Path, project: Path) -> None:
    settings = read_settings(environ={}, overrides={"FOA_STATE_DIR": str(tmp_path)})

    def more(plan):
        return replace(plan, privacy=replace(plan.privacy, epsilon=8.0))

    def longer(plan):
        return replace(plan, rounds=900, terms=replace(plan.terms, steps=7))

    async with site_home(project, "clinic", settings) as home:
        with pytest.raises(BadInput, match="runs on this machine already"):
            async with site_home(project, "clinic", settings):
                pass
        order = order_of(home)
    with pytest.raises(BadInput, match="opened with epsilon 4"):
        async with site_home(project, "clinic", settings, adjust=more):
            pass
    # another plan would have chosen another order: the ledger that is there keeps its own
    async with site_home(project, "clinic", settings, adjust=longer) as home:
        assert order_of(home) == order
    with pytest.raises(BadInput, match="has no site 'nobody': it has clinic, ward"):
        async with site_home(project, "nobody", settings):
            pass
    with pytest.raises(BadInput, match="FOA_BROKER_URL"):
        at(settings, "")


def order_of(home: SiteHome) -> int:
    assert home.ledger is not None
    return home.ledger.budget.order


@asynccontextmanager
async def two_runs(app: ClientApp) -> AsyncIterator[tuple[MqttGrid, MqttGrid]]:
    """One site, and the Grids of two runs that both see it."""
    hub = MemoryHub()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        link = await enter(MemoryTransport(hub, client_id=SITE, will=will(SITE)))
        group = await enter(asyncio.TaskGroup())
        ready = asyncio.Event()
        serving = group.create_task(node(link, SITE, app, CLOCK).serve(ready=ready), name="site")
        stack.callback(serving.cancel)
        await ready.wait()
        await enter(announced(link, block(SITE), CLOCK))
        grids = []
        for run in ("one", "two"):
            server = await enter(MemoryTransport(hub, client_id=run))
            grids.append(await enter(MqttGrid(server, TOPICS, run, Roll(Wanted(project=PROJECT), CLOCK))))
            await grids[-1].present(1, seconds=5)
        yield grids[0], grids[1]


def ask() -> list[Message]:
    return [Message(RecordDict(), node_id(SITE), "query")]


async def test_a_second_run_at_the_same_time_is_refused_and_has_its_turn_when_the_first_is_over() -> None:
    app, entered, leave = ClientApp(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @app.query()
    def hang(message: Message, kept: object) -> Message:
        loop.call_soon_threadsafe(entered.set)
        leave.wait(10)
        return Message(RecordDict(), reply_to=message)

    async with two_runs(app) as (one, two):
        async with asyncio.TaskGroup() as group:
            first = group.create_task(asyncio.to_thread(one.send_and_receive, ask(), timeout=20), name="first")
            await entered.wait()
            (refused,) = await asyncio.to_thread(two.send_and_receive, ask(), timeout=20)
            assert refused.error.code == REFUSED
            assert "working for run one" in refused.error.reason
            leave.set()
        assert not next(iter(first.result())).has_error()
        # between its rounds the first run still has the site
        (refused,) = await asyncio.to_thread(two.send_and_receive, ask(), timeout=20)
        assert refused.has_error()
        one.cancel()
        await one.free_sites()
        (answered,) = await asyncio.to_thread(two.send_and_receive, ask(), timeout=20)
        assert not answered.has_error()


async def test_what_an_app_remembers_of_one_run_another_does_not_see() -> None:
    app = ClientApp()

    @app.query()
    def count(message: Message, kept) -> Message:
        number = int(kept.state["n"]["n"]) if "n" in kept.state else 0
        kept.state["n"] = ConfigRecord({"n": number + 1})
        return Message(RecordDict({"seen": ConfigRecord({"n": number})}), reply_to=message)

    async with two_runs(app) as (one, two):
        seen = []
        for grid in (one, one, two):
            if grid is two:
                await one.free_sites()
            (reply,) = await asyncio.to_thread(grid.send_and_receive, ask(), timeout=20)
            seen.append(int(reply.content["seen"]["n"]))
    assert seen == [0, 1, 0]
