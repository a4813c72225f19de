"""Clients of different widths in whole runs (HeteroFL): by what they announce, and by what their guardians allow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from foa.errors import BadMessage
from foa.fl.contents import arrays_of
from foa.fl.flower import begin
from foa.fl.guardian import Limits, Terms
from foa.fl.narrow import HIDDEN, narrow
from foa.fl.plans import Bounds
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, Trained, train
from tests.fakes import HandClock
from tests.fl_world import WORLDS, Place, guarded_site

TERMS = Terms(epochs=1, steps=1, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
MODEL = {"w1": np.zeros((4, 3), np.float32), "w2": np.zeros((1, 4), np.float32)}
AXES = {"w1": (0,), "w2": (1,)}


def stepping(seen: list[tuple[int, ...]] | None = None) -> ClientApp:
    """An app that adds one to every weight it is given, and one and a half to the first."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = {name: array.numpy() + np.float32(1) for name, array in message.content["arrays"].items()}
        arrays["w1"][0, 0] += np.float32(0.5)
        if seen is not None:
            seen.append(arrays["w1"].shape)
        assert HIDDEN not in message.content
        content = {
            "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "metrics": MetricRecord({"num-examples": 20}),
        }
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        # the whole model: a narrow client takes its part of it
        assert message.content["arrays"]["w1"].numpy().shape == (4, 3)
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 20, "accuracy": 1.0})}), reply_to=message)

    return app


async def go(kind: str, places: Sequence[Place], folder: Path, *, share: float = 1.0, rounds: int = 1) -> Trained:
    run = Run(
        settings=AgenticSettings(run="run-1", terms=TERMS, hidden=AXES),
        rounds=rounds,
        strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        arrays=ArrayRecord({name: Array(array) for name, array in MODEL.items()}),
        config=ConfigRecord({"local-epochs": 1}),
    )
    bounds = Bounds(k_max=4, deadline_max_seconds=30, shares=(share,))
    agent = ServerAgent(None, HandClock(), bounds=bounds, k=4, rounds=rounds)
    async with WORLDS[kind](list(places), folder) as there:
        return await train(run, there.grid, agent, there.profiles)


def arrays(trained: Trained) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in trained.arrays.items()}


@pytest.mark.parametrize("kind", WORLDS)
async def test_narrow_clients_train_their_part_and_the_model_keeps_its_shape(kind: str, tmp_path: Path) -> None:
    narrow_seen: list[tuple[int, ...]] = []
    places = [
        guarded_site(0, app=stepping()),
        guarded_site(1, app=stepping(narrow_seen), width=0.5),  # by its card
        guarded_site(2, Limits(width_max=0.25), app=stepping(narrow_seen)),  # by its guardian
    ]
    trained = await go(kind, places, tmp_path)
    assert sorted(narrow_seen) == [(1, 3), (2, 3)]
    rows = {client.client: client for client in trained.state.rows[0].clients}
    assert [row.kind for row in rows.values()] == ["trained"] * 3
    told = rows["site-2"].told
    assert told is not None
    assert (told.countered, told.width) == (True, 0.25)
    # everybody who holds a weight moved it by one (the first by 1.5), so that is its mean; nobody cut anything off
    assert arrays(trained)["w1"].tolist() == [[1.5, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert arrays(trained)["w2"].tolist() == [[1, 1, 1, 1]]


async def test_what_no_client_holds_keeps_its_value(tmp_path: Path) -> None:
    places = [guarded_site(i, Limits(width_max=0.5), app=stepping()) for i in range(2)]
    found = arrays(await go("in-process", places, tmp_path))
    assert found["w1"][:2].tolist() == [[1.5, 1, 1], [1, 1, 1]]
    assert found["w1"][2:].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found["w2"].tolist() == [[1, 1, 0, 0]]


async def test_a_narrow_update_can_be_compressed(tmp_path: Path) -> None:
    places = [
        guarded_site(0, app=stepping(), width=0.75),
        guarded_site(1, Limits(width_max=0.3), app=stepping(), width=0.75),
        guarded_site(2, app=stepping()),
    ]
    trained = await go("in-process", places, tmp_path, share=0.99)
    assert [client.kind for client in trained.state.rows[0].clients] == ["trained"] * 3
    assert arrays(trained)["w1"] == pytest.approx(np.array([[1.5, 1, 1], *([[1, 1, 1]] * 3)]), abs=0.01)


def test_axes_that_are_none_are_refused() -> None:
    begin()
    content = RecordDict({"arrays": ArrayRecord({"w1": Array(MODEL["w1"])}), HIDDEN: ConfigRecord({"w1": "all"})})
    with pytest.raises(BadMessage, match="axes"):
        narrow(Message(content, 1, "train"), asked=1.0, allowed=0.5)


def test_axes_beyond_an_array_cut_nothing() -> None:
    begin()
    content = RecordDict({"arrays": ArrayRecord({"w1": Array(MODEL["w1"])}), HIDDEN: ConfigRecord({"w1": [7, -3]})})
    message = Message(content, 1, "train")
    narrow(message, asked=1.0, allowed=0.5)
    assert arrays_of(message)["w1"].shape == (4, 3)
