"""Sites ask for a training over a broker: who is heard, when a run starts, what they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foa.app.clock import SystemClock
from foa.app.fabric import open_fabric
from foa.app.federated_want import Wanted as Want
from foa.app.federated_want import want
from foa.app.federated_wishes import WishDesk, serve_wishes
from foa.app.keys import host_key
from foa.app.settings import Settings, read_settings
from foa.broker import Broker, BrokerConfig
from foa.errors import AgentRefused, BadInput, StoreFailed, Unreachable
from foa.fl.project import Project
from foa.fl.roll import Wanted
from foa.fl.wish_wire import WishTold
from foa.fl.wishes import WishRules
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from tests.fl_sites import PROJECT, TOPICS, announced, block

A, B = AgentId("site-a"), AgentId("site-b")
CLOCK = SystemClock()
PLAN = Project(purpose="night vision", wishes=WishRules(sites=2, cool_down_seconds=3_600))


@dataclass
class World:
    """A broker, a desk, and sites with a key each."""

    url: str
    folder: Path
    desk: WishDesk
    runs: list[str] = field(default_factory=list)
    fails: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def settings(self, site: str) -> Settings:
        given = {"FOA_STATE_DIR": str(self.folder / site), "FOA_BROKER_URL": self.url}
        return read_settings(environ={}, overrides=given)

    async def want(self, site: AgentId, *, of: str = "", wait: float = 0.0, **given: object) -> list[WishTold]:
        told: list[WishTold] = []
        wish = Want(project=PROJECT, site=site, **given)  # type: ignore[arg-type]
        await want(wish, self.settings(of or site), CLOCK, wait_seconds=wait, tell=told.append, answer_seconds=5)
        return told


@asynccontextmanager
async def world(folder: Path, plan: Project = PLAN) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        broker = await enter(Broker(BrokerConfig(host="127.0.0.1", port=0)))
        url = f"mqtt://127.0.0.1:{broker.port}"

        async def start(run: str) -> str:
            there.runs.append(run)
            there.began.set()
            if there.fails:
                raise BadInput("the app does not load")
            return "10 rounds, accuracy 0.9"

        desk = WishDesk(
            plan,
            plan.wishes or WishRules(),
            Wanted(project=PROJECT),
            transport=await enter(MqttTransport(url, client_id="desk")),
            topics=TOPICS,
            clock=CLOCK,
            path=folder / "wishes.json",
            start=start,
        )
        there = World(url=url, folder=folder, desk=desk)
        for site in (A, B):
            link = await enter(MqttTransport(url, client_id=site))
            key = host_key(folder / site)
            await enter(announced(link, block(site), CLOCK, key=key, began=CLOCK.now()))
        async with asyncio.TaskGroup() as group:
            ready = asyncio.Event()
            serving = group.create_task(desk.serve(ready=ready), name="desk")
            await ready.wait()
            try:
                yield there
            finally:
                serving.cancel()


async def test_two_sites_that_want_it_get_a_run_and_both_are_told_how_it_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        (kept,) = await there.want(A, why="fog")
        assert (kept.state, kept.text) == ("kept", "your wish is on the list; 1 of 2 sites that are here want it")
        assert there.runs == []
        async with asyncio.TaskGroup() as group:
            second = group.create_task(there.want(B, wait=10.0), name="b")
        states = [told.state for told in second.result()]
        assert states == ["kept", "started", "done"]
        assert second.result()[-1].text == "10 rounds, accuracy 0.9"
        assert there.runs == [second.result()[-1].run]
        # the rest holds: what is asked next waits
        (again,) = await there.want(A)
        assert "1 of 2 sites" in again.text
        (both,) = await there.want(B)
        assert "the next may begin in" in both.text
        assert len(there.runs) == 1


async def test_a_wish_that_comes_while_a_run_begins_undoes_nothing(tmp_path: Path) -> None:
    plan = Project(purpose="night vision", wishes=WishRules(sites=1, cool_down_seconds=3_600))
    # the book is written in a thread: the first wish begins a run while the second is being kept. Six tries, for the
    # threads meet in most of them, not in all
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with world(folder, plan) as there:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(there.want(site), name=site) for site in (A, B)]
            async with asyncio.timeout(5):
                await there.began.wait()
            assert all(task.result()[0].state == "kept" for task in asked)
            assert there.desk.book.began is not None
            # the run answers one of them, or both where both were kept before it began
            assert len(there.runs) == 1
            assert len(there.desk.book.wishes) < 2


async def test_a_run_that_failed_is_told_with_its_reason(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        there.fails = True
        await there.want(A)
        told = await there.want(B, wait=10.0)
        assert (told[-1].state, told[-1].text) == ("failed", "the app does not load")


async def test_one_site_cannot_wish_for_another_nor_a_stranger_for_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        with pytest.raises(Unreachable, match="foa fl site"):
            await there.want(A, of=B)
        with pytest.raises(Unreachable, match="no server of lines answered"):
            await there.want(AgentId("nobody"))
        assert there.desk.book.wishes == {}


async def test_a_refusal_says_why(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        with pytest.raises(AgentRefused, match="not for 'weather'"):
            await there.want(A, purpose="weather")


async def test_wishes_outlive_their_server(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        await there.want(A)
    async with world(tmp_path) as there:
        assert list(there.desk.book.wishes) == [A]
        told = await there.want(B, wait=10.0)
        assert told[-1].state == "done"


async def test_a_damaged_list_is_said_and_not_forgotten(tmp_path: Path) -> None:
    (tmp_path / "wishes.json").write_text("{")
    with pytest.raises(StoreFailed, match="move it away"):
        async with world(tmp_path):
            pass


async def test_a_project_that_takes_no_wishes_listens_to_none(tmp_path: Path) -> None:
    settings = read_settings(environ={}, overrides={"FOA_STATE_DIR": str(tmp_path), "FOA_BROKER_URL": "memory"})

    async def never(run: str) -> str:
        raise AssertionError(run)

    async with open_fabric(settings) as fabric:
        await serve_wishes(settings, fabric, tmp_path, Project(), CLOCK, never)
