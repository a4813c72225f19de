"""Processes of the kill tests: `python tests/chaos/_fl_processes.py site|server FOLDER …`."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAvg
from tests import fl_app
from tests.fl_sites import announced, block, node, will

from foa.agents.versions import Versions
from foa.app.clock import SystemClock
from foa.app.keys import host_key
from foa.fl.block import FlBlock, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.flower import context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Condition, Guardian, Limits, Terms
from foa.fl.ledger import PrivacyLedger
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, train
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId

RUN, ROUNDS = "killed", 4
TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=1.5, clip=1.0)
PLAN = NoisyTraining(noise_multiplier=1.5, sample_rate=0.002, steps=50)
BUDGET = plan_budget(4.0, 1e-5, PLAN)


def a_run(checkpoint: Path | None) -> Run:
    """Four rounds, everybody every round."""
    return Run(
        settings=AgenticSettings(run=RUN, terms=TERMS),
        rounds=ROUNDS,
        strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        arrays=fl_app.start(),
        config=fl_app.config(),
        checkpoint=checkpoint,
    )


def agent(k: int) -> ServerAgent:
    """Everybody, every round."""
    bounds = Bounds(k_min=k, k_max=k, deadline_min_seconds=60, deadline_max_seconds=60)
    return ServerAgent(None, SystemClock(), bounds=bounds, k=k, rounds=ROUNDS)


def behind(folder: Path, name: str, at_round: int, then: str) -> Any:
    """A guarded app that, once, in this round and after its debit, waits for its death or kills itself."""
    app, marker = fl_app.make_app(), folder / f"{name}.in-round"

    def deadly(message: Message, kept: Context) -> Message:
        if message.metadata.message_type == "train":
            number = int(message.content["config"]["server-round"])
            if number == at_round and not marker.exists():
                marker.write_text(str(number))
                sys.stdout.write("in the round\n")
                sys.stdout.flush()
                if then == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # the test kills this process long before
        return app(message, kept)

    ledger = PrivacyLedger(folder / f"{name}.db", BUDGET)
    condition = Condition(records=2000)
    site = Site(guardian=Guardian(Limits(), ledger), condition=lambda: condition, clock=SystemClock(), keys=fl_app.KEYS)
    return guarded(deadly, site)  # type: ignore[arg-type]


async def be_site(folder: Path, name: str, port: int, at_round: int) -> None:
    """A site over a broker."""
    who, clock = AgentId(name), SystemClock()
    began, versions = clock.now(), Versions(folder / f"{name}.versions")
    key = host_key(folder)
    async with (
        MqttTransport(f"mqtt://127.0.0.1:{port}", client_id=name, will=will(who, since=began)) as link,
        asyncio.TaskGroup() as group,
    ):
        ready, app = asyncio.Event(), behind(folder, name, at_round, "wait")
        group.create_task(node(link, who, app, clock, int(name[-1])).serve(ready=ready), name="node")
        await ready.wait()
        async with announced(link, block(who, epsilon=BUDGET.epsilon), clock, key=key, began=began, versions=versions):
            await asyncio.Event().wait()


async def be_server(folder: Path, at_round: int) -> None:
    """A server with three sites in its process, the first of which kills it."""
    apps, blocks = {}, {}
    for i in range(3):
        name = AgentId(f"site-{i}")
        app = behind(folder, name, at_round if i == 0 else 0, "die")
        apps[node_id(name)] = (app, context(node_id(name), {"partition-id": i}))
        blocks[node_id(name)] = FlBlock(agent=name, samples=20, epsilon=BUDGET.epsilon)
    with InProcessGrid(apps, run=RUN) as grid:
        trained = await train(a_run(folder / "run.ckpt"), grid, agent(3), lambda: blocks)
    rounds = [row.round for row in trained.state.rows]
    sys.stdout.write(json.dumps({"rounds": rounds, "began": trained.began_at_round}) + "\n")


if __name__ == "__main__":
    kind, place = sys.argv[1], Path(sys.argv[2])
    if kind == "site":
        asyncio.run(be_site(place, sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
    else:
        asyncio.run(be_server(place, int(sys.argv[3])))
