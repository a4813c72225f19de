"""Money: what several hold together is held by all of them or by none."""

import pytest

from foa.errors import BudgetExceeded
from foa.policy.account import Account
from foa.values.budget import Budget, Spend

LIMIT = Budget(usd=1.0, tokens=100, calls=2, seconds=10.0)
ONE = Budget(usd=0.1, tokens=10, calls=1, seconds=1.0)


def test_a_budget_that_pays_for_two_of_three_holds_nothing():
    account = Account(LIMIT)
    with pytest.raises(BudgetExceeded, match="calls 1 of 0"):
        account.reserve_each(ONE, ["a", "b", "c"])
    assert account.free == LIMIT


def test_each_of_several_is_settled_by_itself():
    account = Account(LIMIT)
    held = account.reserve_each(ONE, ["a", "b"])
    assert account.settle(held["a"], Spend(calls=1, tokens_out=4)).charged.tokens == 4
    account.settle(held["b"], Spend())
    # 2 calls and 100 tokens, less what a said
    assert (account.free.calls, account.free.tokens) == (1, 96)
