"""What leaves a site besides its model: with noise, nothing that the noise does not protect."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from foa.fl.guardian import Limits, Terms
from foa.fl.ledger import PrivacyLedger
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, Trained, train
from tests import fl_app
from tests.fakes import HandClock
from tests.fl_world import WORLDS, Place, guarded_site

TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
PLAN = NoisyTraining(noise_multiplier=1.5, sample_rate=0.002, steps=50)


def chatty() -> ClientApp:
    """An app that tells more than its model."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        content = {
            "arrays": ArrayRecord({"w": Array(np.array([1.0, -0.5], np.float32))}),
            "metrics": MetricRecord({"num-examples": 1_987, "loss": 0.123, "oldest-patient": 97}),
            "notes": ConfigRecord({"patient": "A. B."}),
        }
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 20, "accuracy": 0.75})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def spied(place: Place, seen: list[Message]) -> Place:
    answering = place.app

    def app(message: Message, context: Context) -> Message:
        seen.append(answering(message, context))
        return seen[-1]

    place.app = app
    return place


async def go(places: list[Place], folder: Path) -> Trained:
    run = Run(
        settings=AgenticSettings(run="run-1", terms=TERMS),
        rounds=1,
        strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        arrays=fl_app.start(),
        config=fl_app.config(),
    )
    agent = ServerAgent(None, HandClock(), bounds=Bounds(k_max=6, deadline_max_seconds=30), k=6, rounds=1)
    async with WORLDS["in-process"](places, folder) as there:
        return await train(run, there.grid, agent, there.profiles)


@pytest.fixture
def ledger() -> PrivacyLedger:
    return PrivacyLedger(":memory:", plan_budget(4.0, 1e-5, PLAN))


async def test_with_noise_only_the_model_and_a_coarse_count_leave(tmp_path: Path, ledger: PrivacyLedger) -> None:
    seen: list[Message] = []
    noisy = spied(guarded_site(0, Limits(noise_min=1.5), app=chatty(), ledger=ledger), seen)
    trained = await go([noisy, guarded_site(1)], tmp_path)
    told = seen[0].content
    assert {*told} == {"arrays", "metrics", "foa"}
    # 2,000 records, by the site itself, are 2¹¹ = 2,048 to the nearest power of √2
    assert dict(told["metrics"]) == {"num-examples": 2_048}
    # the reply that is kept against repetition holds no more
    assert b"patient" not in (ledger.find("run-1/round-1") or b"patient")
    # the strategy takes both, although one says less than the other
    assert [client.kind for client in trained.state.rows[0].clients] == ["trained", "trained"]
    assert trained.arrays["w"].numpy() != pytest.approx([0.0, 0.0])
    assert trained.state.memory.devices["site-0"].loss is None
    assert trained.state.memory.devices["site-1"].loss is not None
    ledger.close()


async def test_without_noise_an_app_tells_what_it_likes(tmp_path: Path) -> None:
    seen: list[Message] = []
    await go([spied(guarded_site(0, app=chatty()), seen)], tmp_path)
    assert seen[0].content["metrics"]["loss"] == 0.123
    assert "notes" in seen[0].content


async def test_an_owner_may_keep_accuracies(tmp_path: Path) -> None:
    trained = await go([guarded_site(0, Limits(evaluates=False)), guarded_site(1)], tmp_path)
    assert [name for name, _ in trained.state.rows[0].accuracies] == ["site-1"]


async def test_a_reply_built_unlike_the_others_is_set_aside_and_does_not_spoil_the_round(tmp_path: Path) -> None:
    odd = guarded_site(5)
    answering = odd.app

    def app(message: Message, context: Context) -> Message:
        reply = answering(message, context)
        if message.metadata.message_type == "train":
            # Flower's FedAvg uses none of the replies where one has other records
            reply.content["more"] = MetricRecord({"x": 1})
        return reply

    odd.app = app
    trained = await go([*(guarded_site(i) for i in range(5)), odd], tmp_path)
    rows = {client.client: client for client in trained.state.rows[0].clients}
    assert rows["site-5"].kind == "screened"
    assert "other records" in rows["site-5"].reason
    assert trained.arrays["w"].numpy() != pytest.approx([0.0, 0.0])
