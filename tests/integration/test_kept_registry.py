"""An orchestrator that ends and starts again beside a broker that goes on: who is found, who is not, and what it costs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foa.app.serving import serve_agents, serve_all, serve_orchestrator
from foa.app.settings import Settings
from foa.app.zero import Zero
from foa.errors import BadInput, StoreFailed
from foa.index.edge import EdgeIndex
from foa.ports import IndexQuery
from foa.registry.registry import Registry
from foa.values.ids import AgentId
from tests.brokers import free_port, start_embedded
from tests.integration.federations import Script, scripted, settings_for


@dataclass
class Fleet:
    """Agents at a broker, each of which may leave."""

    folder: Path
    url: str
    stack: AsyncExitStack
    here: dict[str, AsyncExitStack] = field(default_factory=dict[str, AsyncExitStack])

    def settings(self, **more: object) -> Settings:
        return settings_for(self.folder / "zero", FOA_BROKER_URL=self.url, **more)

    async def join(self, *names: str) -> None:
        for name in names:
            self.here[name] = stack = AsyncExitStack()
            settings = settings_for(self.folder / f"host-{name}", FOA_BROKER_URL=self.url)
            await stack.enter_async_context(serve_agents(settings, [scripted(name, Script())], over=None))
            self.stack.push_async_callback(stack.aclose)

    async def leave(self, name: str) -> None:
        await self.here[name].aclose()

    @asynccontextmanager
    async def orchestrator(self, **more: object) -> AsyncGenerator[tuple[Registry, EdgeIndex]]:
        """One whose registry has heard every retained card."""
        async with serve_orchestrator(self.settings(**more), name="zero") as serving:
            zero = serving.zero
            assert isinstance(zero, Zero)
            index = zero.registry.index
            assert isinstance(index, EdgeIndex)
            yield zero.registry, index


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncGenerator[Fleet]:
    async with asyncio.timeout(60), start_embedded() as broker, AsyncExitStack() as stack:
        yield Fleet(folder=tmp_path, url=f"mqtt://127.0.0.1:{broker.port}", stack=stack)


async def found(registry: Registry, name: str) -> list[str]:
    """Who is found for what this agent says of itself."""
    [vector] = await registry.embedder.embed([name])
    return sorted(hit.agent for hit in await registry.search(IndexQuery(vector=vector, k=10)))


async def test_agents_are_there_after_a_restart_and_nothing_is_indexed_again(fleet: Fleet):
    await fleet.join("a", "b", "c")
    async with fleet.orchestrator() as (registry, index):
        assert await found(registry, "a") == ["a", "b", "c"]
        assert index.written == 3
    async with fleet.orchestrator() as (registry, index):
        assert await found(registry, "a") == ["a", "b", "c"]
        assert (index.written, await index.count()) == (0, 3)
        assert registry.card(AgentId("a"))
    kept = fleet.folder / "zero" / "registry" / "zero"
    assert {path.name for path in kept.iterdir()} >= {"registry.json", "index", "cards.db", "cards.rows"}


async def test_an_agent_that_left_meanwhile_is_not_found_and_not_kept(fleet: Fleet):
    await fleet.join("a", "b")
    async with fleet.orchestrator():
        pass
    await fleet.leave("b")
    await fleet.join("c")
    async with fleet.orchestrator() as (registry, index):
        assert await found(registry, "b") == ["a", "c"]
        assert sorted(await index.agents()) == ["a", "c"]
        assert index.written == 1  # c


async def test_the_parts_and_the_folder_are_those_of_the_settings(fleet: Fleet):
    await fleet.join("a", "b", "c")
    more = {"FOA_INDEX_DIR": str(fleet.folder / "kept"), "FOA_INDEX_SHARDS": 2, "FOA_INDEX_QUANTISED": True}
    async with fleet.orchestrator(**more):
        parts = fleet.folder / "kept" / "index"
        assert sorted(path.name for path in parts.iterdir()) == ["part-000-of-002", "part-001-of-002"]
    async with fleet.orchestrator(**more) as (registry, index):
        assert await found(registry, "a") == ["a", "b", "c"]
        assert index.written == 0


async def test_two_orchestrators_do_not_share_a_folder(fleet: Fleet):
    more = {"FOA_INDEX_DIR": str(fleet.folder / "kept")}
    async with fleet.orchestrator(**more):
        with pytest.raises(BadInput, match="another orchestrator keeps its agents in"):
            async with serve_orchestrator(fleet.settings(**more), name="other"):
                pass
        async with serve_orchestrator(fleet.settings(), name="other"):  # has one of its own
            pass


async def test_orchestrators_of_different_names_share_a_state_folder_and_keep_their_agents_apart(fleet: Fleet):
    await fleet.join("a", "b")
    for written in (2, 0):
        async with fleet.orchestrator() as (_, index), serve_orchestrator(fleet.settings(), name="other") as serving:
            assert index.written == written
            assert serving.zero is not None
            assert await found(serving.zero.registry, "a") == ["a", "b"]
    assert {path.name for path in (fleet.folder / "zero" / "registry").iterdir()} == {"zero", "other"}


async def test_two_of_one_name_do_not_run_on_one_machine_and_the_first_goes_on(fleet: Fleet):
    async with fleet.orchestrator() as (registry, _):
        for serve in (
            serve_orchestrator(fleet.settings(), name="zero"),
            serve_all(fleet.settings(FOA_BROKER_PORT=free_port()), [], over=None, name="zero"),
        ):
            with pytest.raises(BadInput, match="an orchestrator called zero runs here already: give this one another --id"):
                async with serve:
                    pass
        await fleet.join("a")
        await registry.known([AgentId("a")])
        assert await found(registry, "a") == ["a"]


async def test_a_federation_of_one_machine_keeps_an_index_only_where_it_is_told(fleet: Fleet):
    more = {"FOA_INDEX_DIR": str(fleet.folder / "kept")}
    await fleet.join("a")
    async with serve_all(fleet.settings(), [], over=None, name="up"):
        assert not (fleet.folder / "zero" / "registry").exists()
    for written in (1, 0):
        async with serve_all(fleet.settings(**more), [], over=None, name="up") as serving:
            assert serving.zero is not None
            index = serving.zero.registry.index
            assert isinstance(index, EdgeIndex)
            assert await index.agents() == ["a"]
            assert index.written == written


async def test_a_qdrant_server_that_is_not_there_stops_the_start_with_its_address(fleet: Fleet):
    port = free_port()
    more = {"FOA_INDEX": "qdrant", "FOA_INDEX_URL": f"https://127.0.0.1:{port}", "FOA_INDEX_KEY": "secret"}
    with pytest.raises(
        StoreFailed, match=rf"FOA_INDEX_URL, https://127.0.0.1:{port}: the Qdrant server did not do it"
    ) as failed:
        async with serve_orchestrator(fleet.settings(**more), name="zero"):
            pass
    assert "secret" not in str(failed.value)
