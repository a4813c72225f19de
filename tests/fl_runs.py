"""Whole runs in one process over the small app of `tests.fl_app`, for tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from flwr.serverapp.strategy import FedAvg

from foa.fl.aggregate import Arrays
from foa.fl.block import FlBlock, node_id
from foa.fl.client_mod import Site, guardian_mod
from foa.fl.flower import ClientAppCallable, context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Condition, Guardian, Limits, Terms
from foa.fl.ledger import PrivacyLedger
from foa.fl.plans import Bounds
from foa.fl.rounds import ClientRow, OnNode, RoundRow
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, Trained, train
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId
from tests import fl_app
from tests.fakes import HandClock

SITES = [AgentId(f"site-{i}") for i in range(6)]
TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
SETTINGS = AgenticSettings(run="run-1", terms=TERMS)


class Scripted:
    """A model that always proposes the same."""

    name = "scripted"
    drives_tools = False

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    async def ask(self, request: ModelRequest) -> ModelReply:
        return ModelReply(text=str(self.value), value=self.value)

    async def aclose(self) -> None: ...


def loss(arrays: Arrays) -> float:
    return float(np.abs(arrays["w"] - np.array([2.0, -1.0])).sum())


def agent(model: Scripted | None = None, k: int = 3) -> ServerAgent:
    return ServerAgent(model, HandClock(), bounds=Bounds(k_max=6, deadline_max_seconds=30), k=k, rounds=5)


def a_run(rounds: int = 3, **given: Any) -> Run:
    plain = FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)
    return replace(
        Run(settings=SETTINGS, rounds=rounds, strategy=plain, arrays=fl_app.start(), config=fl_app.config()), **given
    )


async def go(
    run: Run,
    *,
    mods: Mapping[AgentId, Sequence[object]] | None = None,
    led_by: ServerAgent | None = None,
    blocks: Mapping[AgentId, FlBlock] | None = None,
    hear: Callable[[RoundRow, InProcessGrid], None] | None = None,
    on_node: OnNode | None = None,
) -> Trained:
    apps = {
        node_id(site): (
            behind((mods or {}).get(site, ())),
            context(node_id(site), {"partition-id": i}),
        )
        for i, site in enumerate(SITES)
    }
    known = {node_id(site): (blocks or {}).get(site, FlBlock(agent=site, samples=20)) for site in SITES}
    with InProcessGrid(apps, run=run.settings.run) as grid:
        heard = None if hear is None else lambda row: hear(row, grid)
        return await train(run, grid, led_by or agent(), lambda: known, on_round=heard, on_node=on_node)


def behind(mods: Sequence[Any]) -> ClientAppCallable:
    """The app with mods in front, the first outermost; unlike mods of a ClientApp, they see every kind of message."""
    app: ClientAppCallable = fl_app.make_app()
    for mod in reversed(mods):
        app = partial(mod, call_next=app)
    return app


def site_with(limits: Limits, ledger: PrivacyLedger | None = None, records: int = 2000, **given: Any) -> list[object]:
    site = Site(
        guardian=Guardian(limits, ledger),
        condition=lambda: Condition(records=records),
        clock=HandClock(),
        keys=fl_app.KEYS,
        **given,
    )
    return [guardian_mod(site)]


def of(row: RoundRow, site: AgentId) -> ClientRow:
    return next(client for client in row.clients if client.client == site)
