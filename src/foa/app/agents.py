"""Agents as a user gives them, made ready to serve: files, functions, or ones with a brain of their own."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from foa.agents.brain import Agent
from foa.agents.lm import LmBrain
from foa.agents.profile import Limits, load_profile
from foa.agents.tools.equip import equip
from foa.app.models import ModelOnDemand, open_model
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.ports import Clock, Embedder, Model

#: An agent file, a folder or pattern of them, an `@foa.agent` function, or an agent with a brain of its own.
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
    """Make agents of their sources; their tools are closed when the block ends.

    Args:
        sources: files (`agents/reader.md`), folders or patterns of them (`agents/*.md`), functions, agents.
        model: what answers for agents that come from files and ask for none of the settings' `models` by name.
        embedder: for their search by meaning.
        clock: for their budgets.
        settings: where vectors may be kept.
        over: the folder that tools without one of their own look at; None: that of the agent's file.

    Raises:
        BadInput: a file is not there or not usable (with its line), or a tool's options are not.
    """
    folder = None if over is None else looked_at(over)
    async with AsyncExitStack() as stack:
        agents: list[Agent] = []
        named = {
            name: await stack.enter_async_context(open_model(replace(settings, model=of_endpoint, models="")))
            for name, of_endpoint in settings.models_by_name().items()
        }
        for source in sources:
            if isinstance(source, Agent):
                agents.append(source)
                continue
            for path in agent_files(source):
                profile = load_profile(path)
                if isinstance(model, ModelOnDemand) and not settings.model_url:
                    profile = replace(profile, limits=for_embedded(profile.limits))
                tools = await stack.enter_async_context(
                    equip(profile, embedder=embedder, over=folder, cache=settings.cache_dir)
                )
                brain = LmBrain(profile, named.get(profile.model, model), clock=clock, tools=tools)
                agents.append(Agent(profile=profile, brain=brain))
        yield agents


def for_embedded(limits: Limits) -> Limits:
    """What the embedded model is asked for: it reads and writes some 150 tokens a second in all on two cores, and its
    critique of a peer is not worth a second prompt. An agent that asks for less gets less.
    """
    return replace(
        limits,
        prompt_tokens=min(limits.prompt_tokens, 400),
        reply_tokens=min(limits.reply_tokens, 64),
        evidence=min(limits.evidence, 3),
        model_rounds=0,
    )


def looked_at(over: Path | str) -> Path:
    """The folder that agents look at.

    Raises:
        BadInput: there is none of that name.
    """
    folder = Path(over).expanduser()
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}: name one that the agents should look at")
    return folder


def agent_files(source: Path | str) -> Iterable[Path]:
    """The agent files that a path, a folder or a pattern names, sorted.

    Raises:
        BadInput: it names none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.glob("*.md"))
    else:
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise BadInput(f"there is no agent file {source}: an agent is a Markdown file (docs/howto/bring-your-own-agents.md)")
    return found
