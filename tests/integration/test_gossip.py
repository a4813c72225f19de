"""Orchestrators that gossip as they are started: on one broker and between two; who is known elsewhere is not asked."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foa.agents.brain import Agent
from foa.app.keys import orchestrator_key
from foa.app.looking import look
from foa.app.serving import Serving, serve_agents, serve_orchestrator
from foa.app.settings import Settings
from foa.errors import BadInput, Unroutable
from foa.registry.keys import new_key, public_key
from foa.registry.registry import Registry
from foa.values.ids import AgentId
from tests.brokers import Embedded, Link, Mosquitto, open_link, start_embedded, start_mosquitto
from tests.integration.federations import Script, scripted, settings_for

X, Y = AgentId("x"), AgentId("y")


@dataclass
class Federation:
    """Orchestrators of which each has a folder and a key, at the brokers that a test gives them."""

    folder: Path
    stack: AsyncExitStack
    names: tuple[str, ...] = ("zero-a", "zero-b")
    agents: dict[str, AsyncExitStack] = field(default_factory=dict[str, AsyncExitStack])

    def settings(self, name: str, url: str, *brokers: str, **more: object) -> Settings:
        """Every orchestrator has the same list of peers, itself among them."""
        keys = {each: public_key(orchestrator_key(self.folder / each)) for each in self.names}
        peers = ", ".join(f"{each}={key}" for each, key in keys.items())
        return settings_for(
            self.folder / name,
            FOA_BROKER_URL=url,
            FOA_GOSSIP_PEERS=peers,
            FOA_GOSSIP_BROKERS=", ".join(brokers),
            FOA_GOSSIP_SECONDS=0.2,
            **more,
        )

    async def orchestrator(self, name: str, url: str, *brokers: str) -> Registry:
        made = serve_orchestrator(self.settings(name, url, *brokers), name=name)
        serving: Serving = await self.stack.enter_async_context(made)
        assert serving.zero is not None
        return serving.zero.registry

    async def agent(self, name: str, url: str) -> None:
        """Start one; leave it with `leave`."""
        agent: Agent = scripted(name, Script())
        self.agents[name] = stack = AsyncExitStack()
        settings = settings_for(self.folder / f"host-{name}", FOA_BROKER_URL=url)
        await stack.enter_async_context(serve_agents(settings, [agent], over=None))
        self.stack.push_async_callback(stack.aclose)

    async def leave(self, name: str) -> None:
        """The agent says goodbye."""
        await self.agents[name].aclose()


@asynccontextmanager
async def federated(folder: Path) -> AsyncGenerator[Federation]:
    async with asyncio.timeout(40), AsyncExitStack() as stack:
        yield Federation(folder=folder, stack=stack)


def url(broker: Embedded | Mosquitto | Link) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


async def until(registry: Registry, agent: AgentId, *, via: str | None) -> None:
    """Wait until an agent is known from this orchestrator, "" from the own broker; None: until it is not known."""

    def there() -> bool:
        return agent not in registry if via is None else agent in registry and registry.origin(agent) == via

    changed = asyncio.Event()
    registry.watch(lambda _: changed.set())
    while not there():
        changed.clear()
        await changed.wait()


@pytest.mark.parametrize("other", ["embedded", "mosquitto"])
async def test_agents_of_one_broker_are_known_at_the_other_and_not_asked_from_there(tmp_path: Path, other: str):
    second = start_embedded() if other == "embedded" else start_mosquitto(tmp_path)
    async with start_embedded() as a, second as b, federated(tmp_path) as fed:
        await fed.agent("x", url(a))
        at_a = await fed.orchestrator("zero-a", url(a))
        at_b = await fed.orchestrator("zero-b", url(b), url(a))
        await until(at_b, X, via="zero-a")
        await fed.agent("y", url(b))  # while both run
        await until(at_a, Y, via="zero-b")
        assert at_a.card(X) == at_b.card(X)
        assert (at_a.origin(X), at_b.origin(Y)) == ("", "")

        async with look(fed.settings("zero-b", url(b))) as view:  # as `foa agents` sees it, who comes later
            await until(view.registry, X, via="zero-a")
            routing = await view.router.route(text="route a task")
            assert [candidate.agent for candidate in routing.candidates] == ["y"]
            assert "at another broker, zero-a told of it" in routing.refusals[X]
            await fed.leave("y")
            with pytest.raises(Unroutable, match="x: elsewhere: it is at another broker"):
                await view.router.route(text="route a task")
        await until(at_a, Y, via=None)


async def test_an_agent_that_left_is_forgotten_everywhere_and_may_come_back_at_another_broker(tmp_path: Path):
    async with start_embedded() as a, start_embedded() as b, federated(tmp_path) as fed:
        await fed.agent("x", url(a))
        at_a = await fed.orchestrator("zero-a", url(a))
        at_b = await fed.orchestrator("zero-b", url(b), url(a))
        await until(at_b, X, via="zero-a")
        async with look(fed.settings("zero-b", url(b))) as view:
            await until(view.registry, X, via="zero-a")
            await fed.leave("x")
            await until(at_b, X, via=None)
            await until(view.registry, X, via=None)  # what was retained of it is gone, too
        (tmp_path / "host-x").rename(tmp_path / "before")
        (tmp_path / "host-x").mkdir()
        (tmp_path / "before" / "agent-key.pem").rename(tmp_path / "host-x" / "agent-key.pem")  # the same owner, moved
        await fed.agent("x", url(b))
        await until(at_b, X, via="")
        await until(at_a, X, via="zero-b")


async def test_orchestrators_of_one_broker_hear_each_other_and_their_agents_stay_theirs(tmp_path: Path):
    async with start_embedded() as a, federated(tmp_path) as fed:
        one = await fed.orchestrator("zero-a", url(a))
        two = await fed.orchestrator("zero-b", url(a))
        await fed.agent("x", url(a))
        await until(one, X, via="")
        await until(two, X, via="")


async def test_another_broker_that_is_not_there_holds_nobody_up(tmp_path: Path):
    async with start_embedded() as a, federated(tmp_path) as fed:
        await fed.agent("x", url(a))
        registry = await fed.orchestrator("zero-a", url(a), "mqtt://127.0.0.1:1")
        await until(registry, X, via="")


async def test_a_link_between_brokers_that_was_cut_is_made_up_for(tmp_path: Path):
    async with start_embedded() as a, start_embedded() as b, open_link(a.host, a.port) as link, federated(tmp_path) as fed:
        at_a = await fed.orchestrator("zero-a", url(a))
        at_b = await fed.orchestrator("zero-b", url(b), url(link))
        await fed.agent("x", url(a))
        await until(at_b, X, via="zero-a")
        await link.cut()
        await fed.agent("y", url(b))
        await fed.leave("x")
        await until(at_a, X, via=None)
        assert X in at_b
        await link.restore()
        await until(at_a, Y, via="zero-b")
        await until(at_b, X, via=None)


async def test_an_orchestrator_that_nobody_named_is_not_heard(tmp_path: Path):
    async with start_embedded() as a, start_embedded() as b, federated(tmp_path) as fed:
        await fed.agent("x", url(a))
        stranger = Federation(folder=tmp_path / "stranger", stack=fed.stack, names=("zero-a", "zero-b", "zero-c"))
        at_c = await stranger.orchestrator("zero-c", url(b), url(a))  # names zero-a, with keys of its own making
        at_a = await fed.orchestrator("zero-a", url(a))
        at_b = await fed.orchestrator("zero-b", url(b), url(a))
        await fed.agent("y", url(b))
        await until(at_b, X, via="zero-a")
        await until(at_a, Y, via="zero-b")
        await until(at_c, Y, via="")
        assert at_a.origin(Y) == "zero-b"
        assert {at_c.origin(agent) for agent in at_c.agents()} <= {"", "zero-a"}


async def test_a_name_with_another_key_is_refused_at_the_start(tmp_path: Path):
    async with start_embedded() as a:
        settings = settings_for(tmp_path, FOA_BROKER_URL=url(a), FOA_GOSSIP_PEERS=f"zero-a={public_key(new_key())}")
        with pytest.raises(BadInput, match="is another orchestrator of that name"):
            async with serve_orchestrator(settings, name="zero-a"):
                pass


def test_settings_name_what_is_wrong_with_peers(tmp_path: Path):
    for peers, wrong in (("zero-a", "is not `name=key`"), ("zero-a=short", "is no key"), (f"z/a={'A' * 43}", "will not do")):
        with pytest.raises(BadInput, match=wrong):
            settings_for(tmp_path, FOA_GOSSIP_PEERS=peers)
    with pytest.raises(BadInput, match="name the orchestrators that are heard there"):
        settings_for(tmp_path, FOA_GOSSIP_BROKERS="mqtt://127.0.0.1:1883")
