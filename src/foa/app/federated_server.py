"""`foa fl serve`: projects as agents of the federation, which train when Agent-0 asks.

TrainRequest ─► told before? ─► a child process runs it ─► each node: kept, told ─► Trained
Stop, or this process dies ─► the child dies; the same request again goes on from the run's checkpoint
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from foa.agents.brain import Agent, Answer, Revised, Revision
from foa.agents.host import AgentHost
from foa.agents.profile import AgentProfile, Limits, slug
from foa.agents.seat import Seat
from foa.app.alive import held
from foa.app.clock import SystemClock
from foa.app.fabric import Fabric, open_fabric
from foa.app.federated_child import run_lines
from foa.app.federated_lines import FailedLine, NodeLine, TrainedLine
from foa.app.federated_told import Told
from foa.app.federated_wishes import serve_wishes
from foa.app.federation import run_agents
from foa.app.keys import host_key
from foa.app.models import open_embedder
from foa.app.places import journal_file
from foa.app.settings import Settings
from foa.app.stores import open_stores
from foa.errors import BadInput, BudgetExceeded, ModelUnreachable
from foa.fl.project import Project, read_project
from foa.job import one_error
from foa.messages import DraftRequest, Propose, Refused, TrainProgress, TrainRequest
from foa.ports import Clock
from foa.registry.keys import public_key
from foa.values.budget import Budget, Spend
from foa.values.ids import AgentId, JobId, check_id

log = logging.getLogger(__name__)

QUEUE = 4  #: trainings that may wait for the one that runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How a project is served."""

    folder: Path
    project: Project
    arguments: tuple[str, ...]  #: of `foa fl run`, besides its folder, name and clients
    clients: int | None = None  #: sites that its app is to make; None: as many as it says

    def command(self, run: str) -> list[str]:
        """The arguments of `foa fl run` for one run."""
        clients = () if self.clients is None else ("--clients", str(self.clients))
        return [str(self.folder), "--name", run, *clients, *self.arguments]


class RunTrainer:
    """Trains one project; one run at a time, each in a process of its own."""

    def __init__(self, agent: AgentId, served: Served, settings: Settings) -> None:
        self._agent = agent
        self.served = served
        self._settings = settings

    async def train(self, request: TrainRequest, tell: Callable[[TrainProgress], None]) -> Answer:
        """See `Trainer`.

        Raises:
            BudgetExceeded: it may cost, or has cost, more than the request has.
            StoreFailed: what is told cannot be kept.
        """
        self._check(request.budget)
        run = run_of(self._agent, request)
        told = Told(self._settings.state_dir, run)
        arguments = self.served.command(run)
        arguments += [part for label in request.task.policies for part in ("--policy", label)]
        spent = sum((one.spend for one in told.all(request, agent=self._agent)), Spend())
        async with aclosing(run_lines(arguments, self._settings)) as lines:
            async for line in lines:
                match line:
                    case NodeLine():
                        progress = line.progress(request, agent=self._agent)
                        if told.keep(line):
                            spent += line.spend
                            tell(progress)
                        _hold(spent, request.budget)
                    case TrainedLine():
                        return Answer(body=line.trained, spend=line.spend)
                    case FailedLine():
                        return Answer(body=Refused(kind="load", reason=line.error), spend=spent)
        raise BadInput(f"run {run} ended without a word")

    async def told(self, request: TrainRequest) -> Sequence[TrainProgress]:
        """See `Trainer`."""
        run = run_of(self._agent, request)
        return await asyncio.to_thread(Told(self._settings.state_dir, run).all, request, agent=self._agent)

    async def wished(self, place: Seat, run: str) -> str:
        """Train because sites wished for it; gives the report.

        Args:
            place: of this agent at its host: a training for Agent-0 takes it too, so the two do not meet.
            run: name of the run.

        Raises:
            BadInput: the run failed; the sentence says why.
        """
        async with (
            place.slot(),
            aclosing(run_lines([str(self.served.folder), "--name", run, *self.served.arguments], self._settings)) as lines,
        ):
            async for line in lines:
                match line:
                    case NodeLine():
                        continue
                    case TrainedLine():
                        return line.trained.draft.answer
                    case FailedLine():
                        raise BadInput(line.error)
        raise BadInput(f"run {run} ended without a word")

    def _check(self, budget: Budget) -> None:
        most, rounds = self.served.project.usd_most(self.served.clients), self.served.project.rounds
        if most > budget.usd:
            raise BudgetExceeded(f"{rounds} rounds may cost up to US$ {most:.2f} and the request has US$ {budget.usd:.2f}")

    async def propose(self, request: Propose) -> Answer:
        """It plans nothing."""
        raise ModelUnreachable("this agent only trains")

    async def draft(self, request: DraftRequest) -> Answer:
        """It drafts nothing."""
        raise ModelUnreachable("this agent only trains")

    async def revise(self, revision: Revision) -> Revised:
        """It refines nothing."""
        raise ModelUnreachable("this agent only trains")

    async def forget(self, job: JobId) -> None:
        """A run keeps its checkpoint: the job may be taken up again."""

    async def aclose(self) -> None:
        """A run holds nothing when it does not run."""


def run_of(agent: AgentId, request: TrainRequest) -> str:
    """The name of a request's run: the same request has the same run, on this agent only."""
    name = f"{request.job}.{request.subtask}.{agent}"
    return name if len(name) <= 48 else hashlib.sha256(name.encode()).hexdigest()[:32]


def _hold(spent: Spend, budget: Budget) -> None:
    if spent.usd > budget.usd or spent.tokens > budget.tokens or spent.calls > budget.calls:
        raise BudgetExceeded(
            f"it has cost US$ {spent.usd:.2f}, {spent.tokens} tokens and {spent.calls} calls; "
            f"the request has US$ {budget.usd:.2f}, {budget.tokens} and {budget.calls}"
        )


def profile_of(folder: Path, project: Project, name: str = "") -> AgentProfile:
    """How a project introduces itself.

    Raises:
        ValueError: the name is no id.
    """
    called = name or slug(f"{folder.resolve().name}-training")
    purpose = "" if project.purpose == "*" else f" for {project.purpose}"
    sites = f"{len(project.sites)} sites" if project.sites else "many sites"
    made = f"Trains a model{purpose} on the data of {sites} by federated learning, without moving it."
    return AgentProfile(
        agent_id=AgentId(check_id(called, what="agent")),
        name=called,
        description=project.description or made,
        spec=project.policy,
        skills=project.skills,
        examples=project.examples,
        policies=frozenset(project.policies),
        kinds=("train",),
        limits=Limits(slots=1, queue=QUEUE),
    )


@asynccontextmanager
async def serve_projects(
    settings: Settings,
    folders: Sequence[Path],
    *,
    name: str = "",
    clients: int | None = None,
    arguments: Sequence[str] = (),
) -> AsyncGenerator[tuple[Agent, ...]]:
    """Announce projects at the settings' broker and train them while the block lasts.

    Args:
        settings: broker, state folder.
        folders: of the projects.
        name: of the agent, where there is one project; by default made of the folder's.
        clients: sites that their apps are to make.
        arguments: of `foa fl run`, for every run.

    Raises:
        BadInput: a project is not usable, one name was given for several, or another process here serves one of them.
        BrokerUnreachable: no broker at that address.
        StoreFailed: the state folder cannot be written.
    """
    if name and len(folders) > 1:
        raise BadInput("--name is for one project: leave it out, each is then called after its folder")
    agents = tuple(_agent(settings, _served(folder, clients, arguments), name) for folder in folders)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(one_error())
        enter = stack.enter_async_context
        stores = await enter(open_stores(journal_file(settings), clock))
        embedder = await enter(open_embedder(settings))
        fabric = await enter(open_fabric(settings))
        for agent in agents:
            stack.enter_context(_alone(settings, agent.profile.agent_id))
        host = session_of(settings, [agent.profile.agent_id for agent in agents])
        running = await enter(run_agents(settings, fabric, agents, embedder=embedder, stores=stores, clock=clock, host=host))
        await enter(_wishing(settings, fabric, agents, running, clock))
        yield agents


def session_of(settings: Settings, agents: Sequence[AgentId]) -> str:
    """Name of the connection: always the same here, so what was asked and not answered comes again after a restart.

    With the key of this state folder in it, for a second one of a name at the broker would throw the first out.
    """
    said = " ".join([public_key(host_key(settings.state_dir)), *agents])
    return f"fl-serve-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _alone(settings: Settings, agent: AgentId) -> AbstractContextManager[None]:
    """Be the only process of this state folder that serves an agent."""
    name = f"fl-serve-{hashlib.sha256(agent.encode()).hexdigest()[:12]}"
    taken = f"another `foa fl serve` here serves {agent}: stop it first, or give this one another --name"
    return held(settings.state_dir, name, taken=taken)


@asynccontextmanager
async def _wishing(
    settings: Settings, fabric: Fabric, agents: Sequence[Agent], host: AgentHost | None, clock: Clock
) -> AsyncGenerator[None]:
    """Hear what the sites of those projects wish whose FL.toml lets them."""
    async with asyncio.TaskGroup() as group:
        desks: list[asyncio.Task[None]] = []
        for trainer, place in _wishable(agents, host):
            hearing = serve_wishes(
                settings, fabric, trainer.served.folder, trainer.served.project, clock, partial(trainer.wished, place)
            )
            desks.append(group.create_task(hearing, name=f"wishes[{trainer.served.folder.name}]"))
        try:
            yield
        finally:
            for desk in desks:
                desk.cancel()


def _wishable(agents: Sequence[Agent], host: AgentHost | None) -> Iterator[tuple["RunTrainer", Seat]]:
    for agent in agents:
        if host is not None and isinstance(agent.brain, RunTrainer) and agent.brain.served.project.wishes is not None:
            yield agent.brain, host.seat(agent.profile.agent_id)


def _served(folder: Path, clients: int | None, arguments: Sequence[str]) -> Served:
    return Served(folder=folder.resolve(), project=read_project(folder), arguments=tuple(arguments), clients=clients)


def _agent(settings: Settings, served: Served, name: str) -> Agent:
    try:
        profile = profile_of(served.folder, served.project, name)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return Agent(profile=profile, brain=RunTrainer(profile.agent_id, served, settings))
