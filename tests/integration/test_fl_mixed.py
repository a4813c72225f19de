"""One plain question on the embedded broker: a model is trained on four hospitals' data, then two agents explain its errors.

Three processes beside the run's own: the broker, `foa fl serve`, and this one with Agent-0 and the agents.
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from foa.agents.functions import Question, agent
from foa.agents.rules import propose_by_rule
from foa.app.broker_process import broker_process
from foa.app.federation import Federation
from foa.app.standing import standings
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.values import events
from foa.values.budget import Budget
from foa.values.ids import AgentId
from foa.values.task import Submission, Task
from tests.integration.federations import settings_for

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Train a model on the hospitals' data, then have the clinic agents explain its errors"
BUDGET = Budget(usd=1.0, tokens=100_000, calls=1_000, seconds=150.0)


@agent(
    "pathologist",
    description="Clinic agent. Explains the errors of a tumour classifier: which hospital it serves worst.",
    propose=lambda request: propose_by_rule(request.task.text, most=request.subtasks_max),
)
def pathologist(question: Question) -> str:
    worst = re.search(r"Most of its errors are at (\S+): (\S+) of its test cases", "\n".join(question.inputs))
    return f"It errs most at {worst[1]}, in {worst[2]} of the cases." if worst else "There is no report to explain."


@agent(
    "quality-officer",
    description="Clinic agent. Explains errors of a model that come from data: whose contribution harmed it.",
    propose=lambda request: propose_by_rule(request.task.text, most=request.subtasks_max),
)
def quality_officer(question: Question) -> str:
    harmed = re.findall(r"(\w+) -\d", "\n".join(question.inputs))
    return f"The data of {', '.join(harmed)} harmed the model: check its labels." if harmed else "Nobody harmed it."


@asynccontextmanager
async def server_agent(folder: Path, url: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`foa fl serve` of the example, announced."""
    command = ["fl", "serve", str(ROOT / "examples" / "tumours"), "--simulate", "--no-model", "--broker", url]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "foa",
        *command,
        env={**os.environ, "FOA_STATE_DIR": str(folder)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            said = await process.stderr.readline()
        assert b"1 project at" in said, said
        yield process
    finally:
        process.terminate()
        await process.wait()


async def test_a_plain_question_mixes_a_training_and_its_explanation(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(200),
        broker_process() as port,
        server_agent(tmp_path / "server", f"mqtt://127.0.0.1:{port}"),
    ):
        settings = settings_for(
            tmp_path / "zero", FOA_BROKER_URL=f"mqtt://127.0.0.1:{port}", FOE_DECOMP_THRESHOLD=0.1, FOE_TEAM_SIZE=2
        )
        async with Federation.start(
            settings,
            agents=[pathologist, quality_officer],
            state=settings.state_dir / "jobs.db",
            embedder=CachedEmbedder(WordLlamaEmbedder()),
        ) as started:
            await started.zero.registry.known([AgentId("tumours-training")])
            job = await started.submit(Submission(task=Task(text=QUESTION), budget=BUDGET))
            told = [event async for event in job.events()]
            result = await job.result()
        stands = {site: await standings(settings, AgentId(site), started.zero.service.clock) for site in ("north", "west")}
    assert (result.status, result.error) == ("done", "")
    training, explaining = result.reports
    assert training.by == "tumours-training"
    assert training.figures["accuracy"] > 0.9
    assert training.figures["rounds"] == 4
    assert all(claim.source is not None for claim in training.claims)
    assert explaining.agents == ("pathologist", "quality-officer")
    said = explaining.answer
    assert "It errs most at " in said or "The data of west harmed the model" in said
    # live: each node of four rounds was told while the job went on, and none of them twice
    ended = [(one.round, one.node) for one in told if isinstance(one, events.TrainNode) and one.state == "ended"]
    assert len(ended) == len(set(ended)) == 4 * 8
    # four sites at 0.02 a round in all, four rounds
    assert abs(result.bill.usd - 0.08) < 1e-6
    # west mixed up its labels: what it brought is negative, and its reputation is below that of north
    (north,), (west,) = stands["north"], stands["west"]
    assert (north.kind, west.kind) == ("federated-learning", "federated-learning")
    assert west.mean < north.mean
