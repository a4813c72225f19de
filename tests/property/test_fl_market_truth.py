"""Nobody gains by lying to the auction, and every agreement is within both sides' limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.fl.auction import Bid, auction
from foa.fl.market import Call, Offer, client_takes, negotiate, server_takes
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
    epsilon=st.floats(0, 4),
    usd=st.floats(0, 10),
    deadline_seconds=st.floats(1, 300),
)


@settings(max_examples=200)
@given(offers, offers, offers, offers, st.lists(offers, min_size=20, max_size=20), st.integers(1, 5))
def test_agreements_are_within_both_limits_whatever_bidders_write(
    wanted: Offer, limit: Offer, first: Offer, last: Offer, written: list[Offer], rounds: int
) -> None:
    queue = iter(written)

    def erratic(own: Offer, other: Offer | None, limit: Offer) -> Offer:
        return next(queue)

    # a side whose first bid is already worse for itself than its limit has no negotiation to make
    wanted = wanted if server_takes(wanted, limit) else limit
    first = first if client_takes(first, last) else last
    call = Call(run="r", round=1, wanted=wanted, limit=limit, rounds=rounds)
    found = negotiate(call, AgentId("a"), first, last, server=erratic, bidder=erratic)
    if found is not None:
        assert server_takes(found.offer, limit)
        assert client_takes(found.offer, last)
        assert len(found.bids) <= 2 * (rounds + 1)
