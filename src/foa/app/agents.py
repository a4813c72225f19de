"""Agents as a user gives them, made ready to serve: files, functions, or ones with a brain of their own."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from foa.agents.brain import Agent
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.ports import Clock, Embedder, Model

#: An agent file, a folder or pattern of them, an `@foa.agent` function, or an agent.
AgentSource = Agent | Path | str


@asynccontextmanager
async def build_agents(
    sources: Sequence[AgentSource],
    *,
    model: Model,
    embedder: Embedder,
    clock: Clock,
    settings: Settings,
    over: Path | str | None,
) -> AsyncGenerator[list[Agent]]:
    """Make agents; their tools are closed when the block ends."""
    yield [source for source in sources if isinstance(source, Agent)]
