"""A federation of processes: broker, agents and orchestrator, each its own, and a model that the test holds in its hand."""

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.brokers import Link, free_port, open_link, start_mosquitto
from tests.chaos.mind import TASK, Mind, thinking
from tests.chaos.processes import Processes, Running, processes

#: Long enough that a test which waits for one of them fails: nothing here may be saved by a timeout.
PATIENCE = {"FOA_DRAFT_SECONDS": "60", "FOA_ROUND_SECONDS": "40", "FOE_REFINE_TIMEOUT": "120", "FOA_PROPOSALS_SECONDS": "60"}


@dataclass(slots=True, kw_only=True)
class World:
    """What one test has to play with."""

    folder: Path
    mind: Mind
    processes: Processes
    broker: str = ""  #: URL
    link: Link | None = None
    agents: dict[str, Running] = field(default_factory=dict[str, Running])

    def foa(self, *arguments: str, **settings: str) -> Running:
        return self.processes.foa(*arguments, **settings)

    async def start_broker(self, *options: str, port: int | None = None) -> Running:
        port = port or free_port()
        running = self.foa("broker", "--port", str(port), *options)
        await running.said("broker ready")
        self.broker = f"mqtt://127.0.0.1:{port}"
        return running

    async def start_agents(self, *names: str, linked: bool = False, **settings: str) -> None:
        """One process for each, at the broker or at the link to it."""
        broker = f"mqtt://127.0.0.1:{self.link.port}" if linked and self.link else self.broker
        started = {name: self._agent(name, broker, settings) for name in names}
        for running in started.values():
            await running.said(" agent at ")
        self.agents |= started

    def _agent(self, name: str, broker: str, settings: Mapping[str, str]) -> Running:
        file = self.folder / f"{name}.md"
        file.write_text(
            f"---\nname: {name}\ndescription: Knows how the fabric routes tasks to agents and how it scores them.\n"
            f"skills: [routing]\n---\nYou are agent {name}.\n"
        )
        state = str(self.folder / f"state-{name}")
        return self.foa("agent", str(file), "--broker", broker, **({"FOA_STATE_DIR": state} | settings))

    async def start_orchestrator(self, **settings: str) -> Running:
        running = self.foa("orchestrator", "--broker", self.broker, **settings)
        await running.said("serves")
        return running

    def ask(self, *options: str, **settings: str) -> Running:
        return self.foa("ask", "--broker", self.broker, "--json", *options, TASK, **settings)


async def result_of(asking: Running, *, exit_code: int = 0, seconds: float = 30.0) -> dict[str, Any]:
    """What `foa ask --json` printed."""
    code = await asking.ended(seconds=seconds)
    assert asking.output, f"it ended with {code}: {asking.errors}"
    assert code == exit_code, (code, asking.errors, asking.output)
    return json.loads(asking.output)


@asynccontextmanager
async def world(folder: Path, **settings: str) -> AsyncIterator[World]:
    """Everything but the processes."""
    async with thinking() as (mind, url):
        environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "FOA_STATE_DIR": str(folder / "state"),
            "FOA_CACHE_DIR": str(folder / "cache"),
            "FOA_MODEL_URL": url,
            "FOA_MODEL": "scripted",
            "FOE_DECOMP_THRESHOLD": "0",
            "FOE_CLUSTER_SIM_THRESHOLD": "-1",
            "FOA_BUDGET_SECONDS": "120",
            "FOA_AWAY_SECONDS": "1",
        }
        async with processes(folder, environment | PATIENCE | settings) as started:
            yield World(folder=folder, mind=mind, processes=started)


@asynccontextmanager
async def brokered(folder: Path, kind: str = "embedded", **settings: str) -> AsyncIterator[World]:
    """With a broker, `embedded` or `mosquitto`, and a link to it that can be cut. Both outlive the agents."""
    async with AsyncExitStack() as stack:
        port = free_port() if kind == "embedded" else (await stack.enter_async_context(start_mosquitto(folder))).port
        link = await stack.enter_async_context(open_link("127.0.0.1", port))
        made = await stack.enter_async_context(world(folder, **settings))
        made.broker, made.link = f"mqtt://127.0.0.1:{port}", link
        if kind == "embedded":
            await made.start_broker(port=port)
        yield made


def shape(result: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[tuple[str, str]]]:
    """Nodes and edges of a plan."""
    plan = result["plan"]
    return [node["text"] for node in plan["nodes"]], [(edge["before"], edge["after"]) for edge in plan["edges"]]
