"""A site's end of a negotiation: its rules are the limit, its model's wish the first bid, its record count stays its own."""

from dataclasses import replace

import numpy as np
import pytest

from foa.errors import BadMessage
from foa.fl.bidder import Bidder
from foa.fl.counts import EPSILON, KEY, told_count
from foa.fl.guardian import Accept, Condition, Counter, Guardian, Limits, Refuse, Terms, TrainAsk, Verdict
from foa.fl.ledger import PrivacyLedger
from foa.fl.market import Answer, Offer
from foa.fl.negotiation import Call, Negotiation, asked_for, bid_of, opened, read_answer, read_call, write_answer, write_call
from foa.fl.privacy import NoisyTraining, PureRelease, plan_budget
from foa.values.ids import AgentId

TERMS = Terms(epochs=4, steps=40, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
ASK = TrainAsk(run="r", round=1, purpose="*", terms=TERMS, deadline_seconds=60.0, cohort=4)
HERE = Condition(records=400)


def call(ask: TrainAsk = ASK, number: int = 1, of: int = 3, *, sealed: bool = False) -> Call:
    return Call(ask=ask, number=number, of=of, sealed=sealed)


def book(epsilon: float = 4.0) -> PrivacyLedger:
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.01, steps=400)
    return PrivacyLedger(":memory:", plan_budget(epsilon, 1e-5, plan))


def offered(answer: Answer) -> Offer:
    assert answer.offer is not None
    return answer.offer


def test_a_call_within_the_rules_is_accepted() -> None:
    bidder = Bidder(Guardian(Limits()))
    assert bidder.answer(call(), HERE, at=0.0).kind == "accept"
    assert bidder.stands(ASK)


def test_a_call_past_the_rules_is_answered_with_what_they_allow_and_why() -> None:
    bidder = Bidder(Guardian(Limits(epochs_max=3, width_max=0.5)))
    answer = bidder.answer(call(), HERE, at=0.0)
    assert (offered(answer).epochs, offered(answer).width) == (3, 0.5)
    assert answer.reason == "its memory holds width 0.5; the owner allows 3 epochs"
    assert bidder.stands(asked_for(ASK, offered(answer)))
    assert not bidder.stands(ASK)


def test_a_price_falls_from_call_to_call_to_the_reserve() -> None:
    bidder = Bidder(Guardian(Limits()), usd=2.0)
    bids = [offered(bidder.answer(call(number=number), HERE, at=0.0)).usd for number in (1, 2, 3)]
    assert bids == [3.0, 2.5, 2.0]  # 1.5 times the reserve, half of the way down, the last chance


def test_a_sealed_price_is_the_reserve_at_once_and_is_never_an_acceptance() -> None:
    answer = Bidder(Guardian(Limits()), usd=2.0).answer(call(replace(ASK, usd=9.0), sealed=True), HERE, at=0.0)
    assert (answer.kind, offered(answer).usd) == ("offer", 2.0)


def test_a_models_wish_is_the_first_bid_and_it_can_only_give_way() -> None:
    wishes: list[Verdict] = [
        Counter(terms=replace(TERMS, steps=10), reasons=("the ward is busy",)),
        Counter(terms=replace(TERMS, steps=5), reasons=("even less",)),
        Accept(terms=TERMS),
    ]
    bidder = Bidder(Guardian(Limits(steps_max=30)), consider=lambda ask, condition: (wishes.pop(0), None))
    asked = [bidder.answer(call(number=number), HERE, at=0.0) for number in (1, 2, 3)]
    # it may not take back its 10 steps, and at last gives way to the rules' 30, not to the 40 of the call
    assert [offered(answer).steps for answer in asked] == [10, 10, 30]
    assert asked[0].reason == "the ward is busy"


def test_a_model_may_refuse_and_the_rules_refuse_without_it() -> None:
    refusing = Bidder(Guardian(Limits()), consider=lambda ask, condition: (Refuse(reason="not tonight"), None))
    assert refusing.answer(call(), HERE, at=0.0) == Answer(kind="refuse", reason="not tonight")
    low = replace(HERE, battery=0.1, plugged=False)
    assert Bidder(Guardian(Limits())).answer(call(), low, at=0.0).degraded


def test_bids_come_from_a_count_that_was_paid_for_once() -> None:
    ledger = book()
    bidder = Bidder(Guardian(Limits(noise_min=1.0), ledger), rng=np.random.default_rng(1))
    first = bidder.answer(call(), HERE, at=0.0)
    again = bidder.answer(call(replace(ASK, round=2)), HERE, at=0.0)
    assert [entry.key for entry in ledger.entries()] == [KEY]
    assert ledger.spent == PureRelease(epsilon=EPSILON).rdp(ledger.budget.order)
    assert offered(first).noise_multiplier % 0.125 == 0
    assert again.kind == "offer"
    # another true count gives the same bids: only the drawn one is read
    elsewhere = bidder.answer(call(replace(ASK, round=3)), replace(HERE, records=50), at=0.0)
    assert replace(offered(elsewhere)) == offered(again)


def test_the_count_is_the_same_after_a_restart_and_seldom_too_high() -> None:
    ledger = book()
    drawn = told_count(ledger, 100, np.random.default_rng(0), at=0.0)
    assert told_count(ledger, 100, np.random.default_rng(9), at=0.0) == drawn
    found = [told_count(book(), 100, np.random.default_rng(seed), at=0.0) for seed in range(200)]
    # 6 are taken off, so it is too high where the noise is over 6: ½·e^(−¼·6.5) ≈ one in ten
    assert sum(count > 100 for count in found) < 40


def test_the_count_outlives_the_replies_of_runs() -> None:
    ledger = book()
    drawn = told_count(ledger, 100, np.random.default_rng(0), at=0.0)
    ledger.forget_replies(but="another-run")
    assert told_count(ledger, 100, np.random.default_rng(9), at=0.0) == drawn


def test_a_site_that_cannot_pay_for_a_bid_makes_none() -> None:
    ledger = book(epsilon=0.5)
    ledger.debit("all", NoisyTraining(noise_multiplier=4.0, sample_rate=0.01, steps=1), at=0.0)
    most = 1
    while ledger.affords(NoisyTraining(noise_multiplier=4.0, sample_rate=0.01, steps=most * 2)):
        most *= 2
    while most:
        step = NoisyTraining(noise_multiplier=4.0, sample_rate=0.01, steps=most)
        if ledger.affords(step):
            ledger.debit(f"rest-{most}", step, at=0.0)
        most //= 2
    if ledger.affords(PureRelease(epsilon=EPSILON)):
        ledger.debit("count", PureRelease(epsilon=EPSILON), at=0.0)
    answer = Bidder(Guardian(Limits(noise_min=1.0), ledger)).answer(call(), HERE, at=0.0)
    assert (answer.kind, answer.degraded) == ("refuse", True)


def test_calls_and_answers_survive_the_wire() -> None:
    sent = call(replace(ASK, usd=1.5, policies=("phi",)), number=2, sealed=True)
    assert read_call(write_call(sent)) == sent
    answer = Answer(kind="offer", offer=bid_of(ASK), reason="less", by="m (accepted)")
    assert read_answer(write_answer(answer), bid_of(ASK)) == answer
    assert read_answer(write_answer(Answer(kind="accept")), bid_of(ASK)) == Answer(kind="accept")


@pytest.mark.parametrize("change", [{"call": 0}, {"call": 10**6}, {"sealed": "yes"}, {"usd": "much"}, {"policies": [1]}])
def test_a_call_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        read_call({**write_call(call()), **change})


@pytest.mark.parametrize(
    "change",
    [{"answer": "maybe"}, {"width": 0.0}, {"steps": 0}, {"usd": -1.0}, {"noise-multiplier": -1.0}, {"reason": "x" * 500}],
)
def test_an_answer_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        read_answer({**write_answer(Answer(kind="offer", offer=bid_of(ASK))), **change}, bid_of(ASK))


def test_an_offer_of_more_than_was_wanted_counts_as_what_was_wanted() -> None:
    more = replace(bid_of(ASK), epochs=99, steps=10**6)
    assert read_answer(write_answer(Answer(kind="offer", offer=more)), bid_of(ASK)).offer == bid_of(ASK)


def test_the_server_opens_with_what_it_wants_and_ends_at_a_share_of_it() -> None:
    talk = opened(AgentId("a"), bid_of(ASK), Negotiation(rounds=2, usd=0.5, usd_max=2.0, noise_max=5.0))
    assert talk.side.last == replace(bid_of(ASK), usd=0.5)
    # a quarter of 4 epochs, 40 steps and the whole width
    limit = Offer(width=0.25, epochs=1, steps=10, noise_multiplier=5.0, usd=2.0, deadline_seconds=60.0)
    assert talk.side.limit == limit
