"""Nobody gains by lying to the auction, and every agreement is within both sides' limits."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.fl.auction import Bid, auction
from foa.fl.bidder import Bidder
from foa.fl.guardian import Condition, Counter, Guardian, Limits, Terms, TrainAsk
from foa.fl.market import Answer, Concession, Offer, Talk, client_takes, server_takes
from foa.fl.negotiation import Call, bid_of
from foa.values.ids import AgentId

LIES = (0.0, 0.3, 0.7, 0.95, 1.05, 1.4, 2.0, 4.0)


def profit(bids: list[Bid], client: AgentId, cost: float, budget: float) -> float:
    award = auction(bids, budget_usd=budget)
    return award.payments[client] - cost if client in award.payments else 0.0


@pytest.mark.parametrize("block", range(10))
def test_no_client_gains_by_misreporting_its_cost(block: int) -> None:
    rng = np.random.default_rng(block)
    for _ in range(100):  # ten blocks of a hundred markets
        count, budget = int(rng.integers(1, 9)), float(rng.uniform(1, 20))
        costs, values = rng.uniform(0.05, 5, count), rng.uniform(0.2, 3, count)
        truth = [Bid(client=AgentId(f"c{i}"), usd=float(costs[i]), value=float(values[i])) for i in range(count)]
        award = auction(truth, budget_usd=budget)
        assert award.usd <= budget + 1e-9
        for i, honest in enumerate(truth):
            earned = profit(truth, honest.client, honest.usd, budget)
            assert earned >= -1e-9
            for lie in (*LIES, float(rng.uniform(0, 3))):
                told = [*truth[:i], Bid(client=honest.client, usd=honest.usd * lie, value=honest.value), *truth[i + 1 :]]
                assert profit(told, honest.client, honest.usd, budget) <= earned + 1e-9


offers = st.builds(
    Offer,
    width=st.floats(0.05, 1),
    epochs=st.integers(1, 8),
    steps=st.integers(1, 200),
    noise_multiplier=st.floats(0, 4),
    usd=st.floats(0, 10),
    deadline_seconds=st.floats(1, 300),
)
answers = st.one_of(
    st.just(Answer(kind="accept")),
    st.just(Answer(kind="refuse", reason="no")),
    st.builds(Answer, kind=st.just("offer"), offer=st.one_of(offers, st.none())),
)


@settings(max_examples=200)
@given(offers, offers, st.lists(offers, min_size=20, max_size=20), st.lists(answers, min_size=6), st.integers(1, 5))
def test_the_server_agrees_within_its_limit_whatever_bidders_and_clients_write(
    wanted: Offer, limit: Offer, written: list[Offer], said: list[Answer], calls: int
) -> None:
    queue, answered = iter(written), iter(said)
    # a side whose first bid is already worse for itself than its limit has no negotiation to make
    side = Concession(
        last=wanted if server_takes(wanted, limit) else limit,
        limit=limit,
        takes=server_takes,
        bidder=lambda own, other, edge: next(queue),
    )
    talk = Talk(client=AgentId("a"), side=side, calls=calls)
    called = list[Offer]()
    while not talk.over:
        called.append(talk.call())
        talk.hear(next(answered))
    assert len(called) <= calls
    assert all(server_takes(bid, limit) for bid in called)
    # monotone: no later call asks the client for more than an earlier one
    assert all(client_takes(later, earlier) for earlier, later in pairwise(called))
    if talk.agreed is not None:
        assert server_takes(talk.agreed, limit)
        assert talk.agreed in talk.bids


@settings(max_examples=200)
@given(offers, offers, st.lists(offers, min_size=8, max_size=8))
def test_a_client_never_bids_past_its_limit_or_back_on_its_word(first: Offer, limit: Offer, written: list[Offer]) -> None:
    queue = iter(written)
    side = Concession(
        last=first if client_takes(first, limit) else limit,
        limit=limit,
        takes=client_takes,
        bidder=lambda own, other, edge: next(queue),
    )
    bids = [side.last, *(side.next(None) for _ in range(8))]
    assert all(client_takes(bid, limit) for bid in bids)
    assert all(server_takes(later, earlier) for earlier, later in pairwise(bids))


terms = st.builds(
    Terms,
    epochs=st.integers(1, 9),
    steps=st.integers(1, 90),
    width=st.floats(0.05, 1),
    batch=st.just(4),
    noise_multiplier=st.floats(0, 9),
    clip=st.just(1.0),
)


@settings(max_examples=100)
@given(terms, st.lists(st.tuples(terms, terms), min_size=4, max_size=4), st.booleans())
def test_a_site_offers_nothing_that_its_rules_forbid_whatever_its_model_and_the_server_write(
    first: Terms, written: list[tuple[Terms, Terms]], sealed: bool
) -> None:
    limits = Limits(epochs_max=3, steps_max=40, width_max=0.5)
    wishes = iter(written)
    bidder = Bidder(
        Guardian(limits), usd=1.0, consider=lambda ask, condition: (Counter(terms=next(wishes)[1], reasons=()), None)
    )
    bids = list[Offer]()
    for number, (called, _) in enumerate(written, start=1):
        plain = replace(called if number > 1 else first, noise_multiplier=0.0)
        ask = TrainAsk(run="r", round=1, purpose="*", terms=plain, deadline_seconds=60.0, cohort=3)
        answer = bidder.answer(Call(ask=ask, number=number, of=4, sealed=sealed), Condition(records=100), at=0.0)
        agreed = answer.offer if answer.kind == "offer" else bid_of(ask)
        assert agreed is not None
        assert agreed.epochs <= 3
        assert agreed.steps <= 40
        assert agreed.width <= 0.5
        assert agreed.usd >= 1.0
        if answer.kind == "offer":
            bids.append(agreed)
    assert all(server_takes(later, earlier) for earlier, later in pairwise(bids))
