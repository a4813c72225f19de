"""A job's money, tokens and calls: reserve → spend → settle. What is reserved is spent or comes back; the hard stop holds.

limit = spent + held + free, always; nothing is ever below 0
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from foa.errors import BudgetExceeded
from foa.values.budget import Budget, Spend

K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reservation:
    """A part of the budget, held for one request until it is settled. Compared by identity."""

    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a request is charged."""

    charged: Spend  #: never more than was reserved
    over: str = ""  #: not empty: more was reported than reserved, and what


@dataclass(slots=True)
class Account:
    """Who holds how much of one budget. Not shared between threads."""

    limit: Budget
    spent: Spend = field(default_factory=Spend)
    _held: list[Reservation] = field(default_factory=list[Reservation])

    @property
    def free(self) -> Budget:
        """What is neither spent nor held; seconds are the whole job's, since time runs by itself."""
        return Budget(
            usd=max(0.0, self.limit.usd - self.spent.usd - sum(r.budget.usd for r in self._held)),
            tokens=max(0, self.limit.tokens - self.spent.tokens - sum(r.budget.tokens for r in self._held)),
            calls=max(0, self.limit.calls - self.spent.calls - sum(r.budget.calls for r in self._held)),
            seconds=self.limit.seconds,
        )

    def share(self, parts: int, *, seconds: float) -> Budget:
        """An equal part of what is free, at least one call where one is left.

        Args:
            parts: how many requests the rest has to do for.
            seconds: how long one of them may take.

        Raises:
            BudgetExceeded: no call or no token is left.
        """
        free, parts = self.free, max(1, parts)
        if free.calls < 1 or free.tokens < 1:
            raise BudgetExceeded(
                f"the budget is spent: {free.calls} calls and {free.tokens} tokens are left of "
                f"{self.limit.calls} and {self.limit.tokens}; give more with --budget-calls or --budget-tokens"
            )
        return Budget(
            usd=free.usd / parts,
            tokens=max(1, free.tokens // parts),
            calls=max(1, free.calls // parts),
            seconds=min(seconds, free.seconds),
        )

    def reserve(self, budget: Budget) -> Reservation:
        """Hold this much until it is settled.

        Raises:
            BudgetExceeded: less than that is free; nothing is held.
        """
        free = self.free
        short = [
            f"{name} {getattr(budget, name):g} of {getattr(free, name):g}"
            for name in ("usd", "tokens", "calls")
            if getattr(budget, name) > getattr(free, name) * (1 + 1e-9)
        ]
        if short:
            raise BudgetExceeded(f"the budget does not pay for it: {', '.join(short)} left")
        held = Reservation(budget=budget)
        self._held.append(held)
        return held

    def reserve_each(self, budget: Budget, names: Iterable[K]) -> dict[K, Reservation]:
        """Hold this much for each of several, or for none of them.

        Raises:
            BudgetExceeded: less than all of it is free; nothing is held.
        """
        held: dict[K, Reservation] = {}
        try:
            for name in names:
                held[name] = self.reserve(budget)
        except BudgetExceeded:
            for reservation in held.values():
                self.settle(reservation, Spend())
            raise
        return held

    def settle(self, reservation: Reservation, spend: Spend) -> Settlement:
        """Charge a request and give back the rest of what it held. A report over the reservation is cut to it and named.

        Raises:
            ValueError: it was settled before, or is another account's.
        """
        if reservation not in self._held:
            raise ValueError("this reservation is not held here: it was settled before, or is another account's")
        self._held.remove(reservation)
        most = reservation.budget
        over = [
            f"{name} {got:g} of {limit:g}"
            for name, got, limit in (
                ("usd", spend.usd, most.usd),
                ("tokens", spend.tokens, most.tokens),
                ("calls", spend.calls, most.calls),
            )
            if got > limit * (1 + 1e-9)
        ]
        tokens_in = min(spend.tokens_in, most.tokens)
        charged = Spend(
            usd=min(spend.usd, most.usd),
            tokens_in=tokens_in,
            tokens_out=min(spend.tokens_out, most.tokens - tokens_in),
            calls=min(spend.calls, most.calls),
            seconds=min(spend.seconds, most.seconds),
        )
        self.spent += charged
        return Settlement(charged=charged, over=", ".join(over))
