"""Negotiation, auction, audit, credit and compression on cases worked out by hand."""

import numpy as np
import pytest

from foa.errors import BadInput
from foa.fl.auction import Bid, auction
from foa.fl.codec import write_packed
from foa.fl.compress import Compressor, Packed, unpack
from foa.fl.credit import grades, gtg_shapley, leave_one_out
from foa.fl.market import Answer, Concession, Offer, Talk, client_takes, server_takes, worse
from foa.values.ids import AgentId

A, B, C = AgentId("a"), AgentId("b"), AgentId("c")


def offer(
    width: float = 1.0, epochs: int = 2, steps: int = 40, noise: float = 1.0, usd: float = 1.0, deadline: float = 60.0
) -> Offer:
    return Offer(width=width, epochs=epochs, steps=steps, noise_multiplier=noise, usd=usd, deadline_seconds=deadline)


LIMIT = offer(width=0.5, epochs=1, steps=10, noise=3.0, usd=3.0, deadline=120.0)


def talk(calls: int = 3) -> Talk:
    return Talk(client=A, side=Concession(last=offer(), limit=LIMIT, takes=server_takes), calls=calls)


def test_an_accepted_call_is_the_agreement() -> None:
    found = talk()
    bid = found.call()
    found.hear(Answer(kind="accept"))
    assert (found.agreed, found.over) == (bid, True)


def test_the_server_presses_on_while_an_offer_is_worse_than_its_next_bid() -> None:
    found, first, second = talk(), offer(noise=2.8, usd=2.8), offer(noise=2.1, usd=1.9)
    found.call()
    found.hear(Answer(kind="offer", offer=first))
    # half of the way from 1 to 3: the next call bids noise 2 and 2 US$, and the offer of 2.8 is over both
    assert not found.over
    assert (found.call().noise_multiplier, found.bids[-1].usd) == (2.0, 2.0)
    found.hear(Answer(kind="offer", offer=second))
    # the bid after that would be 2.5 and 2.5: the second offer is better than both
    assert found.agreed == second
    assert [bid.usd for bid in found.bids] == [1.0, 2.8, 2.0, 1.9]


def test_an_offer_that_is_repeated_is_taken_if_it_is_within_the_limit() -> None:
    found, standing = talk(calls=9), offer(noise=2.9)
    for _ in range(2):
        found.call()
        found.hear(Answer(kind="offer", offer=standing))
    assert (found.agreed, found.called) == (standing, 2)


def test_an_offer_that_takes_something_back_does_not_count() -> None:
    found = talk(calls=2)
    found.call()
    found.hear(Answer(kind="offer", offer=offer(noise=2.9)))
    found.call()
    found.hear(Answer(kind="offer", offer=offer(noise=1.0, usd=3.0)))
    assert found.agreed == offer(noise=2.9)


def test_limits_that_do_not_meet_part_and_say_where() -> None:
    found = talk(calls=2)
    for _ in range(2):
        assert not found.over
        found.call()
        found.hear(Answer(kind="offer", offer=offer(usd=9.0, steps=5)))
    assert found.over
    assert found.agreed is None
    assert found.reason == "no agreement: steps 5 under 10, usd 9 over 3"


def test_a_refusal_ends_it_with_its_reason() -> None:
    found = talk()
    found.call()
    found.hear(Answer(kind="refuse", reason="battery at 10%", degraded=True))
    assert (found.over, found.agreed, found.reason, found.degraded) == (True, None, "battery at 10%", True)


def test_a_bidder_that_breaks_its_limit_or_its_word_is_held_to_its_last_bid() -> None:
    def reckless(own: Offer, other: Offer | None, limit: Offer) -> Offer:
        return offer(usd=1e9, noise=0.0)

    side = Concession(last=offer(), limit=LIMIT, takes=server_takes, bidder=reckless)
    assert side.next(None) == offer()
    side = Concession(last=offer(usd=2.0), limit=LIMIT, takes=server_takes, bidder=lambda own, other, limit: offer(usd=1.0))
    assert side.next(None) == offer(usd=2.0)


def test_an_offer_is_compared_in_every_respect() -> None:
    assert worse(offer(), offer()) == ()
    assert client_takes(offer(usd=2.0), offer(usd=1.0))
    assert not client_takes(offer(usd=2.0, steps=41), offer(usd=1.0))


def test_the_auction_pays_the_critical_price() -> None:
    bids = [Bid(client=A, usd=1.0, value=1.0), Bid(client=B, usd=2.0, value=1.0), Bid(client=C, usd=9.0, value=1.0)]
    award = auction(bids, budget_usd=6.0)
    # shares: 6, 3, 2: a and b win, c asks 9 > 2. Each of them could have asked up to 3, its half of the budget
    assert dict(award.payments) == {A: 3.0, B: 3.0}
    assert award.usd <= 6.0
    assert C in award.refused


def test_the_auction_refuses_what_it_cannot_use_and_says_why() -> None:
    bids = [Bid(client=A, usd=-1.0, value=1.0), Bid(client=B, usd=5.0, value=1.0), Bid(client=C, usd=1.0, value=1.0)]
    award = auction([*bids, bids[2]], budget_usd=10.0, reserve_usd=4.0)
    assert award.refused == {
        A: "its price or value is not usable",
        B: "it asks more than the reserve of 4 US$",
        C: "it bid twice",
    }


def additive(group: frozenset[AgentId]) -> float:
    return sum({A: 0.3, B: 0.1, C: 0.0}[client] for client in group)


def test_leave_one_out_gives_what_the_round_would_lose() -> None:
    assert leave_one_out([A, B, C], additive) == pytest.approx({A: 0.3, B: 0.1, C: 0.0})


def test_shapley_values_of_an_additive_round_are_its_parts() -> None:
    found = gtg_shapley([A, B, C], additive, rng=np.random.default_rng(0), within=0.0)
    assert found == pytest.approx({A: 0.3, B: 0.1, C: 0.0})


def test_two_that_bring_the_same_share_it() -> None:
    def either(group: frozenset[AgentId]) -> float:
        return 1.0 if group & {A, B} else 0.0

    assert leave_one_out([A, B], either) == {A: 0.0, B: 0.0}
    found = gtg_shapley([A, B], either, rng=np.random.default_rng(0))
    assert found == pytest.approx({A: 0.5, B: 0.5})


def test_a_round_that_changed_nothing_credits_nobody() -> None:
    asked: list[frozenset[AgentId]] = []

    def flat(group: frozenset[AgentId]) -> float:
        asked.append(group)
        return 0.7

    assert gtg_shapley([A, B, C], flat, rng=np.random.default_rng(0)) == {A: 0.0, B: 0.0, C: 0.0}
    assert len(asked) == 2


def test_grades_put_harm_under_a_half() -> None:
    found = grades({A: 0.4, B: 0.0, C: -0.4})
    assert found[C] < 0.5 == found[B] < found[A]


def test_what_compression_left_out_is_sent_later() -> None:
    compressor, sent = Compressor(share=0.25), np.zeros(8)
    change = {"w": np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1])}
    for _ in range(40):
        sent += unpack(compressor.pack(change)["w"])
        # what is missing is always what the compressor remembers
    missing = 40 * change["w"] - sent
    assert missing == pytest.approx(compressor.left["w"], abs=1e-9)
    assert np.abs(missing).max() < 20 < 40 * change["w"].max()


def test_a_tenth_at_eight_bits_is_under_a_twentieth_of_the_bytes() -> None:
    change = np.random.default_rng(0).normal(size=10_000)
    flat = write_packed(Compressor(share=0.1).pack({"w": change}))
    # 1,000 levels of a byte; 10,000 places at the entropy of one in ten, .469 bits, are 586 bytes, deflate adds a third
    (levels,), (places,) = flat["levels"], flat["places"]
    assert len(levels) == 1_000
    assert 586 < len(places) < 800
    assert len(levels) + len(places) < change.astype(np.float32).nbytes / 20


@pytest.mark.parametrize(
    "packed",
    [
        Packed(shape=(2,), indices=np.array([5], np.uint32), levels=np.array([1], np.int8), scale=1.0),
        Packed(shape=(10**9,), indices=np.array([], np.uint32), levels=np.array([], np.int8), scale=1.0),
        Packed(shape=(2,), indices=np.array([0], np.uint32), levels=np.array([], np.int8), scale=1.0),
        Packed(shape=(2,), indices=np.array([0], np.uint32), levels=np.array([1], np.int8), scale=float("nan")),
        Packed(shape=(-2, -2), indices=np.array([0], np.uint32), levels=np.array([1], np.int8), scale=1.0),
    ],
)
def test_a_packet_that_does_not_fit_itself_is_refused(packed: Packed) -> None:
    with pytest.raises(BadInput):
        unpack(packed)
