"""A site's guardian: what it refuses, what it answers instead, what it pays."""

from dataclasses import replace

import pytest

from foa.errors import BudgetExceeded
from foa.fl.guardian import Accept, Condition, Counter, Guardian, Limits, Refuse, Terms, TrainAsk, mechanism
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, plan_budget

TERMS = Terms(epochs=2, steps=100, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
NOISY = replace(TERMS, noise_multiplier=1.0)
ASK = TrainAsk(run="r1", round=1, purpose="heart disease", terms=TERMS, deadline_seconds=60.0, cohort=4)
SMALL = Condition(records=30)
BUDGET = plan_budget(4.0, 1e-4, NoisyTraining(noise_multiplier=2.0, sample_rate=0.13, steps=1500))


def ledger() -> PrivacyLedger:
    return PrivacyLedger(":memory:", BUDGET)


def test_what_fits_is_accepted_as_asked() -> None:
    assert Guardian(Limits()).consider(ASK, SMALL) == Accept(terms=TERMS)


@pytest.mark.parametrize(
    ("limits", "ask", "condition", "says"),
    [
        (Limits(purposes=("diabetes",)), ASK, SMALL, "purpose"),
        (Limits(cohort_min=5), ASK, SMALL, "cohort"),
        (Limits(), replace(ASK, terms=replace(TERMS, clip=50.0)), SMALL, "clip"),
        (Limits(), replace(ASK, terms=replace(TERMS, steps=0)), SMALL, "not usable"),
        (Limits(), replace(ASK, deadline_seconds=float("inf")), SMALL, "not usable"),
        (Limits(idle_hours=(22, 6)), ASK, replace(SMALL, hour=12), "idle window"),
        (Limits(), ASK, replace(SMALL, battery=0.1, plugged=False), "battery"),
        (Limits(load_max=0.5), ASK, replace(SMALL, load=0.8), "load"),
        (Limits(), replace(ASK, terms=NOISY), SMALL, "no ledger"),
    ],
)
def test_it_refuses_and_says_why(limits: Limits, ask: TrainAsk, condition: Condition, says: str) -> None:
    verdict = Guardian(limits).consider(ask, condition)
    assert isinstance(verdict, Refuse)
    assert says in verdict.reason


def test_a_low_battery_on_the_plug_is_no_reason() -> None:
    assert isinstance(Guardian(Limits()).consider(ASK, replace(SMALL, battery=0.1, plugged=True)), Accept)


def test_an_idle_window_may_go_over_midnight() -> None:
    assert isinstance(Guardian(Limits(idle_hours=(22, 6))).consider(ASK, replace(SMALL, hour=23)), Accept)


def test_small_hardware_asks_for_less() -> None:
    verdict = Guardian(Limits(width_max=0.5, epochs_max=1)).consider(
        replace(ASK, deadline_seconds=1.0), replace(SMALL, seconds_a_step=0.04)
    )
    assert isinstance(verdict, Counter)
    # 1 s / (0.04 s · width 0.5) = 50 steps
    assert (verdict.terms.width, verdict.terms.epochs, verdict.terms.steps) == (0.5, 1, 50)
    assert len(verdict.reasons) == 3


def test_the_small_hospital_asks_for_more_noise_and_the_large_one_does_not() -> None:
    ask = replace(ASK, terms=replace(NOISY, noise_multiplier=1.5, steps=100))
    large = Guardian(Limits(), ledger()).consider(ask, Condition(records=2000))
    small = Guardian(Limits(), ledger()).consider(ask, SMALL)
    assert isinstance(large, Accept)
    assert isinstance(small, Counter)
    assert small.terms.noise_multiplier > 1.5


def test_fifteen_rounds_stay_within_its_budget_whatever_the_server_asks() -> None:
    with ledger() as book:
        guardian = Guardian(Limits(), book)
        for number in range(1, 40):
            ask = replace(ASK, round=number, terms=replace(NOISY, noise_multiplier=0.5))
            verdict = guardian.consider(ask, SMALL)
            if not isinstance(verdict, Refuse):
                guardian.commit(ask, verdict.terms, SMALL, at=0.0)
        assert 0 < book.epsilon_spent <= 4.0


def test_terms_it_did_not_offer_cannot_overdraw_the_ledger() -> None:
    with ledger() as book:
        guardian = Guardian(Limits(), book)
        with pytest.raises(BudgetExceeded):
            guardian.commit(ASK, replace(NOISY, noise_multiplier=0.2), SMALL, at=0.0)
        assert book.spent == 0.0


def test_a_repeated_round_costs_nothing_more() -> None:
    with ledger() as book:
        guardian, ask = Guardian(Limits(), book), replace(ASK, terms=NOISY)
        for _ in range(3):
            verdict = guardian.consider(ask, SMALL)
            assert not isinstance(verdict, Refuse)
            guardian.commit(ask, verdict.terms, SMALL, at=0.0)
        assert len(book.entries()) == 1


def test_the_site_itself_may_insist_on_noise() -> None:
    verdict = Guardian(Limits(noise_min=2.0), ledger()).consider(ASK, Condition(records=2000))
    assert isinstance(verdict, Counter)
    assert verdict.terms.noise_multiplier >= 2.0


def test_an_empty_budget_offers_its_last_update_instead() -> None:
    with ledger() as book:
        for number in range(400):
            cost = NoisyTraining(noise_multiplier=8.0, sample_rate=0.13, steps=1000)
            if not book.affords(cost):
                break
            book.debit(f"other/{number}", cost, at=0.0)
        big = NoisyTraining(noise_multiplier=8.0, sample_rate=0.13, steps=10)
        while book.affords(big):
            book.debit(f"more/{len(book.entries())}", big, at=0.0)
        verdict = Guardian(Limits(), book).consider(replace(ASK, terms=NOISY), SMALL)
        assert isinstance(verdict, Refuse)
        assert verdict.degraded


def test_what_it_tells_of_its_budget_is_coarse() -> None:
    with ledger() as book:
        book.debit("a", mechanism(replace(NOISY, noise_multiplier=4.0), Condition(records=2000)), at=0.0)
        told = Guardian(Limits(), book).epsilon_told()
        assert told is not None
        assert told[1] * 2 == int(told[1] * 2)


def test_a_site_that_insists_on_noise_needs_a_ledger() -> None:
    with pytest.raises(ValueError, match="ledger"):
        Guardian(Limits(noise_min=1.0))


def test_a_budget_is_shared_out_among_the_rounds_that_were_announced() -> None:
    with ledger() as book:
        guardian, costs = Guardian(Limits(share_a_round=1.0, noise_max=50.0), book), list[float]()
        for number in range(1, 6):
            ask = replace(ASK, round=number, rounds=5, terms=replace(NOISY, noise_multiplier=0.3))
            verdict = guardian.consider(ask, SMALL)
            assert not isinstance(verdict, Refuse)
            guardian.commit(ask, verdict.terms, SMALL, at=0.0)
            costs.append(book.entries()[-1].rdp)
        # a fifth of the whole each, to the precision with which noise is searched for
        assert costs == pytest.approx([BUDGET.allowance / 5] * 5, rel=0.02)
