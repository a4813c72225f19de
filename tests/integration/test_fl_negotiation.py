"""Negotiation inside a run: calls, offers, agreements; the gate before it; pay by bargain and by auction."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message

from foa.errors import PolicyDenied
from foa.fl.block import FlBlock
from foa.fl.client_mod import Site, guardian_mod
from foa.fl.guardian import Condition, Guardian, Limits
from foa.fl.ledger import PrivacyLedger
from foa.fl.negotiation import Negotiation
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.rounds import ClientRow
from foa.fl.server import ServerAgent
from foa.fl.stages.secure import secure_bounds
from foa.fl.training import train
from tests import fl_app
from tests.fakes import HandClock
from tests.fl_runs import SETTINGS, SITES, a_run, agent, go, of, site_with
from tests.fl_world import WORLDS, Place, guarded_site

BARGAIN = replace(SETTINGS, negotiation=Negotiation(rounds=3, usd_max=2.0))


def ledger(path: Path) -> PrivacyLedger:
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.002, steps=50)
    return PrivacyLedger(path, plan_budget(4.0, 1e-5, plan))


async def test_sites_agree_on_terms_before_they_train_on_them() -> None:
    mods = {SITES[0]: site_with(Limits(epochs_max=2)), SITES[1]: site_with(Limits())}
    trained = await go(a_run(rounds=1, settings=BARGAIN), mods=mods, led_by=agent(k=6))
    row = trained.state.rows[0]
    talks = {talk.client: talk for talk in row.talks}
    # the first is asked for 5 epochs and offers 2; repeated, that is taken. The second accepts; the others have no guardian
    assert set(talks) == {SITES[0], SITES[1]}
    assert [bid.epochs for bid in talks[SITES[0]].bids] == [5, 2, 4, 2]
    assert len(talks[SITES[1]].bids) == 1
    told = of(row, SITES[0]).told
    assert told is not None
    assert (told.epochs, told.countered) == (2, False)
    assert {client.kind for client in row.clients} == {"trained"}


async def test_who_does_not_agree_does_not_train_and_the_row_says_why() -> None:
    trained_at: list[int] = []

    def counting(message: Message, context: Context, call_next: Any) -> Message:
        trained_at.append(context.node_id)
        return call_next(message, context)

    mods = {SITES[0]: [*site_with(Limits(epochs_max=1), usd_a_round=9.0), counting]}
    settings = replace(BARGAIN, negotiation=Negotiation(rounds=3, usd_max=2.0, share_min=0.5))
    trained = await go(a_run(rounds=1, settings=settings), mods=mods, led_by=agent(k=6))
    row = of(trained.state.rows[0], SITES[0])
    assert (row.kind, row.node) == ("refused", "negotiate")
    # a half of 5 epochs is 3; its price ends at its reserve
    assert row.reason == "no agreement: epochs 1 under 3, usd 9 over 2"
    assert trained_at == [trained_at[0]]  # its evaluation only


async def test_a_round_in_which_nobody_agrees_leaves_the_model_as_it_was() -> None:
    mods = {site: site_with(Limits(purposes=("weather",))) for site in SITES}
    trained = await go(a_run(rounds=2, settings=BARGAIN), mods=mods, led_by=agent(k=6))
    assert [row.taken for row in trained.state.rows] == [False, False]
    assert trained.arrays["w"].numpy().tolist() == [0.0, 0.0]
    assert {client.kind for row in trained.state.rows for client in row.clients} == {"refused"}


async def test_a_price_is_bargained_between_both_limits_and_paid() -> None:
    mods = {SITES[0]: site_with(Limits(), usd_a_round=1.0)}
    trained = await go(a_run(rounds=1, settings=BARGAIN), mods=mods, led_by=agent(k=6))
    row = trained.state.rows[0]
    # called at 0, it asks 1.5; the next call bids 1, its reserve, and it asks 1.25, under the 1.5 of the call after that
    assert [bid.usd for bid in row.talks[0].bids] == [0.0, 1.5, 1.0, 1.25]
    assert of(row, SITES[0]).usd == 1.25
    assert of(row, SITES[1]).usd == 0.0


async def test_an_auction_takes_sealed_prices_from_the_exchange_not_from_the_card() -> None:
    blocks = {site: FlBlock(agent=site, samples=20, usd_a_round=0.0) for site in SITES}
    mods = {site: site_with(Limits(), usd_a_round=0.5 + i) for i, site in enumerate(SITES)}
    settings = replace(BARGAIN, usd_a_round=6.0)
    trained = await go(a_run(rounds=1, settings=settings), mods=mods, blocks=blocks, led_by=agent(k=6))
    row = trained.state.rows[0]
    # shares of 6 US$: 6, 3, 2; asked 0.5, 1.5, 2.5: the first two win
    assert {client.client for client in row.clients} == {SITES[0], SITES[1]}
    assert len(row.talks) == 6
    assert {talk.reason for talk in row.talks if talk.agreed is None} == {"others give more for the money"}
    assert 0 < sum(client.usd for client in row.clients) <= 6.0


async def test_an_auction_values_a_site_by_the_work_that_it_agreed_to() -> None:
    mods = {SITES[0]: site_with(Limits(epochs_max=2), usd_a_round=1.0), SITES[1]: site_with(Limits(), usd_a_round=1.0)}
    blocks = {site: FlBlock(agent=site, samples=20, usd_a_round=9.0) for site in SITES}
    settings = replace(BARGAIN, usd_a_round=3.0)
    trained = await go(a_run(rounds=1, settings=settings), mods=mods, blocks=blocks, led_by=agent(k=6))
    row = trained.state.rows[0]
    # the first does 2 of 5 epochs: worth 0.4 of the second, so beside it it may ask 3 · 0.4 / 1.4 = 0.86, and it asks 1.
    # The second may ask 1 / 0.4 = 2.5 before the first is cheaper. Counted as equals both would have won, at 1.5 each
    assert {client.client: client.usd for client in row.clients if client.kind == "trained"} == {
        SITES[1]: pytest.approx(2.5)
    }


async def test_a_round_that_nobody_sells_for_the_money_ends_with_nobody() -> None:
    mods = {site: site_with(Limits(), usd_a_round=9.0) for site in SITES[1:]}
    blocks = {SITES[0]: FlBlock(agent=SITES[0], samples=20, usd_a_round=9.0)}
    trained = await go(
        a_run(rounds=1, settings=replace(BARGAIN, usd_a_round=6.0)), mods=mods, blocks=blocks, led_by=agent(k=6)
    )
    row = trained.state.rows[0]
    assert [client.kind for client in row.clients] == ["refused"] * 6
    assert not row.taken


async def test_a_site_with_a_ledger_pays_once_for_bids_and_then_for_each_round(tmp_path: Path) -> None:
    book = ledger(tmp_path / "ledger.db")
    mods = {SITES[0]: site_with(Limits(noise_min=1.5), book)}
    trained = await go(a_run(rounds=2, settings=BARGAIN), mods=mods, led_by=agent(k=6))
    assert [entry.key for entry in book.entries()] == ["told-count", "run-1/round-1", "run-1/round-2"]
    for row in trained.state.rows:
        agreed, told = of(row, SITES[0]).agreed, of(row, SITES[0]).told
        assert agreed is not None
        assert told is not None
        assert told.noise_multiplier == agreed.noise_multiplier
        assert agreed.noise_multiplier % 0.125 == 0
    book.close()


async def test_a_kept_reply_to_a_round_that_is_asked_again_after_a_kill_is_no_lie(tmp_path: Path) -> None:
    book, clock = ledger(tmp_path / "ledger.db"), HandClock()

    def slowly(message: Message, context: Context, call_next: Any) -> Message:
        clock.seconds += 100.0 if message.metadata.message_type == "train" else 0.0
        return call_next(message, context)

    def site() -> list[object]:
        rules, device = Guardian(Limits(noise_min=1.5), book), Condition(records=2000)
        behind = Site(guardian=rules, condition=lambda: device, clock=clock, usd_a_round=1.0, keys=fl_app.KEYS)
        return [guardian_mod(behind), slowly]

    async def first_round() -> ClientRow:
        blocks = {SITES[0]: FlBlock(agent=SITES[0], samples=2048)}
        run = a_run(rounds=1, settings=BARGAIN)
        trained = await go(run, mods={SITES[0]: site()}, blocks=blocks, led_by=agent(k=6))
        return of(trained.state.rows[0], SITES[0])

    # it says 100 s in a round of less than a second, which is found
    lied = await first_round()
    assert lied.findings == (lied.findings[0],)
    assert "it claimed 100.0 s of training" in lied.findings[0]
    # the server was killed before it saved the round, asks again, and hears at once what the ledger has paid for
    again = await first_round()
    assert again.told is not None
    assert (again.told.seconds, again.told.again) == (100.0, True)
    assert (again.findings, again.usd) == ((), 1.25)
    book.close()


async def test_only_the_first_round_of_a_server_can_have_been_asked_before(tmp_path: Path) -> None:
    def boasting(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            reply.content["foa"]["seconds"], reply.content["foa"]["again"] = 1e6, True
        return reply

    trained = await go(a_run(rounds=2), mods={SITES[0]: [boasting, *site_with(Limits())]}, led_by=agent(k=6))
    assert [of(row, SITES[0]).lied for row in trained.state.rows] == [False, True]


async def test_a_site_that_is_not_cleared_is_no_candidate_and_the_row_says_why() -> None:
    labels = ("phi",)
    blocks = {site: FlBlock(agent=site, samples=20, policies=labels) for site in SITES[1:]}
    settings = replace(SETTINGS, policies=labels)
    trained = await go(a_run(rounds=1, settings=settings), blocks=blocks, led_by=agent(k=6))
    row = trained.state.rows[0]
    refused = of(row, SITES[0])
    assert (refused.kind, refused.node, refused.reason) == ("refused", "profile", "it is not cleared for phi")
    assert row.plan.k == 5
    assert row.record().refused == 0


async def test_a_guardian_refuses_a_run_that_it_is_not_cleared_for_whatever_its_card_says() -> None:
    blocks = {site: FlBlock(agent=site, samples=20, policies=("phi",)) for site in SITES}
    mods = {SITES[0]: site_with(Limits()), SITES[1]: site_with(Limits(policies=("phi",)))}
    settings = replace(SETTINGS, policies=("phi",))
    trained = await go(a_run(rounds=1, settings=settings), mods=mods, blocks=blocks, led_by=agent(k=6))
    assert "not cleared" in of(trained.state.rows[0], SITES[0]).reason
    assert of(trained.state.rows[0], SITES[1]).kind == "trained"


async def test_a_run_that_nobody_is_cleared_for_ends_at_once() -> None:
    with pytest.raises(PolicyDenied, match="site-0: it is not cleared for phi"):
        await go(a_run(settings=replace(SETTINGS, policies=("phi",))))


async def test_too_slow_or_spent_a_site_is_no_candidate() -> None:
    blocks = {
        # a quarter of 200 s is over the longest deadline of 30 s
        SITES[0]: FlBlock(agent=SITES[0], samples=20, seconds_a_round=200.0),
        SITES[1]: FlBlock(agent=SITES[1], samples=20, seconds_a_round=100.0),
    }
    trained = await go(a_run(rounds=1), blocks=blocks, led_by=agent(k=6))
    row = trained.state.rows[0]
    assert of(row, SITES[0]).reason == "by its card it needs 50 s for the least work and 30 s are the most"
    assert of(row, SITES[1]).kind == "trained"


async def test_who_breaks_its_agreement_or_lies_is_found_and_pays() -> None:
    def other_terms(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            reply.content["foa"]["epochs"] = 1
        return reply

    def boast(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            reply.content["metrics"]["num-examples"] = 10**6
        return reply

    mods = {
        SITES[0]: [other_terms, *site_with(Limits(), usd_a_round=1.0)],
        SITES[1]: [boast, *site_with(Limits(), usd_a_round=1.0)],
        SITES[2]: site_with(Limits(), usd_a_round=1.0),
    }
    trained = await go(a_run(rounds=2, settings=BARGAIN), mods=mods, led_by=agent(k=6))
    row = trained.state.rows[0]
    broke, lied, honest = (of(row, SITES[i]) for i in range(3))
    assert broke.findings == ("it agreed to epochs 5 and trained with 1",)
    assert (broke.usd, broke.penalty_usd, broke.lied) == (0.0, 1.25, False)
    assert lied.findings == ("it claimed 1,000,000 records and its card allows 24",)
    assert (lied.usd, lied.penalty_usd, lied.lied) == (0.0, 1.875, True)  # 1.5 · 1.25
    assert (honest.usd, honest.findings) == (1.25, ())
    assert trained.state.owed == {SITES[1]: 1.25}  # half of two payments of 1.25


def six(*, secure: bool = False) -> list[Place]:
    """One that offers less, one that refuses, one whose app has no guardian, and three that accept."""
    places = [guarded_site(i) for i in range(6)]
    places[0] = guarded_site(0, Limits(epochs_max=2))
    places[1] = guarded_site(1, Limits(purposes=("weather",)))
    if not secure:
        places[2] = replace(places[2], app=fl_app.make_app())
    return places


@pytest.mark.parametrize("kind", WORLDS)
async def test_the_same_negotiation_goes_on_over_every_grid(kind: str, tmp_path: Path) -> None:
    async with WORLDS[kind](six(), tmp_path) as there:
        trained = await train(a_run(rounds=2, settings=BARGAIN), there.grid, agent(k=6), there.profiles)
    for row in trained.state.rows:
        assert {talk.client: len(talk.bids) for talk in row.talks} == {
            SITES[0]: 4,  # 5 epochs, 2, 4, 2 again
            SITES[1]: 1,
            SITES[3]: 1,
            SITES[4]: 1,
            SITES[5]: 1,
        }
        assert {client.client: client.kind for client in row.clients} == {
            site: "refused" if site == SITES[1] else "trained" for site in SITES
        }
        assert not any(client.findings for client in row.clients)


async def test_hidden_updates_are_summed_over_those_who_agreed(tmp_path: Path) -> None:
    settings = replace(BARGAIN, secure_aggregation=True)
    leader = ServerAgent(None, HandClock(), bounds=secure_bounds(Bounds(k_max=6, deadline_max_seconds=30)), k=6, rounds=2)
    async with WORLDS["in-process"](six(secure=True), tmp_path) as there:
        trained = await train(a_run(rounds=1, settings=settings), there.grid, leader, there.profiles)
    row = trained.state.rows[0]
    assert {client.client for client in row.clients if client.kind == "trained"} == {*SITES} - {SITES[1]}
    assert row.taken
