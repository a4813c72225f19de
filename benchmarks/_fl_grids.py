"""The same Flower app on three Grids: in process, over MQTT with two processes of sites, and Flower's own simulation."""

import asyncio
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

from benchmarks._fl_digits import mnist, shared
from benchmarks._fl_mnist_app import ALPHA, CLIENTS, app, lead
from foa.app.clock import SystemClock
from foa.broker import Broker, BrokerConfig
from foa.fl.block import node_id
from foa.fl.flower import context
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.roll import Roll, Wanted
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.topics import Topics

Curve = list[tuple[float, float]]
ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2

SIMULATION = """
import json, time
import flwr.supercore.telemetry as telemetry
telemetry.FLWR_TELEMETRY_ENABLED = "0"
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from benchmarks._fl_digits import mnist, shared
from benchmarks._fl_mnist_app import ALPHA, CLIENTS, app, lead
mnist(), shared(CLIENTS, ALPHA, 0)
server, curve = ServerApp(), []
@server.main()
def main(grid, context):
    curve.extend(lead(grid))
began = time.monotonic()
run_simulation(server, app, CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}})
print("RESULT" + json.dumps([time.monotonic() - began, curve]))
"""


def in_process() -> tuple[float, Curve]:
    """Seconds and curve."""
    mnist(), shared(CLIENTS, ALPHA, 0)
    apps = {
        node_id(AgentId(f"site-{i:03}")): (app, context(node_id(AgentId(f"site-{i:03}")), {"partition-id": i}))
        for i in range(CLIENTS)
    }
    began = time.monotonic()
    with InProcessGrid(apps, workers=PROCESSES) as grid:
        curve = lead(grid)
    return time.monotonic() - began, curve


def over_mqtt() -> tuple[float, Curve]:
    """Seconds from the moment that all sites are there, as the other two start with theirs; and curve."""
    return asyncio.run(_over_mqtt())


async def _over_mqtt() -> tuple[float, Curve]:
    run = f"bench-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(BrokerConfig(host="127.0.0.1", port=0)))
        link = await stack.enter_async_context(MqttTransport(f"mqtt://127.0.0.1:{broker.port}", client_id=f"{run}-server"))
        grid = await stack.enter_async_context(MqttGrid(link, Topics(), run, Roll(Wanted(project=run), SystemClock())))
        edges = [round(i * CLIENTS / PROCESSES) for i in range(PROCESSES + 1)]
        sites = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks._fl_sites", str(first), str(last), str(broker.port), run, cwd=ROOT
            )
            for first, last in pairwise(edges)
        ]
        try:
            await grid.present(CLIENTS, seconds=120)
            began = time.monotonic()
            curve = await asyncio.to_thread(lead, grid)
            return time.monotonic() - began, curve
        finally:
            for site in sites:
                site.kill()
                await site.wait()


def flower_simulation() -> tuple[float, Curve] | None:
    """Seconds and curve; None where ray is not installed (`pip install 'flwr[simulation]'`)."""
    if importlib.util.find_spec("ray") is None:
        return None
    kept = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", SIMULATION], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False, env=kept
    )
    for line in ended.stdout.splitlines():
        if line.startswith("RESULT"):
            seconds, curve = json.loads(line.removeprefix("RESULT"))
            return seconds, [tuple(point) for point in curve]
    raise RuntimeError(f"Flower's simulation ended with {ended.returncode}: {ended.stderr[-500:]}")


def grids() -> dict[str, object]:
    """All three."""
    ours, mqtt, flower = in_process(), over_mqtt(), flower_simulation()
    curves = [ours[1], mqtt[1], *([flower[1]] if flower else [])]
    return {
        "in_process_s": round(ours[0], 2),
        "mqtt_s": round(mqtt[0], 2),
        "flower_simulation_s": round(flower[0], 2) if flower else None,
        "same_metrics": all(curve == curves[0] for curve in curves),
        "accuracy": round(ours[1][-1][1], 4),
    }
