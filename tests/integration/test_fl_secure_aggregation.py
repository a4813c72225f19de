"""Secure aggregation in whole runs, on both Grids: the server gets the sum, whoever drops out, and nothing else."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message
from flwr.serverapp.strategy import FedAvg, FedMedian

from foa.app.clock import SystemClock
from foa.app.federated import Asked, run_project
from foa.app.settings import read_settings
from foa.errors import BadInput
from foa.fl.flower import ClientAppCallable, failure
from foa.fl.guardian import Limits, Terms
from foa.fl.plans import Bounds
from foa.fl.secagg.levels import Scale, to_levels
from foa.fl.secagg.wire import SECAGG
from foa.fl.server import ServerAgent
from foa.fl.stages.cohort import AgenticSettings
from foa.fl.stages.secure import secure_bounds
from foa.fl.terms import RECORD
from foa.fl.training import Run, Trained, train
from tests import fl_app
from tests.fakes import HandClock
from tests.fl_world import WORLDS, Place, guarded_site

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
SECURE = AgenticSettings(run="run-1", terms=TERMS, secure_aggregation=True)
BOUNDS = Bounds(k_min=1, k_max=6, deadline_max_seconds=30)


def agent(bounds: Bounds, k: int = 6) -> ServerAgent:
    return ServerAgent(None, HandClock(), bounds=bounds, k=k, rounds=8)


def strategy() -> FedAvg:
    return FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


def a_run(rounds: int = 3, **given: Any) -> Run:
    plain = Run(settings=SECURE, rounds=rounds, strategy=strategy(), arrays=fl_app.start(), config=fl_app.config())
    return replace(plain, **given)


async def go(run: Run, places: list[Place], folder: Path, *, kind: str = "in-process", k: int = 6) -> Trained:
    bounds = secure_bounds(BOUNDS) if run.settings.secure_aggregation else BOUNDS
    async with WORLDS[kind](places, folder) as there:
        return await train(run, there.grid, agent(bounds, k), there.profiles)


def weights(trained: Trained) -> np.ndarray:
    return trained.arrays["w"].numpy()


def kinds(trained: Trained) -> dict[str, str]:
    return {client.client: client.kind for client in trained.state.rows[0].clients}


@pytest.mark.parametrize("kind", WORLDS)
async def test_the_model_is_that_of_plain_averaging_to_within_the_levels(kind: str, tmp_path: Path) -> None:
    hidden = await go(a_run(), [guarded_site(i) for i in range(6)], tmp_path, kind=kind)
    open_ = await go(
        a_run(settings=replace(SECURE, secure_aggregation=False)), [guarded_site(i) for i in range(6)], tmp_path, kind=kind
    )
    # three rounds of at most 32 / (2³² / 6) each, and float32 weights near 2 with steps of 2.4e-7
    assert weights(hidden) == pytest.approx(weights(open_), abs=2e-6)
    assert [len(row.clients) for row in hidden.state.rows] == [6, 6, 6]
    assert all(row.taken for row in hidden.state.rows)


Stage = Callable[[str, Message], bool]


def dropping(place: Place, stage: str) -> Place:
    """A site that fails when this stage comes."""
    answering = place.app

    def app(message: Message, context: Context) -> Message:
        record = message.content.config_records.get(SECAGG) if not message.has_error() else None
        if record is not None and record["stage"] == stage:
            return failure(message, 2, "it broke down")
        return answering(message, context)

    place.app = app
    return place


@pytest.mark.parametrize("kind", WORLDS)
@pytest.mark.parametrize(("stage", "counts"), [("setup", False), ("share", False), ("train", False), ("reveal", True)])
async def test_a_site_that_drops_out_at_any_stage_does_not_stop_the_round(
    kind: str, stage: str, counts: bool, tmp_path: Path
) -> None:
    places = [*(guarded_site(i) for i in range(5)), dropping(guarded_site(5), stage)]
    hidden = await go(a_run(rounds=1), places, tmp_path, kind=kind)
    who = range(6) if counts else range(5)
    plain = await go(
        a_run(rounds=1, settings=replace(SECURE, secure_aggregation=False)), [guarded_site(i) for i in who], tmp_path
    )
    rest = {f"site-{i}": "trained" for i in range(5)}
    assert kinds(hidden) == {**rest, "site-5": "trained" if counts else "lost"}
    assert weights(hidden) == pytest.approx(weights(plain), abs=1e-6)


async def test_a_site_that_is_cut_off_in_the_middle_is_lost_and_the_others_are_added_up(tmp_path: Path) -> None:
    places, loop = [guarded_site(i) for i in range(5)], asyncio.get_running_loop()
    answering, cut = places[4].app, list[Callable[[], None]]()

    def app(message: Message, context: Context) -> Message:
        reply = answering(message, context)
        if not reply.has_error() and "masked" in reply.content.config_records.get(SECAGG, {}):
            loop.call_soon_threadsafe(cut[0])
        return reply

    places[4].app = app
    async with WORLDS["transport"](places, tmp_path) as there:
        cut.append(there.transports[places[4].name].cut)
        async with asyncio.timeout(20):
            hidden = await train(a_run(rounds=1), there.grid, agent(secure_bounds(BOUNDS), 5), there.profiles)
        there.transports[places[4].name].restore()
    plain = await go(
        a_run(rounds=1, settings=replace(SECURE, secure_aggregation=False)), [guarded_site(i) for i in range(4)], tmp_path
    )
    assert kinds(hidden)["site-4"] == "lost"
    assert weights(hidden) == pytest.approx(weights(plain), abs=1e-6)


async def test_with_too_few_left_the_last_model_stays_and_the_rows_say_why(tmp_path: Path) -> None:
    places = [guarded_site(0), guarded_site(1), *(dropping(guarded_site(i), "train") for i in (2, 3, 4, 5))]
    trained = await go(a_run(rounds=1), places, tmp_path)
    assert weights(trained).tolist() == [0.0, 0.0]
    row = trained.state.rows[0]
    assert not row.taken
    assert {client.kind for client in row.clients} == {"lost"}
    assert "secure aggregation needs 4 members" in row.clients[0].reason


def spied(place: Place, seen: list[Message]) -> Place:
    """Everything that leaves the site in training."""
    answering = place.app

    def app(message: Message, context: Context) -> Message:
        reply = answering(message, context)
        if message.metadata.message_type == "train" and not reply.has_error():
            seen.append(reply)
        return reply

    place.app = app
    return place


async def test_no_update_count_or_metric_of_a_site_leaves_it(tmp_path: Path) -> None:
    seen: list[Message] = []
    plain: list[Message] = []
    settings = replace(SECURE, secure_aggregation=False)
    hidden = await go(a_run(rounds=1), [spied(guarded_site(i), seen) for i in range(4)], tmp_path, k=4)
    await go(a_run(rounds=1, settings=settings), [spied(guarded_site(i), plain) for i in range(4)], tmp_path, k=4)
    assert hidden.state.rows[0].taken
    assert len(seen) == 16  # four stages of four sites
    for reply in seen:
        assert {*reply.content} <= {SECAGG, RECORD}
    masked = {
        reply.metadata.src_node_id: reply.content[SECAGG]["masked"] for reply in seen if "masked" in reply.content[SECAGG]
    }
    scale = Scale(members=4, weight_max=24)
    for reply in plain:
        own = to_levels(reply.content["arrays"]["w"].numpy().astype(np.float64), 20, scale).astype("<u4").tobytes()
        sent = masked[reply.metadata.src_node_id]
        assert isinstance(sent, bytes)
        # not one of the three numbers of its vector is there
        assert not any(sent[at : at + 4] == own[at : at + 4] for at in (0, 4, 8))


async def test_a_site_that_insists_refuses_a_run_in_the_open_and_trains_in_a_hidden_one(tmp_path: Path) -> None:
    insists = Limits(secure_aggregation_required=True)
    places = [guarded_site(0, insists), *(guarded_site(i) for i in (1, 2, 3))]
    open_ = await go(a_run(rounds=1, settings=replace(SECURE, secure_aggregation=False)), places, tmp_path, k=4)
    assert kinds(open_)["site-0"] == "refused"
    assert "by itself" in open_.state.rows[0].clients[0].reason
    hidden = await go(a_run(rounds=1), [guarded_site(0, insists), *(guarded_site(i) for i in (1, 2, 3))], tmp_path, k=4)
    assert {*kinds(hidden).values()} == {"trained"}


async def test_a_guardian_that_refuses_does_so_before_keys_are_made(tmp_path: Path) -> None:
    places = [guarded_site(0, Limits(purposes=("weather",))), *(guarded_site(i) for i in range(1, 5))]
    trained = await go(a_run(rounds=1), places, tmp_path, k=5)
    assert kinds(trained) == {"site-0": "refused", **{f"site-{i}": "trained" for i in range(1, 5)}}


# ── a server that asks for more than it may ────────────────────────────────────────────────────────────────────────────
def lying(place: Place, change: Callable[[Message], None]) -> Place:
    """What this site gets was changed on its way."""
    answering = place.app

    def app(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train":
            change(message)
        return answering(message, context)

    place.app = app
    return place


def _no_protocol(message: Message) -> None:
    if SECAGG in message.content:
        del message.content[SECAGG]


def _not_told(message: Message) -> None:
    message.content[RECORD]["secure-aggregation"] = False


def _compressed(message: Message) -> None:
    message.content[RECORD]["share"] = 0.1


def _other_round(message: Message) -> None:
    if message.content[SECAGG]["stage"] == "train":
        message.content[RECORD]["round"] = 9


def _alone(message: Message) -> None:
    if message.content[SECAGG]["stage"] == "reveal":
        message.content[SECAGG]["gone"] = message.content[SECAGG]["there"][1:]


def _garbage(message: Message) -> None:
    message.content[SECAGG] = ConfigRecord({"stage": "share", "nodes": [1] * 1000})


@pytest.mark.parametrize("change", [_no_protocol, _not_told, _compressed, _other_round, _garbage])
async def test_a_site_takes_no_part_in_what_would_show_its_update(change: Callable[[Message], None], tmp_path: Path) -> None:
    places = [lying(guarded_site(0), change), *(guarded_site(i) for i in range(1, 6))]
    trained = await go(a_run(rounds=1), places, tmp_path)
    assert kinds(trained)["site-0"] == "refused"
    assert trained.state.rows[0].taken


async def test_a_site_reveals_nothing_of_members_called_both_there_and_gone(tmp_path: Path) -> None:
    trained = await go(a_run(rounds=1), [lying(guarded_site(i), _alone) for i in range(4)], tmp_path, k=4)
    assert not trained.state.rows[0].taken


async def test_a_round_that_was_added_up_is_not_added_up_again(tmp_path: Path) -> None:
    places = [guarded_site(i) for i in range(4)]
    first = await go(a_run(rounds=1), places, tmp_path, k=4)
    again = await go(a_run(rounds=1), places, tmp_path, k=4)
    assert first.state.rows[0].taken
    assert not again.state.rows[0].taken
    assert "added up before" in again.state.rows[0].clients[0].reason


@pytest.mark.parametrize("values", [{}, {"masked": b"short"}, {"masked": "text"}, {"masked": [1, 2]}])
async def test_a_hostile_answer_drops_its_site_and_not_the_round(values: Mapping[str, Any], tmp_path: Path) -> None:
    bad = guarded_site(5)
    answering: ClientAppCallable = bad.app

    def app(message: Message, context: Context) -> Message:
        reply = answering(message, context)
        if not reply.has_error() and "masked" in reply.content.config_records.get(SECAGG, {}):
            reply.content[SECAGG] = ConfigRecord(dict(values))
        return reply

    bad.app = app
    trained = await go(a_run(rounds=1), [*(guarded_site(i) for i in range(5)), bad], tmp_path)
    assert kinds(trained)["site-5"] == "screened"
    assert trained.state.rows[0].taken


# ── what it rules out ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("changed", "bounds", "why"),
    [
        ({"settings": replace(SECURE, credit=True)}, secure_bounds(BOUNDS), "credit"),
        ({"settings": replace(SECURE, hidden={})}, secure_bounds(BOUNDS), "mixed widths"),
        ({"strategy": FedMedian(min_available_nodes=1, min_train_nodes=1)}, secure_bounds(BOUNDS), "FedMedian"),
        ({}, BOUNDS, "krum.*compressed"),
    ],
)
async def test_what_needs_single_updates_is_refused_at_the_start(
    changed: Mapping[str, Any], bounds: Bounds, why: str, tmp_path: Path
) -> None:
    async with WORLDS["in-process"]([guarded_site(0)], tmp_path) as there:
        with pytest.raises(BadInput, match=f"secure_aggregation hides single updates.*{why}"):
            await train(a_run(**changed), there.grid, agent(bounds), there.profiles)


def project(tmp_path: Path, first: str) -> Path:
    """The digits example with a line more in its FL.toml."""
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES / "digits", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "FL.toml").write_text(f"{first}\n{(folder / 'FL.toml').read_text()}")
    return folder


async def run_of(folder: Path, tmp_path: Path) -> Trained:
    asked = Asked(folder=folder, run="hidden", clients=6, rounds=2)
    return await run_project(asked, replace(read_settings(), state_dir=tmp_path / "state"), SystemClock(), None)


async def test_one_line_in_a_project_hides_its_updates(tmp_path: Path) -> None:
    trained = await run_of(project(tmp_path, "secure_aggregation = true"), tmp_path)
    rows = trained.state.rows
    assert [row.taken for row in rows] == [True, True]
    assert all(client.samples == 0 and client.kind == "trained" for row in rows for client in row.clients)
    assert {(row.plan.aggregation, row.plan.share) for row in rows} == {("fedavg", 1.0)}


async def test_a_project_that_wants_credit_too_does_not_start(tmp_path: Path) -> None:
    folder = project(tmp_path, "secure_aggregation = true")
    text = (folder / "FL.toml").read_text()
    (folder / "FL.toml").write_text(text.replace("credit = false", "credit = true"))
    with pytest.raises(BadInput, match="credit by Shapley values"):
        await run_of(folder, tmp_path)


def test_an_owner_who_allows_no_mean_is_told() -> None:
    with pytest.raises(BadInput, match="only fedavg"):
        secure_bounds(Bounds(aggregations=("krum",)))
