"""An account never loses or makes money; the safety filter never forgets a phrase and never makes one up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from foa.errors import BudgetExceeded
from foa.policy.account import Account, Reservation
from foa.policy.safety import PHRASE_WORDS, SafetyFilter
from foa.policy.words import readings, words
from foa.values.budget import Budget, Spend

amounts = st.floats(0, 2, allow_subnormal=False)
counts = st.integers(0, 200)
budgets = st.builds(Budget, usd=amounts, tokens=counts, calls=counts, seconds=amounts)
spends = st.builds(Spend, usd=amounts, tokens_in=counts, tokens_out=counts, calls=counts, seconds=amounts)
steps = st.lists(st.one_of(budgets, st.tuples(st.integers(0, 9), spends), st.integers(1, 9)), max_size=30)


@settings(max_examples=200)
@given(budgets, steps)
def test_limit_is_spent_plus_held_plus_free(limit: Budget, taken: list[Budget | tuple[int, Spend] | int]) -> None:
    account, held = Account(limit), list[Reservation]()
    charged = Spend()
    for step in taken:
        try:
            if isinstance(step, Budget):
                held.append(account.reserve(step))
            elif isinstance(step, int):
                held += [account.reserve(account.share(step, seconds=1.0))]
            elif held:
                reservation = held.pop(step[0] % len(held))
                settlement = account.settle(reservation, step[1])
                most = reservation.budget
                assert settlement.charged.usd <= most.usd
                assert settlement.charged.tokens <= most.tokens
                assert settlement.charged.calls <= most.calls
                assert bool(settlement.over) == (
                    step[1].usd > most.usd * (1 + 1e-9) or step[1].tokens > most.tokens or step[1].calls > most.calls
                )
                charged += settlement.charged
        except BudgetExceeded:
            pass
        free = account.free
        assert account.spent == charged
        assert account.spent.tokens + sum(r.budget.tokens for r in held) + free.tokens == limit.tokens
        assert account.spent.calls + sum(r.budget.calls for r in held) + free.calls == limit.calls
        total = account.spent.usd + sum(r.budget.usd for r in held) + free.usd
        assert abs(total - limit.usd) <= 1e-6 * max(1.0, limit.usd)


@given(budgets, st.integers(1, 20))
def test_shares_for_all_can_all_be_reserved_while_calls_last(limit: Budget, parts: int) -> None:
    account = Account(limit)
    if limit.calls < parts or limit.tokens < parts:
        return
    share = account.share(parts, seconds=1.0)
    for _ in range(parts):
        account.reserve(share)


word = st.text(st.characters(categories=("Ll", "Lu", "Nd")), min_size=1, max_size=8)
phrases = st.lists(word, min_size=1, max_size=5).map(" ".join).filter(lambda text: 1 <= len(words(text)) <= PHRASE_WORDS)


@settings(max_examples=200)
@given(st.lists(phrases, min_size=1, max_size=30), st.data())
def test_the_filter_never_forgets_a_phrase(listed: list[str], data: st.DataObject) -> None:
    found = SafetyFilter(listed)
    phrase = data.draw(st.sampled_from(listed))
    around = data.draw(st.tuples(word, word))
    assert found.check(phrase) != ""
    assert found.check(f"{around[0]}, {phrase}; {around[1]}") != ""


@settings(max_examples=200)
@given(st.lists(phrases, max_size=30), st.lists(word, max_size=30).map(" ".join))
def test_the_filter_refuses_only_what_contains_a_phrase(listed: list[str], text: str) -> None:
    phrase = SafetyFilter(listed).check(text)
    contained = [
        listed_phrase
        for listed_phrase in listed
        if any(
            reading[start : start + len(words(listed_phrase))] == words(listed_phrase)
            for reading in readings(text)
            for start in range(len(reading))
        )
    ]
    assert (phrase in contained) if phrase else not contained
