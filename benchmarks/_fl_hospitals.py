"""The hospitals example under FLamby's protocol: accuracy of plain strategies, and what privacy costs whom."""

import asyncio
import logging
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg, FedYogi, Strategy

from foa.app.clock import SystemClock
from foa.errors import BadInput
from foa.fl.block import FlBlock, bucketed_samples, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Condition, Guardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.project import App, Project, SiteSpec, read_project
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, train
from foa.values.ids import AgentId

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "hospitals"
ROUNDS, STEPS, BATCH, DELTA = 15, 100, 4, 1e-4
FIRST_SEED = 42
EVERYBODY: Mapping[str, int] = {"min_available_nodes": 4, "min_train_nodes": 4, "min_evaluate_nodes": 4}


def _app(data: str) -> tuple[ModuleType, Project]:
    if not (Path(data) / "fl_heart_disease" / "heart_disease_4centers.csv").is_file():
        raise BadInput(
            "set FOA_DATA to a folder with fl_heart_disease/heart_disease_4centers.csv; "
            "docs/howto/federated-learning.md says where it comes from"
        )
    project = read_project(FOLDER)
    return App(FOLDER, project).module, project


def _plain_run(
    module: ModuleType, sites: tuple[SiteSpec, ...], strategy: Strategy, data: str, seed: int, lr: float
) -> float:
    """Mean client accuracy after the last round."""
    apps = {
        node_id(AgentId(site.name)): (module.app, context(node_id(AgentId(site.name)), {"partition-id": i, "data": data}))
        for i, site in enumerate(sites)
    }
    random.seed(seed)
    accuracies: list[float] = []
    strategy.evaluate_metrics_aggr_fn = lambda records, key: _note(records, accuracies)  # type: ignore[attr-defined]
    config = ConfigRecord({**dict(module.config()), "lr": lr, "benchmark-seed": seed})
    with InProcessGrid(apps, workers=1) as grid:
        strategy.start(
            grid, module.arrays(seed), num_rounds=ROUNDS, train_config=config, evaluate_config=config, timeout=300
        )
    return float(np.mean(accuracies[-4:]))


def _note(records, accuracies: list[float]):
    accuracies.extend(float(next(iter(record.metric_records.values()))["accuracy"]) for record in records)
    return next(iter(records[0].metric_records.values()))


def heart(seeds: int, *, data: str) -> dict[str, object]:
    """FedAvg and FedYogi by FLamby's settings."""
    module, project = _app(data)
    torch.set_num_threads(1)

    def both(seed: int) -> tuple[float, float]:
        yogi = FedYogi(eta=0.01, tau=1e-8, beta_1=0.9, beta_2=0.999, **EVERYBODY)
        plain = _plain_run(module, project.sites, FedAvg(**EVERYBODY), data, seed, 0.001)
        return plain, _plain_run(module, project.sites, yogi, data, seed, 0.003162)

    runs = np.array([both(FIRST_SEED + i) for i in range(seeds)])
    return {
        "fedavg": round(float(runs[:, 0].mean()), 4),
        "fedyogi": round(float(runs[:, 1].mean()), 4),
        "seeds": seeds,
    }


def composed(records: int, sigma: float, steps: int) -> tuple[float, float]:
    """ε of so many noisy steps: by Rényi accounting, and by privacy loss distributions (tighter)."""
    # orders for which its series does not converge are left out, and it says so for each
    logging.getLogger("absl").setLevel(logging.ERROR)
    event = SelfComposedDpEvent(PoissonSampledDpEvent(1 / math.ceil(records / BATCH), GaussianDpEvent(sigma)), steps)
    return (
        float(RdpAccountant().compose(event).get_epsilon(DELTA)),
        float(PLDAccountant(value_discretization_interval=1e-3).compose(event).get_epsilon(DELTA)),
    )


def privacy(seeds: int, *, data: str) -> dict[str, object]:
    """One global σ = 1 against guardians with a budget of 10 each."""
    module, project = _app(data)
    torch.set_num_threads(1)
    alike = [_private_run(module, project, data, FIRST_SEED + i, guardians=False) for i in range(seeds)]
    own = [_private_run(module, project, data, FIRST_SEED + i, guardians=True) for i in range(seeds)]
    globally = {site.name: composed(site.records, 1.0, STEPS * ROUNDS) for site in project.sites}
    by_site = {site.name: round(max(run[1][site.name] for run in own), 2) for site in project.sites}
    return {
        "epsilon_max_global": round(max(rdp for rdp, _ in globally.values()), 2),
        "epsilon_max_guardians": max(by_site.values()),
        "accuracy_global": round(float(np.mean([run[0] for run in alike])), 4),
        "accuracy_guardians": round(float(np.mean([run[0] for run in own])), 4),
        "accuracy_sd": [round(float(np.std([run[0] for run in runs])), 4) for runs in (alike, own)],
        "epsilon_global": {name: round(rdp, 2) for name, (rdp, _) in globally.items()},
        "epsilon_global_pld": {name: round(pld, 2) for name, (_, pld) in globally.items()},
        "epsilon_guardians": by_site,
        "rounds_trained": {site.name: float(np.mean([run[2][site.name] for run in own])) for site in project.sites},
        "seeds": seeds,
    }


def _private_run(
    module: ModuleType, project: Project, data: str, seed: int, *, guardians: bool
) -> tuple[float, dict[str, float], dict[str, int]]:
    """Mean accuracy, ε by site from its ledger, rounds trained by site."""
    apps, blocks, books = {}, {}, dict[str, PrivacyLedger]()
    for i, site in enumerate(project.sites):
        number = node_id(AgentId(site.name))
        behind = context(number, {"partition-id": i, "data": data, "benchmark-seed": seed})
        if guardians:
            noise = max(1.0, site.limits.noise_min)
            plan = NoisyTraining(noise_multiplier=noise, sample_rate=BATCH / site.records, steps=STEPS * ROUNDS)
            books[site.name] = PrivacyLedger(":memory:", plan_budget(10.0, DELTA, plan))
            condition = Condition(records=site.records)
            keeper = Site(
                guardian=Guardian(site.limits, books[site.name]),
                condition=lambda found=condition: found,
                clock=SystemClock(),
                keys=project.keys,
            )
            apps[number] = (guarded(module.app, keeper), behind)
        else:
            apps[number] = (module.app, behind)
        budget = 10.0 if guardians else None
        blocks[number] = FlBlock(
            agent=site.name, samples=bucketed_samples(site.records), epsilon=budget, epsilon_left=budget
        )
    run = Run(
        settings=AgenticSettings(
            run=f"bench-{seed}",
            # without guardians the noise comes with the app's own config, and no site has a budget to ask of
            terms=replace(project.terms, noise_multiplier=1.0 if guardians else 0.0),
            purpose=project.purpose,
            rounds=ROUNDS,
        ),
        rounds=ROUNDS,
        strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        arrays=module.arrays(seed),
        config=ConfigRecord({**dict(module.config()), "noise": 1.0}),
    )
    bounds = Bounds(k_min=4, k_max=4, aggregations=("fedavg",), deadline_min_seconds=300, deadline_max_seconds=300)
    agent = ServerAgent(None, SystemClock(), bounds=bounds, k=4, rounds=ROUNDS, seed=seed)
    random.seed(seed)
    with InProcessGrid(apps, workers=1) as grid:
        trained = asyncio.run(train(run, grid, agent, lambda: blocks))
    rows = trained.state.rows
    turns = {
        site.name: sum(client.kind == "trained" for row in rows for client in row.clients if client.client == site.name)
        for site in project.sites
    }
    return float(rows[-1].accuracy or 0.0), {name: book.epsilon_spent for name, book in books.items()}, turns
