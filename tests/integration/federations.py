"""Federations for tests: real Agent-0, real agents, a fabric in memory, a journal that a test may look into."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from foa.agents.brain import Agent, Answer, Revised, Revision
from foa.agents.profile import AgentProfile
from foa.app.federation import Federation
from foa.app.settings import Settings, read_settings
from foa.messages import Drafted, DraftRequest, Propose, Proposed
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, JobId
from foa.values.plan import Proposal, ProposedSubtask
from foa.values.result import Result
from foa.values.task import Submission, Task

TASK = "How does the fabric route a task to agents?"
BUDGET = Budget(usd=1.0, tokens=100_000, calls=1_000, seconds=30.0)
CHAIN = Proposal(
    subtasks=(
        ProposedSubtask(text="Find the code that routes a task"),
        ProposedSubtask(text="Explain the history of the scoring formula"),
    ),
    edges=((0, 1),),
)


@dataclass
class Script:
    """A brain that does what a test tells it, and counts what it was asked."""

    plan: Proposal = CHAIN
    words: str = "the router scores agents by similarity policy resources and spec"
    spend: Spend = field(default_factory=lambda: Spend(calls=1, tokens_in=10, tokens_out=5))
    before_draft: Callable[[DraftRequest], object] = lambda request: None
    hold: asyncio.Event | None = None  #: drafts wait for it
    stop: bool = True
    proposals: int = 0
    drafts: list[str] = field(default_factory=list)
    drafting: asyncio.Event = field(default_factory=asyncio.Event)

    async def propose(self, request: Propose) -> Answer:
        self.proposals += 1
        return Answer(body=Proposed(proposal=self.plan), spend=self.spend)

    async def draft(self, request: DraftRequest) -> Answer:
        self.drafts.append(request.subtask)
        self.drafting.set()
        self.before_draft(request)
        if self.hold is not None:
            await self.hold.wait()
        return Answer(
            body=Drafted(draft=Draft(answer=f"{self.words} [{request.subtask}]", confidence=0.8)), spend=self.spend
        )

    async def revise(self, revision: Revision) -> Revised:
        return Revised(draft=revision.own, stop=self.stop, spend=self.spend)

    async def forget(self, job: JobId) -> None: ...

    async def aclose(self) -> None: ...


def scripted(name: str, brain: Script, *, policies: Sequence[str] = ()) -> Agent:
    """An agent that fits every task of these tests."""
    profile = AgentProfile(
        agent_id=AgentId(name),
        name=name,
        description="Routes tasks to agents; reads code, explains the history of the scoring formula.",
        spec="Answer from what you know.",
        policies=frozenset(policies),
    )
    return Agent(profile=profile, brain=brain)


def settings_for(folder: Path, **overrides: object) -> Settings:
    """Settings of a test: a fabric in memory, nothing outside the folder, no lower bound on the score."""
    given: dict[str, object] = {
        "FOA_BROKER_URL": "memory",
        "FOA_STATE_DIR": str(folder),
        "FOA_CACHE_DIR": str(folder),
        "FOE_DECOMP_THRESHOLD": 0.0,
    }
    return read_settings(environ={"HOME": str(folder)}, overrides=given | overrides)


@asynccontextmanager
async def federation(
    folder: Path, agents: Sequence[Agent], *, state: Path | None = None, **overrides: object
) -> AsyncGenerator[Federation]:
    """Start one."""
    embedder = CachedEmbedder(WordLlamaEmbedder())
    async with (
        asyncio.timeout(60),
        Federation.start(settings_for(folder, **overrides), agents=agents, state=state, embedder=embedder) as started,
    ):
        yield started


async def answer(started: Federation, task: str | Task = TASK, *, budget: Budget = BUDGET) -> Result:
    """Submit and wait."""
    asked = Task(text=task) if isinstance(task, str) else task
    job = await started.submit(Submission(task=asked, budget=budget))
    return await job.result()
