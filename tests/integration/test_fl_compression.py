"""Compressed updates in whole runs: on both Grids, with any app, over restarts, and against hostile packets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from foa.errors import BadInput, BadMessage
from foa.fl.aggregate import Arrays
from foa.fl.client_state import remembered, remembering
from foa.fl.contents import arrays_of
from foa.fl.flower import begin, context, pack, stamp, unpack
from foa.fl.guardian import Limits, Terms
from foa.fl.packing import LEFT, PACKED, open_reply, pack_reply
from foa.fl.plans import Bounds
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.training import Run, Trained, train
from tests import fl_app
from tests.fakes import HandClock
from tests.fl_world import WORLDS, Place, guarded_site

TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def message(arrays: Arrays) -> Message:
    begin()
    return Message(RecordDict({"arrays": record(arrays)}), 1, "train")


def reply(to: Message, arrays: Arrays) -> Message:
    return Message(RecordDict({"arrays": record(arrays)}), reply_to=to)


def wired(reply: Message) -> Message:
    """As it comes off the wire."""
    stamp(reply)
    return unpack(pack(reply))


def loss(arrays: Arrays) -> float:
    return float(np.abs(arrays["w"] - np.array([2.0, -1.0])).sum())


def agent(share: float, k: int = 6) -> ServerAgent:
    bounds = Bounds(k_min=1, k_max=6, deadline_max_seconds=30, shares=(share,))
    return ServerAgent(None, HandClock(), bounds=bounds, k=k, rounds=8)


async def go(world: Callable[..., Any], places: list[Place], folder: Path, share: float, rounds: int = 8) -> Trained:
    run = Run(
        settings=AgenticSettings(run="run-1", terms=TERMS),
        rounds=rounds,
        strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1),
        arrays=fl_app.start(),
        config=fl_app.config(),
    )
    async with world(places, folder) as there:
        return await train(run, there.grid, agent(share), there.profiles)


@pytest.mark.parametrize("kind", WORLDS)
async def test_half_of_every_update_reaches_the_same_model(kind: str, tmp_path: Path) -> None:
    trained = await go(WORLDS[kind], [guarded_site(i) for i in range(6)], tmp_path, 0.5, rounds=5)
    assert loss({"w": trained.arrays["w"].numpy()}) < 0.2
    assert [client.kind for row in trained.state.rows for client in row.clients] == ["trained"] * 30
    assert {row.plan.share for row in trained.state.rows} == {0.5}


async def test_rows_say_how_many_bytes_went_and_came(tmp_path: Path) -> None:
    app = ClientApp()

    @app.train()
    def drift(message: Message, context: Context) -> Message:
        rng = np.random.default_rng(int(context.node_config["partition-id"]))
        moved = message.content["arrays"]["w"].numpy() + rng.normal(size=10_000).astype(np.float32)
        metrics = MetricRecord({"num-examples": 20})
        return Message(RecordDict({"arrays": record({"w": moved}), "metrics": metrics}), reply_to=message)

    def big() -> list[Place]:
        return [guarded_site(i, app=app) for i in range(3)]

    found = dict[float, Trained]()
    for share in (1.0, 0.1):
        run = Run(
            settings=AgenticSettings(run="run-1", terms=TERMS),
            rounds=1,
            strategy=FedAvg(min_available_nodes=1, min_train_nodes=1, fraction_evaluate=0.0),
            arrays=record({"w": np.zeros(10_000, np.float32)}),
            config=fl_app.config(),
        )
        async with WORLDS["in-process"](big(), tmp_path) as there:
            found[share] = await train(run, there.grid, agent(share, k=3), there.profiles)
    whole, small = found[1.0].state.rows[0], found[0.1].state.rows[0]
    # three models of 40,000 bytes each way; packed: 1,000 levels and some 600 bytes of places each
    assert 120_000 < whole.bytes_in < 123_000
    assert 120_000 < whole.bytes_out < 123_000
    assert 4_700 < small.bytes_in < 7_000
    assert small.bytes_in == sum(client.bytes for client in small.clients)


ASK = {"w": np.array([1.0, 2.0, 3.0, 4.0], np.float32), "n": np.array([7])}


def packed_reply(ask: Message, kept: Context, *change: float, share: float = 0.25, run: str = "run-1") -> Message:
    answer = reply(ask, {"w": ASK["w"] + np.array(change, np.float32), "n": np.array([8])})
    pack_reply(answer, ASK, kept, run=run, share=share)
    return wired(answer)


def test_what_was_left_out_is_in_the_clients_state_and_goes_out_later(tmp_path: Path) -> None:
    ask, path = message(ASK), tmp_path / "state.bin"
    kept = remembered(path, 5, {})
    answer = packed_reply(ask, kept, 0.0, 4.0, 1.0, 0.0)
    assert PACKED in answer.content
    open_reply(answer, ASK)
    # a quarter of four values: the 4.0 went, the 1.0 did not
    assert arrays_of(answer)["w"].tolist() == [1.0, 6.0, 3.0, 4.0]
    assert arrays_of(answer)["n"].tolist() == [8]

    # the site ends and starts again
    remembering(lambda to, there: answer, path)(ask, kept)
    again = remembered(path, 5, {})
    answer = packed_reply(ask, again, 0.0, 0.0, 1.0, 1.5)
    open_reply(answer, ASK)
    assert arrays_of(answer)["w"].tolist() == [1.0, 2.0, 5.0, 4.0]  # 1.0 + 1.0 is more than 1.5

    # whole updates bring what is left: 0.5 of the last change, and nothing stays
    answer = packed_reply(ask, again, 0.5, 0.0, 0.0, 0.0, share=1.0)
    assert PACKED not in answer.content
    assert arrays_of(answer)["w"].tolist() == [1.5, 2.0, 3.0, 5.5]
    assert not again.state.array_records[f"{LEFT}-arrays"]


def test_what_another_run_left_out_is_forgotten() -> None:
    ask, kept = message(ASK), context(5, {})
    packed_reply(ask, kept, 0.0, 4.0, 3.0, 0.0)
    answer = packed_reply(ask, kept, 0.0, 1.0, 0.0, 0.0, run="run-2")
    open_reply(answer, ASK)
    assert arrays_of(answer)["w"].tolist() == [1.0, 3.0, 3.0, 4.0]


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(bytes(40))
    with pytest.raises(BadInput, match="remove it"):
        remembered(path, 5, {})


def test_an_update_that_is_not_finite_goes_out_as_it_is_and_is_not_remembered() -> None:
    ask, kept = message(ASK), context(5, {})
    answer = packed_reply(ask, kept, float("nan"), 0.0, 0.0, 0.0)
    assert PACKED not in answer.content
    assert not len(kept.state)


@pytest.mark.parametrize("arrays", [{}, {"w": np.zeros(4)}, {"n": np.array([1]), "x": np.array([1])}])
def test_a_packet_that_leaves_an_array_out_or_brings_one_twice_is_refused(arrays: Arrays) -> None:
    ask = message(ASK)
    answer = packed_reply(ask, context(5, {}), 0.0, 4.0, 1.0, 0.0)
    answer.content["arrays"] = record(arrays)
    with pytest.raises(BadMessage, match="each array"):
        open_reply(answer, ASK)


def hostile(change: Callable[[Message], None]) -> Callable[..., Message]:
    def mod(to: Message, kept: Context, call_next: Any) -> Message:
        answer = call_next(to, kept)
        if to.metadata.message_type == "train":
            change(answer)
        return answer

    return mod


def _no_packet(answer: Message) -> None:
    answer.content[PACKED] = ConfigRecord({"format": 1, "names": ["w"], "scales": [1.0], "places": [b"x"], "levels": [b"y"]})


def _not_numpy(answer: Message) -> None:
    answer.content["arrays"]["w"] = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=b"PK\x03\x04")


def _huge(answer: Message) -> None:
    data = record({"w": np.zeros(2, np.float32)})["w"].data.replace(b"(2,)", b"(2000000000000,)"[:4].ljust(4))
    answer.content["arrays"]["w"] = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=data)


def _pickled(answer: Message) -> None:
    answer.content["arrays"]["w"] = Array(np.array(["a", "b"]))


@pytest.mark.parametrize("change", [_no_packet, _not_numpy, _huge, _pickled])
async def test_a_hostile_reply_is_set_aside_with_its_reason_and_the_round_goes_on(
    change: Callable[[Message], None], tmp_path: Path
) -> None:
    places = [guarded_site(i) for i in range(5)]
    bad = guarded_site(5, app=fl_app.make_app(mods=[]))
    plain = bad.app
    bad.app = lambda to, kept: hostile(change)(to, kept, plain)
    trained = await go(WORLDS["in-process"], [*places, bad], tmp_path, 1.0, rounds=2)
    first, second = trained.state.rows
    assert [client.kind for client in first.clients] == ["trained"] * 5 + ["screened"]
    assert first.clients[-1].reason
    assert "site-5" not in {client.client for client in second.clients}
    assert first.taken


async def test_sites_without_a_guardian_send_whole_updates_beside_packed_ones(tmp_path: Path) -> None:
    places = [guarded_site(i) for i in range(6)]
    places[0].app = fl_app.make_app()
    trained = await go(WORLDS["in-process"], places, tmp_path, 0.5)
    assert loss({"w": trained.arrays["w"].numpy()}) < 0.2


async def test_a_guardian_refuses_a_share_that_makes_no_sense(tmp_path: Path) -> None:
    trained = await go(WORLDS["in-process"], [guarded_site(0, Limits())], tmp_path, 0.5, rounds=1)
    assert trained.state.rows[0].clients[0].kind == "trained"
