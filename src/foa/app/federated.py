"""A federated-learning project from its folder to its last round. Needs the extra `fl`.

read_project ─► sites: in this process, or each in its own over a broker ─► train
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from foa.app.fabric import open_fabric
from foa.app.federated_blobs import open_blobs
from foa.app.federated_sites import place, run_folder
from foa.app.settings import Settings
from foa.errors import AgentLost, BadInput
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.project import App, Privacy, Project, SiteSpec, read_project
from foa.fl.roll import Roll, wanted_by
from foa.fl.rounds import OnNode, RoundRow
from foa.fl.selectors import SELECTORS
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.stages.secure import secure_bounds
from foa.fl.training import Run, Trained, train
from foa.ports import Clock, Model
from foa.values.ids import AgentId, check_id
from foa.values.topics import Topics

log = logging.getLogger(__name__)

AGENTIC = "agentic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `foa fl run` was asked for; None: as the project says."""

    folder: Path
    run: str  #: name of the run; the same name goes on where it ended
    clients: int | None = None
    rounds: int | None = None
    selector: str = AGENTIC  #: or one of `SELECTORS`, for all rounds
    epsilon: float | None = None  #: privacy budget of each site
    workers: int = 2  #: threads, for sites in this process
    broker: str = ""  #: address; empty: every site in this process
    wait_seconds: float = 60.0  #: how long sites are waited for
    policies: tuple[str, ...] = ()  #: labels that every site has to be cleared for, besides the project's


OnStart = Callable[[Project, Sequence[SiteSpec]], None]
OnRound = Callable[[RoundRow], None]


async def run_project(
    asked: Asked,
    settings: Settings,
    clock: Clock,
    model: Model | None,
    *,
    on_start: OnStart | None = None,
    on_round: OnRound | None = None,
    on_node: OnNode | None = None,
) -> Trained:
    """Train a project.

    Raises:
        BadInput: the project, a name or a number will not do.
        StoreFailed: checkpoint or ledgers cannot be written.
        BrokerUnreachable: there is no broker at that address.
        AgentLost: sites did not come in time.
    """
    check_id(asked.run, what="run")
    project = adjusted(read_project(asked.folder), asked)
    app = App(asked.folder, project)
    specs = app.sites(project, asked.clients)
    run = _run(asked, settings, project, app)
    agent = _agent(asked, project, clock, model, specs)
    if on_start is not None:
        on_start(project, specs)
    if asked.broker:
        roll = Roll(wanted_by(asked.folder, project, specs), clock)
        return await _over_broker(asked, settings, run, agent, specs, roll, clock, on_round, on_node)
    with ExitStack() as stack:
        places = [
            stack.enter_context(place(project, app, specs, spec, settings=settings, clock=clock, run=asked.run, model=model))
            for spec in specs
        ]
        apps = {made.number: (made.app, made.context) for made in places}
        blocks = {made.number: made.block for made in places}
        grid = stack.enter_context(InProcessGrid(apps, workers=asked.workers, run=asked.run))
        return await train(run, grid, agent, lambda: blocks, on_round=on_round, on_node=on_node)


def _run(asked: Asked, settings: Settings, project: Project, app: App) -> Run:
    """What is trained, as the project and its app say."""
    return Run(
        settings=AgenticSettings(
            run=asked.run,
            terms=project.terms,
            purpose=project.purpose,
            rounds=project.rounds,
            policies=project.policies,
            negotiation=project.negotiation,
            recount_rounds=project.recount_rounds,
            usd_a_round=project.usd_a_round,
            credit=project.credit,
            hidden=project.hidden,
            trusted=app.part("trusted"),
            secure_aggregation=project.secure_aggregation,
        ),
        rounds=project.rounds,
        strategy=app.part("strategy")(),
        arrays=app.part("arrays")(),
        config=app.part("config")(),
        validate=app.part("validate"),
        checkpoint=run_folder(settings, asked.run) / "run.ckpt",
    )


async def _over_broker(
    asked: Asked,
    settings: Settings,
    run: Run,
    agent: ServerAgent,
    specs: Sequence[SiteSpec],
    roll: Roll,
    clock: Clock,
    on_round: OnRound | None,
    on_node: OnNode | None,
) -> Trained:
    async with (
        open_fabric(replace(settings, broker_url=asked.broker)) as fabric,
        open_blobs(settings, asked.run, clock) as blobs,
        fabric.connect(f"fl-{asked.run}"[:64]) as link,
        MqttGrid(link, Topics(settings.root), asked.run, roll, blobs=blobs) as grid,
    ):
        await _gather(grid, specs, asked.wait_seconds)
        return await train(run, grid, agent, grid.profiles, on_round=on_round, on_node=on_node, barred=grid.barred)


async def _gather(grid: MqttGrid, specs: Sequence[SiteSpec], seconds: float) -> None:
    """Wait for the sites that the project names; others of the project are welcome, and who comes later joins later.

    Raises:
        AgentLost: nobody came.
    """
    try:
        await grid.present(len(specs), seconds=seconds)
    except TimeoutError:
        there = {block.agent for block in grid.profiles().values()}
        refused = "".join(f"; {agent}: {why}" for agent, why in list(grid.barred().items())[:5])
        if not there:
            why = f"no site came within {seconds:g} s: start some with `foa fl site`{refused}"
            raise AgentLost(AgentId(specs[0].name), why) from None
        missing = ", ".join(spec.name for spec in specs if spec.name not in there)
        log.warning("going on without %s: not there after %g s, each joins when it comes%s", missing, seconds, refused)


def adjusted(project: Project, asked: Asked) -> Project:
    """The project with what the command line changes.

    Raises:
        BadInput: an unknown selector, or a budget that is none.
    """
    if asked.selector != AGENTIC and asked.selector not in SELECTORS:
        raise BadInput(f"no selector is called {asked.selector!r}: use {AGENTIC} or one of {', '.join(SELECTORS)}")
    if asked.rounds is not None:
        project = replace(project, rounds=asked.rounds)
    if asked.epsilon is not None:
        if asked.epsilon <= 0:
            raise BadInput("--privacy eps=… must be above 0")
        delta = project.privacy.delta if project.privacy else 1e-5
        project = replace(project, privacy=Privacy(epsilon=asked.epsilon, delta=delta))
        # a budget without noise would protect nothing: the server then asks for some
        if project.terms.noise_multiplier == 0 and project.bounds.noise_min == 0:
            project = replace(project, bounds=replace(project.bounds, noise_min=0.5))
    if asked.policies:
        project = replace(project, policies=tuple(sorted({*project.policies, *asked.policies})))
    if project.secure_aggregation:
        project = replace(project, bounds=secure_bounds(project.bounds))
    return project


def _agent(asked: Asked, project: Project, clock: Clock, model: Model | None, specs: Sequence[SiteSpec]) -> ServerAgent:
    sites = len(specs)
    bounds = replace(project.bounds, k_max=min(project.bounds.k_max, sites), k_min=min(project.bounds.k_min, sites))
    if project.privacy is None and all(spec.epsilon is None for spec in specs):
        # nobody keeps a ledger, so everybody would refuse noise
        bounds = replace(bounds, noise_min=0.0, noise_max=0.0)
    pinned = asked.selector != AGENTIC
    if pinned:
        bounds = replace(bounds, selectors=(asked.selector,))
    return ServerAgent(
        None if pinned else model,
        clock,
        bounds=bounds,
        k=min(project.k, sites),
        rounds=project.rounds,
        policy=project.policy,
        fairness=not pinned,
        # one run name draws the same clients again
        seed=int.from_bytes(hashlib.sha256(asked.run.encode()).digest()[:4]),
    )
