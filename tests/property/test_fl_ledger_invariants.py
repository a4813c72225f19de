"""Whatever is asked of a ledger, the budget holds."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from foa.errors import BadInput, BudgetExceeded
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, PrivacyBudget

BUDGET = PrivacyBudget(epsilon=3.0, delta=1e-4, order=10)

asks = st.tuples(
    st.sampled_from([f"run/{number}" for number in range(8)]),
    st.floats(0.2, 20.0),
    st.floats(0.001, 1.0),
    st.integers(1, 500),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(asks, max_size=30))
def test_spending_never_exceeds_the_budget_and_never_falls(requests: list[tuple[str, float, float, int]]) -> None:
    with PrivacyLedger(":memory:", BUDGET) as ledger:
        before, paid = 0.0, dict[str, float]()
        for key, sigma, rate, steps in requests:
            mechanism = NoisyTraining(noise_multiplier=sigma, sample_rate=rate, steps=steps)
            try:
                entry = ledger.debit(key, mechanism, at=0.0)
            except (BudgetExceeded, BadInput):
                assert ledger.spent == before
                continue
            assert entry.fresh == (key not in paid)
            assert paid.setdefault(key, entry.rdp) == entry.rdp
            assert before <= ledger.spent <= BUDGET.allowance
            before = ledger.spent
        assert math.isclose(ledger.spent, math.fsum(paid.values()), abs_tol=1e-9)
        assert ledger.epsilon_spent <= BUDGET.epsilon


@given(st.floats(0.3, 10.0), st.floats(0.001, 1.0), st.integers(1, 100), st.integers(2, 64))
def test_cost_falls_with_noise_and_grows_with_steps(sigma: float, rate: float, steps: int, order: int) -> None:
    cost = NoisyTraining(noise_multiplier=sigma, sample_rate=rate, steps=steps).rdp(order)
    assert NoisyTraining(noise_multiplier=sigma * 1.5, sample_rate=rate, steps=steps).rdp(order) <= cost + 1e-12
    assert NoisyTraining(noise_multiplier=sigma, sample_rate=rate, steps=steps + 1).rdp(order) >= cost
