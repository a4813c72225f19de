"""A whole run in one process: guardians, selection, screening, roll-back, resume. The Flower app knows nothing of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.serverapp.strategy import FedAvg, FedYogi

from foa.errors import BadInput, JobCancelled
from foa.fl.aggregate import Arrays
from foa.fl.block import FlBlock
from foa.fl.checkpoint import load, restore_array
from foa.fl.grids.in_process import InProcessGrid
from foa.fl.guardian import Limits
from foa.fl.ledger import PrivacyLedger
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.rounds import RoundRow
from foa.fl.server import ServerAgent
from tests.fakes import HandClock
from tests.fl_runs import SETTINGS, SITES, Scripted, a_run, agent, go, loss, of, site_with


async def test_a_run_learns_and_every_round_is_on_record() -> None:
    trained = await go(a_run(rounds=4))
    assert loss({"w": trained.arrays["w"].numpy()}) < 0.2
    assert [row.round for row in trained.state.rows] == [1, 2, 3, 4]
    for row in trained.state.rows:
        assert len(row.clients) == row.plan.k == 3
        assert row.verdict == "fallback"
        assert len(row.accuracies) == 6
        assert row.worst10 is not None
        assert row.worst10 <= (row.accuracy or 0)


async def test_the_model_decides_within_bounds_and_its_reason_is_kept() -> None:
    proposal = {
        "selector": "random",
        "k": 2,
        "deadline_seconds": 9,
        "aggregation": "median",
        "noise_floor": 0,
        "share": 1.0,
        "reason": "few",
    }
    trained = await go(a_run(rounds=2), led_by=agent(Scripted(proposal)))
    assert [(row.plan.k, row.plan.reason, row.verdict) for row in trained.state.rows] == [(2, "few", "accepted")] * 2


async def test_a_model_out_of_bounds_hands_over_to_the_rule() -> None:
    trained = await go(a_run(rounds=1), led_by=agent(Scripted({"selector": "magic", "k": 99})))
    row = trained.state.rows[0]
    assert row.verdict == "fallback"
    assert any("k must be 1 to 6" in fault for fault in row.faults)


async def test_guardians_refuse_and_counter_and_the_record_says_why() -> None:
    mods = {
        SITES[0]: site_with(Limits(purposes=("weather",))),
        SITES[1]: site_with(Limits(epochs_max=1)),
        SITES[2]: site_with(Limits()),
    }
    trained = await go(a_run(rounds=1), mods=mods, led_by=agent(k=6))
    row = trained.state.rows[0]
    assert of(row, SITES[0]).kind == "refused"
    assert "purpose" in of(row, SITES[0]).reason
    countered = of(row, SITES[1])
    assert countered.told is not None
    assert (countered.told.countered, countered.told.epochs) == (True, 1)
    assert of(row, SITES[2]).told is not None
    assert of(row, SITES[3]).told is None


async def test_a_poisoned_update_is_screened_and_its_client_quarantined() -> None:
    def poison(message: Message, kept: Context, call_next: Any) -> Message:
        reply = call_next(message, kept)
        if message.metadata.message_type == "train":
            reply.content["arrays"] = ArrayRecord({"w": Array(np.array([-500.0, 900.0], np.float32))})
        return reply

    trained = await go(a_run(rounds=2), mods={SITES[0]: [poison]}, led_by=agent(k=6))
    first, second = trained.state.rows
    assert of(first, SITES[0]).kind == "screened"
    assert SITES[0] not in {client.client for client in second.clients}
    assert loss({"w": trained.arrays["w"].numpy()}) < 1.0


async def test_fltrust_is_a_rule_where_the_server_trains_on_clean_data() -> None:
    bounds = Bounds(k_max=6, deadline_max_seconds=30, aggregations=("fltrust",))
    led_by = ServerAgent(None, HandClock(), bounds=bounds, k=6, rounds=2)
    trusted = replace(SETTINGS, trusted=lambda arrays: {"w": arrays["w"] + np.array([1.0, -0.5], np.float32)})
    trained = await go(a_run(rounds=2, settings=trusted), led_by=led_by)
    assert {row.plan.aggregation for row in trained.state.rows} == {"fltrust"}
    # two steps of at most the length of the server's own, in about its direction
    assert trained.arrays["w"].numpy() == pytest.approx([2.0, -1.0], abs=0.15)
    with pytest.raises(BadInput, match="trusted"):
        await go(a_run(rounds=1), led_by=led_by)


async def test_a_model_that_became_far_worse_is_not_taken() -> None:
    calls: list[float] = []

    def worsening(arrays: Arrays) -> float:
        calls.append(1.0 if len(calls) < 1 else 50.0)
        return calls[-1]

    trained = await go(a_run(rounds=3, validate=worsening))
    assert [row.taken for row in trained.state.rows] == [True, False, False]
    only_first = await go(a_run(rounds=1))
    assert trained.arrays["w"].numpy() == pytest.approx(only_first.arrays["w"].numpy())


async def test_a_boasted_sample_count_is_capped_by_the_vcv() -> None:
    def boast(message: Message, kept: Context, call_next: Any) -> Message:
        reply = call_next(message, kept)
        if message.metadata.message_type == "train":
            reply.content["metrics"]["num-examples"] = 10**9
        return reply

    trained = await go(a_run(rounds=1), mods={SITES[0]: [boast]}, led_by=agent(k=6))
    assert of(trained.state.rows[0], SITES[0]).samples == 24  # 20 by its VCV, and a fifth for rounding


async def test_credit_and_pay_are_on_record() -> None:
    blocks = {site: FlBlock(agent=site, samples=20, usd_a_round=0.5 + i) for i, site in enumerate(SITES)}
    settings = replace(SETTINGS, credit=True, usd_a_round=6.0)
    trained = await go(a_run(rounds=1, validate=loss, settings=settings), blocks=blocks, led_by=agent(k=6))
    row = trained.state.rows[0]
    assert {client.client for client in row.clients} == {SITES[0], SITES[1]}  # shares 6, 3, 2: asks 0.5, 1.5, 2.5
    assert sum(client.usd for client in row.clients) <= 6.0
    assert all(client.usd > 0 and client.credit is not None and client.credit > 0 for client in row.clients)


async def test_a_run_goes_on_where_it_was_cut_with_ledgers_intact(tmp_path: Path) -> None:
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.002, steps=50)
    book = PrivacyLedger(tmp_path / "ledger.db", plan_budget(4.0, 1e-5, plan))
    mods = {SITES[0]: site_with(Limits(noise_min=1.5), book)}
    run = a_run(rounds=5, checkpoint=tmp_path / "run.ckpt")

    def cut(row: RoundRow, grid: InProcessGrid) -> None:
        if row.round == 2:
            grid.cancel()

    with pytest.raises(JobCancelled):
        await go(run, mods=mods, led_by=agent(k=6), hear=cut)
    saved = load(tmp_path / "run.ckpt", run="run-1")
    assert saved is not None
    assert saved.round >= 2
    trained = await go(run, mods=mods, led_by=agent(k=6))
    assert trained.began_at_round == saved.round + 1
    assert [row.round for row in trained.state.rows] == [1, 2, 3, 4, 5]
    assert [entry.key for entry in book.entries()] == [f"run-1/round-{i}" for i in range(1, 6)]
    assert 0 < book.epsilon_spent <= 4.0
    book.close()


async def test_a_finished_run_is_given_back_without_training(tmp_path: Path) -> None:
    run = a_run(rounds=2, checkpoint=tmp_path / "run.ckpt")
    first = await go(run)
    again = await go(run)
    assert again.began_at_round == 3
    assert again.arrays["w"].numpy().tolist() == first.arrays["w"].numpy().tolist()


async def test_momenta_of_the_strategy_are_in_the_checkpoint(tmp_path: Path) -> None:
    yogi = FedYogi(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)
    await go(a_run(rounds=2, strategy=yogi, checkpoint=tmp_path / "run.ckpt"))
    saved = load(tmp_path / "run.ckpt", run="run-1")
    assert saved is not None
    assert restore_array(saved.strategy["m_t"]["w"]).tolist() == yogi.m_t["w"].tolist()  # type: ignore[index]


async def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    await go(a_run(rounds=1, checkpoint=path))
    with pytest.raises(BadInput, match="of run"):
        load(path, run="run-2")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="damaged"):
        load(path, run="run-1")


async def test_a_strategy_that_would_wait_for_ever_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="min_available_nodes"):
        await go(a_run(strategy=FedAvg()))


async def test_what_was_paid_for_and_kept_is_sent_again_without_training(tmp_path: Path) -> None:
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.002, steps=50)
    book = PrivacyLedger(tmp_path / "ledger.db", plan_budget(4.0, 1e-5, plan))
    trained_times: list[int] = []

    def counting(message: Message, kept: Context, call_next: Any) -> Message:
        if message.metadata.message_type == "train":
            trained_times.append(1)
        return call_next(message, kept)

    mods = {SITES[0]: [*site_with(Limits(noise_min=1.5), book), counting]}
    first = await go(a_run(rounds=1), mods=mods, led_by=agent(k=6))
    again = await go(a_run(rounds=1), mods=mods, led_by=agent(k=6))
    assert len(trained_times) == 1
    told = of(first.state.rows[0], SITES[0]).told
    assert told is not None
    assert of(again.state.rows[0], SITES[0]).told == replace(told, again=True)
    assert len(book.entries()) == 1
    book.close()
