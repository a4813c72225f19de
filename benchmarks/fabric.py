"""What the fabric itself costs: whole jobs with instant agents, on every transport.

4 subtasks × 3 agents × 3 rounds a job, one job at a time, Agent-0, agents and client in one process, each on its own
connection; the broker is a child process (embedded), a server beside it (Mosquitto), or a hub in the process (memory). The
journal is a SQLite file. `messages_per_s` counts what an independent subscriber to the whole root receives, per second of
job time.

Baseline: the same jobs in memory, without any broker.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks._instant import TASK, instant_agents
from benchmarks._servers import mosquitto
from foa.app.fabric import Fabric
from foa.app.federation import Federation
from foa.app.settings import read_settings
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.values.budget import Budget
from foa.values.publication import Filter
from foa.values.task import Submission, Task

TRANSPORTS = ("memory", "embedded", "mosquitto")
BUDGET = Budget(usd=1.0, tokens=1_000_000, calls=10_000, seconds=60.0)


def run(quick: bool, transports: str = ",".join(TRANSPORTS), jobs: int = 0) -> dict[str, object]:
    """Measure.

    Args:
        quick: 20 jobs a transport instead of 200.
        transports: which, comma-separated.
        jobs: how many a transport, if not the above.
    """
    count = jobs or (20 if quick else 200)
    figures = {name: asyncio.run(_measure(name, count)) for name in transports.split(",")}
    return {
        "figures": figures,
        "baseline": {"in_memory_job_ms_p50": figures.get("memory", {}).get("job_ms_p50")},
        "repetitions": count,
    }


@asynccontextmanager
async def _url(name: str) -> AsyncGenerator[str]:
    if name == "mosquitto":
        async with mosquitto() as port:
            yield f"mqtt://127.0.0.1:{port}"
    else:
        yield "memory" if name == "memory" else ""


async def _measure(name: str, count: int) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = await stack.enter_async_context(_url(name))
        settings = read_settings(
            environ={},
            overrides={
                "FOA_BROKER_URL": url,
                "FOA_STATE_DIR": str(folder),
                "FOA_CACHE_DIR": str(folder),
                "FOE_DECOMP_THRESHOLD": 0.0,  # the registry learns from every job: teams must stay three all the same
            },
        )
        embedder = CachedEmbedder(WordLlamaEmbedder())
        federation = await stack.enter_async_context(
            Federation.start(settings, agents=instant_agents(), state=folder / "jobs.db", embedder=embedder)
        )
        for _ in range(max(3, count // 10)):
            await _job(federation)
        seconds = [await _job(federation) for _ in range(count)]
        messages = await _count_messages(federation.fabric, federation)
    median = statistics.median(seconds)
    ordered = sorted(seconds)
    return {
        "job_ms_p50": round(median * 1_000, 2),
        "job_ms_p99": round(ordered[min(count - 1, int(count * 0.99))] * 1_000, 2),
        "messages_per_job": messages,
        "messages_per_s": round(messages / median),
    }


async def _job(federation: Federation) -> float:
    began = time.perf_counter()
    job = await federation.submit(Submission(task=Task(text=TASK), budget=BUDGET))
    result = await job.result()
    took = time.perf_counter() - began
    shape = (
        result.status,
        len(result.plan.nodes),
        {len(c.members) for c in result.clusters},
        {c.rounds for c in result.clusters},
    )
    if shape != ("done", 4, {3}, {3}):
        raise RuntimeError(f"the job was not 4 subtasks × 3 agents × 3 rounds: {shape} {result.error} {result.fallbacks}")
    return took


async def _count_messages(fabric: Fabric, federation: Federation) -> int:
    """How many messages one job puts on the fabric, counted by a subscriber of its own."""
    async with (
        fabric.connect("counter") as transport,
        transport.subscribe(Filter(topic_filter=f"{federation.settings.root}/#", qos=0), capacity=100_000) as inbox,
    ):
        while await _next(inbox, seconds=0.5):  # the retained cards
            pass
        await _job(federation)
        count = 0
        while await _next(inbox, seconds=0.5):
            count += 1
        return count


async def _next(inbox: AsyncIterator[object], *, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await anext(inbox)
    except TimeoutError:
        return False
    return True
