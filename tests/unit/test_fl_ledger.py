"""The privacy ledger and its arithmetic."""

import math
import sqlite3
from pathlib import Path

import pytest

from foa.errors import BadInput, BudgetExceeded, StoreFailed
from foa.fl.ledger import PrivacyLedger, bucketed, kept_order
from foa.fl.privacy import NoisyTraining, PrivacyBudget, PureRelease, epsilon_of, least_noise, offset, plan_budget

BUDGET = PrivacyBudget(epsilon=4.0, delta=1e-4, order=8)


def full_batch(cost: float) -> NoisyTraining:
    """One unsampled step whose cost at order 8 is `cost`: α / 2σ² = 4 / σ²."""
    return NoisyTraining(noise_multiplier=math.sqrt(4 / cost), sample_rate=1.0, steps=1)


def test_unsampled_noise_costs_alpha_over_two_sigma_squared() -> None:
    # order 10, σ = 2, three steps: 3 · 10 / (2·4) = 3.75
    assert NoisyTraining(noise_multiplier=2.0, sample_rate=1.0, steps=3).rdp(10) == pytest.approx(3.75)


def test_sampling_at_order_two_has_the_closed_form() -> None:
    # order 2: log(1 + q²(e^{1/σ²} − 1)); q = .1, σ = 1: log(1 + .01·1.718282) = .0170369
    assert NoisyTraining(noise_multiplier=1.0, sample_rate=0.1, steps=1).rdp(2) == pytest.approx(0.0170369, abs=1e-6)


def test_the_small_hospital_pays_ten_times() -> None:
    # σ = 1, batch 4, 15 rounds of 100 steps, δ = 1e-4. Opacus says 4.6 for 199 patients and 46.5 for 30: it also tries
    # orders between 1 and 2, which a small site's huge cost prefers; whole orders bound it from above by 53
    large = NoisyTraining(noise_multiplier=1.0, sample_rate=4 / 199, steps=1500)
    small = NoisyTraining(noise_multiplier=1.0, sample_rate=4 / 30, steps=1500)
    assert epsilon_of(large, 1e-4) == pytest.approx(4.6, abs=0.1)
    assert epsilon_of(small, 1e-4) == pytest.approx(53.0, abs=0.1)


def test_the_conversion_is_inverted_by_the_allowance() -> None:
    assert BUDGET.epsilon_of(BUDGET.allowance) == pytest.approx(4.0)
    assert BUDGET.allowance == pytest.approx(4.0 - offset(8, 1e-4))


def test_nothing_spent_is_epsilon_zero() -> None:
    assert BUDGET.epsilon_of(0.0) == 0.0


def test_an_order_that_leaves_no_allowance_is_refused() -> None:
    with pytest.raises(BadInput, match="take a higher order"):
        PrivacyBudget(epsilon=1.0, delta=1e-5, order=2)


def test_a_planned_budget_leaves_the_most_rounds() -> None:
    plan = NoisyTraining(noise_multiplier=1.0, sample_rate=0.05, steps=10)
    best = plan_budget(4.0, 1e-4, plan)
    rounds = best.allowance / plan.rdp(best.order)
    for order in (4, 8, 16, 32):
        other = PrivacyBudget(epsilon=4.0, delta=1e-4, order=order)
        assert rounds >= other.allowance / plan.rdp(order)


def test_the_least_noise_fits_and_a_little_less_does_not() -> None:
    sigma = least_noise(allowance=0.5, order=8, sample_rate=0.1, steps=100)
    assert sigma is not None
    assert NoisyTraining(noise_multiplier=sigma, sample_rate=0.1, steps=100).rdp(8) <= 0.5
    assert NoisyTraining(noise_multiplier=sigma * 0.99, sample_rate=0.1, steps=100).rdp(8) > 0.5


def test_no_noise_is_enough_for_an_empty_allowance() -> None:
    assert least_noise(allowance=0.0, order=8, sample_rate=0.1, steps=100) is None


def test_a_noised_count_costs_at_most_its_epsilon() -> None:
    assert PureRelease(epsilon=2.0).rdp(8) == 2.0
    assert PureRelease(epsilon=0.1).rdp(8) == pytest.approx(0.04)


def test_a_round_key_is_debited_once() -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger:
        first = ledger.debit("run/1", full_batch(1.0), at=0.0)
        again = ledger.debit("run/1", full_batch(1.0), at=1.0)
        assert (first.fresh, again.fresh) == (True, False)
        assert ledger.spent == pytest.approx(1.0)
        assert len(ledger.entries()) == 1


def test_a_paid_round_cannot_be_rerun_under_costlier_terms() -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger:
        ledger.debit("run/1", full_batch(1.0), at=0.0)
        with pytest.raises(BadInput, match="costlier"):
            ledger.debit("run/1", full_batch(1.1), at=0.0)


def test_a_debit_over_the_budget_writes_nothing() -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger:
        ledger.debit("a", full_batch(BUDGET.allowance * 0.9), at=0.0)
        with pytest.raises(BudgetExceeded, match="ask for more noise"):
            ledger.debit("b", full_batch(BUDGET.allowance * 0.2), at=0.0)
        assert [entry.key for entry in ledger.entries()] == ["a"]


def test_the_first_kept_reply_is_the_one_sent() -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger:
        ledger.debit("a", full_batch(0.1), at=0.0)
        assert ledger.find("a") is None
        assert ledger.keep("a", b"first") == b"first"
        assert ledger.keep("a", b"second") == b"first"
        assert ledger.find("a") == b"first"


def test_no_reply_is_kept_for_a_round_that_was_not_paid() -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger, pytest.raises(StoreFailed, match="never paid"):
        ledger.keep("a", b"reply")


def test_the_file_itself_refuses_refunds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with PrivacyLedger(path, BUDGET) as ledger:
        ledger.debit("a", full_batch(1.0), at=0.0)
    db = sqlite3.connect(path)
    for statement in ("DELETE FROM debits", "UPDATE debits SET rdp = 0.1", "UPDATE budget SET epsilon = 9"):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
    db.close()


def test_a_ledger_remembers_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with PrivacyLedger(path, BUDGET) as ledger:
        ledger.debit("a", full_batch(1.0), at=0.0)
        ledger.keep("a", b"reply")
    with PrivacyLedger(path, BUDGET) as ledger:
        assert ledger.spent == pytest.approx(1.0)
        assert ledger.find("a") == b"reply"


def test_a_spent_budget_cannot_be_swapped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    PrivacyLedger(path, BUDGET).close()
    with pytest.raises(BadInput, match="cannot be changed"):
        PrivacyLedger(path, PrivacyBudget(epsilon=9.0, delta=1e-4, order=8))


def test_two_ledgers_on_one_file_share_one_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with PrivacyLedger(path, BUDGET) as one, PrivacyLedger(path, BUDGET) as two:
        one.debit("a", full_batch(BUDGET.allowance * 0.7), at=0.0)
        with pytest.raises(BudgetExceeded):
            two.debit("b", full_batch(BUDGET.allowance * 0.7), at=0.0)


def test_a_file_that_is_no_ledger_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be looked at by SQLite as a header")
    with pytest.raises(StoreFailed, match=r"notes\.txt"):
        PrivacyLedger(path, BUDGET)


def test_told_epsilon_is_rounded_down() -> None:
    assert (bucketed(3.99), bucketed(0.2), bucketed(4.0)) == (3.5, 0.0, 4.0)


def test_replies_of_other_runs_are_let_go_and_their_rounds_are_not_trained_again(tmp_path: Path) -> None:
    with PrivacyLedger(tmp_path / "ledger.db", BUDGET) as ledger:
        for key in ("one/round-1", "one-more/round-1", "two/round-1"):
            ledger.debit(key, full_batch(0.1), at=0.0)
            ledger.keep(key, b"update")
        ledger.forget_replies(but="one")
        assert ledger.find("one/round-1") == b"update"
        for gone in ("one-more/round-1", "two/round-1"):
            with pytest.raises(BudgetExceeded, match="answered, and its reply is not kept any more"):
                ledger.find(gone)
        assert ledger.find("one/round-2") is None
        assert [entry.key for entry in ledger.entries()] == ["one/round-1", "one-more/round-1", "two/round-1"]


def test_a_ledger_says_which_order_it_keeps_and_none_is_made_by_asking(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert kept_order(path) is None
    assert not path.exists()
    PrivacyLedger(path, BUDGET).close()
    assert kept_order(path) == 8
    path.write_bytes(b"no database, " * 100)
    with pytest.raises(StoreFailed, match="privacy ledger"):
        kept_order(path)
