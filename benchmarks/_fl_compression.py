"""What compression and secure aggregation do to accuracy and to bytes: digits and hospitals, without noise."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import ConfigRecord

from foa.app.clock import SystemClock
from foa.fl.block import FlBlock, bucketed_samples, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Condition, Guardian, Limits
from foa.fl.plans import Bounds
from foa.fl.project import App, SiteSpec, read_project
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.stages.secure import secure_bounds
from foa.fl.training import Run, Trained, train
from foa.values.ids import AgentId

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SHARES = (1.0, 0.25, 0.1, 0.02)
LAST = 3  #: rounds over which the final accuracy is averaged
DIGITS_CLIENTS, DIGITS_K, DIGITS_ROUNDS = 20, 8, 30
HOSPITALS_ROUNDS = 15
FIRST_SEED = 42


def compression(seeds: int, *, data: str) -> dict[str, object]:
    """A row for each project and share of updates sent, and one for each project with secure aggregation."""
    torch.set_num_threads(1)
    found = dict[str, object]()
    for name in ("digits", "hospitals"):
        for share in SHARES:
            runs = [_run(name, FIRST_SEED + i, share=share, data=data) for i in range(seeds)]
            found[f"{name} share {share:g}"] = _row(runs)
        runs = [_run(name, FIRST_SEED + i, share=1.0, data=data, secure=True) for i in range(seeds)]
        found[f"{name} secure"] = _row(runs)
    return {**found, "seeds": seeds}


def _row(runs: list[tuple[Trained, float]]) -> Mapping[str, object]:
    rows = [trained.state.rows for trained, _ in runs]
    accuracies = [float(np.mean([row.accuracy or 0.0 for row in run[-LAST:]])) for run in rows]
    updates = sum(client.kind in ("trained", "screened") for run in rows for row in run for client in row.clients)
    return {
        "accuracy": round(float(np.mean(accuracies)), 4),
        "accuracy_sd": round(float(np.std(accuracies)), 4),
        "bytes_in_a_client": round(sum(row.bytes_in for run in rows for row in run) / updates),
        "bytes_out_a_client": round(sum(row.bytes_out for run in rows for row in run) / updates),
        "screened": sum(client.kind == "screened" for run in rows for row in run for client in row.clients),
        "seconds": round(float(np.mean([seconds for _, seconds in runs])), 2),
    }


def _run(name: str, seed: int, *, share: float, data: str, secure: bool = False) -> tuple[Trained, float]:
    project = read_project(EXAMPLES / name)
    app = App(EXAMPLES / name, project)
    digits = name == "digits"
    specs = app.sites(project, DIGITS_CLIENTS if digits else None)
    rounds, k = (DIGITS_ROUNDS, DIGITS_K) if digits else (HOSPITALS_ROUNDS, len(specs))
    bounds = Bounds(
        k_min=1, k_max=k, deadline_max_seconds=300, selectors=("random",), aggregations=("fedavg",), shares=(share,)
    )
    run = Run(
        settings=AgenticSettings(
            run=f"{name}-{seed}", terms=replace(project.terms, noise_multiplier=0.0), secure_aggregation=secure
        ),
        rounds=rounds,
        strategy=app.part("strategy")(),
        arrays=app.part("arrays")(seed),
        config=ConfigRecord({**dict(app.part("config")()), "benchmark-seed": seed}),
        validate=app.part("validate"),
    )
    agent = ServerAgent(
        None,
        SystemClock(),
        bounds=secure_bounds(bounds) if secure else bounds,
        k=k,
        rounds=rounds,
        fairness=False,
        seed=seed,
    )
    random.seed(seed)
    apps, blocks = {}, dict[int, FlBlock]()
    for spec in specs:
        number = node_id(AgentId(spec.name))
        config = {"partition-id": spec.partition, "num-partitions": len(specs), "data": data}
        apps[number] = (guarded(app.part("app"), _site(spec, project.keys)), context(number, config))
        blocks[number] = FlBlock(agent=spec.name, samples=bucketed_samples(spec.records))
    began = time.perf_counter()
    with InProcessGrid(apps, workers=2) as grid:
        trained = asyncio.run(train(run, grid, agent, lambda: blocks))
    return trained, time.perf_counter() - began


def _site(spec: SiteSpec, keys: Mapping[str, str]) -> Site:
    condition = Condition(records=spec.records)
    return Site(guardian=Guardian(Limits()), condition=lambda: condition, clock=SystemClock(), keys=keys)
