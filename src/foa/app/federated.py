"""A federated-learning project from its folder to its report. Needs the extra `fl`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import Context

from foa.app.settings import Settings
from foa.errors import BadInput
from foa.fl.block import FlBlock, bucketed_samples, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import ClientAppCallable, context
from foa.fl.grids.agentic import AgenticSettings
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Condition, Guardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.project import App, Privacy, Project, SiteSpec, read_project
from foa.fl.rounds import RoundRow
from foa.fl.selectors import SELECTORS
from foa.fl.server import ServerAgent
from foa.fl.training import Run, Trained, train
from foa.ports import Clock, Model
from foa.values.ids import AgentId, check_id

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
    workers: int = 2


async def run_project(
    asked: Asked,
    settings: Settings,
    clock: Clock,
    model: Model | None,
    *,
    on_start: Callable[[Project, Sequence[SiteSpec]], None] | None = None,
    on_round: Callable[[RoundRow], None] | None = None,
) -> Trained:
    """Train a project in this process.

    Raises:
        BadInput: the project, a name or a number will not do.
        StoreFailed: checkpoint or ledgers cannot be written.
    """
    check_id(asked.run, what="run")
    project = _adjusted(read_project(asked.folder), asked)
    app = App(asked.folder, project)
    sites = app.sites(project, asked.clients)
    kept = settings.state_dir / "fl" / asked.run
    kept.mkdir(parents=True, exist_ok=True)
    books = [_ledger(kept, project, site) for site in sites]
    try:
        if on_start is not None:
            on_start(project, sites)
        return await _train(asked, settings, clock, model, project, app, sites, books, kept, on_round)
    finally:
        for book in books:
            if book is not None:
                book.close()


async def _train(
    asked: Asked,
    settings: Settings,
    clock: Clock,
    model: Model | None,
    project: Project,
    app: App,
    sites: Sequence[SiteSpec],
    books: Sequence[PrivacyLedger | None],
    kept: Path,
    on_round: Callable[[RoundRow], None] | None,
) -> Trained:
    apps: dict[int, tuple[ClientAppCallable, Context]] = {}
    for site, book in zip(sites, books, strict=True):
        behind = Site(guardian=Guardian(site.limits, book), condition=_condition(site), clock=clock, keys=project.keys)
        config = {"partition-id": site.partition, "num-partitions": len(sites), "data": settings.data}
        number = node_id(AgentId(site.name))
        apps[number] = (guarded(app.part("app"), behind), context(number, config))
    blocks = {node_id(AgentId(site.name)): _block(site, book) for site, book in zip(sites, books, strict=True)}
    run = Run(
        settings=AgenticSettings(
            run=asked.run,
            terms=project.terms,
            purpose=project.purpose,
            rounds=project.rounds,
            usd_a_round=project.usd_a_round,
            credit=project.credit,
        ),
        rounds=project.rounds,
        strategy=app.part("strategy")(),
        arrays=app.part("arrays")(),
        config=app.part("config")(),
        validate=app.part("validate"),
        checkpoint=kept / "run.ckpt",
    )
    agent = _agent(asked, project, clock, model, len(sites))
    with InProcessGrid(apps, workers=asked.workers, run=asked.run) as grid:
        return await train(run, grid, agent, lambda: blocks, on_round=on_round)


def _adjusted(project: Project, asked: Asked) -> Project:
    if asked.selector != AGENTIC and asked.selector not in SELECTORS:
        raise BadInput(f"no selector is called {asked.selector!r}: use {AGENTIC} or one of {', '.join(SELECTORS)}")
    if asked.rounds is not None:
        project = replace(project, rounds=asked.rounds)
    if asked.epsilon is not None:
        if asked.epsilon <= 0:
            raise BadInput("--privacy eps=… must be above 0")
        delta = project.privacy.delta if project.privacy else 1e-5
        # a budget without noise would protect nothing: sites then insist on some
        project = replace(project, privacy=Privacy(epsilon=asked.epsilon, delta=delta))
        if project.terms.noise_multiplier == 0 and project.bounds.noise_min == 0:
            project = replace(project, bounds=replace(project.bounds, noise_min=0.5))
    return project


def _agent(asked: Asked, project: Project, clock: Clock, model: Model | None, sites: int) -> ServerAgent:
    bounds = replace(project.bounds, k_max=min(project.bounds.k_max, sites), k_min=min(project.bounds.k_min, sites))
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


def _ledger(kept: Path, project: Project, site: SiteSpec) -> PrivacyLedger | None:
    privacy, terms = project.privacy, project.terms
    if privacy is None and site.epsilon is None:
        return None
    epsilon = site.epsilon or (privacy.epsilon if privacy else 0.0)
    noise = max(terms.noise_multiplier, site.limits.noise_min, project.bounds.noise_min, 0.5)
    forecast = NoisyTraining(
        noise_multiplier=noise, sample_rate=min(1.0, terms.batch / site.records), steps=terms.steps * project.rounds
    )
    budget = plan_budget(epsilon, privacy.delta if privacy else 1e-5, forecast)
    return PrivacyLedger(kept / f"ledger-{site.name}.db", budget)


def _condition(site: SiteSpec) -> Callable[[], Condition]:
    found = Condition(records=site.records, seconds_a_step=site.seconds_a_step, battery=site.battery, plugged=site.plugged)
    return lambda: found


def _block(site: SiteSpec, book: PrivacyLedger | None) -> FlBlock:
    return FlBlock(
        agent=site.name,
        samples=bucketed_samples(site.records),
        width=site.width,
        usd_a_round=site.usd_a_round,
        epsilon=None if book is None else book.budget.epsilon,
    )
