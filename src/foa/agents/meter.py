"""What one request may still spend: asked before every model call, so that the hard stop holds."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from foa.errors import BudgetExceeded, ModelReplyInvalid
from foa.ports import Clock, Model, ModelReply, ModelRequest
from foa.values.budget import Budget, Spend
from foa.values.resources import Price

CHARACTERS_PER_TOKEN = 3.2  #: a cautious estimate for English and code; the model's own count is what is charged
WAIT = 0.9  #: share of the time left that a call may take; the rest is for an answer by rule
MIN_REPLY_TOKENS = 16  #: a shorter reply says nothing


def estimate_tokens(*texts: str) -> int:
    """Estimate the prompt tokens of these texts, rather too many than too few."""
    return int(sum(map(len, texts)) / CHARACTERS_PER_TOKEN) + 16


_meters: ContextVar["list[Meter] | None"] = ContextVar("foa_meters", default=None)


@contextmanager
def metered() -> Generator[Callable[[], Spend]]:
    """Give what the meters that are made inside the block have counted: the cost of a request that ends without an answer.

    It is nothing where a brain counts in its own way.
    """
    meters: list[Meter] = []
    token = _meters.set(meters)
    try:
        yield lambda: sum((meter.spend for meter in meters), Spend())
    finally:
        _meters.reset(token)


class Meter:
    """The budget of one request, counted down."""

    def __init__(self, budget: Budget, price: Price, clock: Clock) -> None:
        self._budget = budget
        self._price = price
        self._clock = clock
        self._began = clock.monotonic()
        self._spent = Spend()
        if (meters := _meters.get()) is not None:
            meters.append(self)

    @property
    def spend(self) -> Spend:
        """What was used so far, priced; `seconds` is the time since the request began."""
        used = self._spent
        usd = self._price.of(tokens_in=used.tokens_in, tokens_out=used.tokens_out, calls=used.calls)
        return replace(used, usd=usd, seconds=max(0.0, self._clock.monotonic() - self._began))

    def left(self) -> Budget:
        """What remains of the budget."""
        spent = self.spend
        return Budget(
            usd=max(0.0, self._budget.usd - spent.usd),
            tokens=max(0, self._budget.tokens - spent.tokens),
            calls=max(0, self._budget.calls - spent.calls),
            seconds=max(0.0, self._budget.seconds - spent.seconds),
        )

    def fit(self, request: ModelRequest) -> ModelRequest:
        """Shorten a request so that its worst case fits in what is left.

        Raises:
            BudgetExceeded: not even a short reply fits; says which part of the budget is short.
        """
        left = self.left()
        prompt = _prompt_tokens(request)
        calls = min(request.calls, left.calls)
        if calls < 1:
            raise BudgetExceeded("no model call is left in the budget")
        if left.seconds <= 0.05:
            raise BudgetExceeded("no time is left in the budget")
        reply = min(request.max_tokens, left.tokens // calls - prompt)
        while reply < MIN_REPLY_TOKENS and calls > 1:  # fewer calls leave more tokens for each
            calls -= 1
            reply = min(request.max_tokens, left.tokens // calls - prompt)
        if reply < min(MIN_REPLY_TOKENS, request.max_tokens):
            raise BudgetExceeded(f"{left.tokens} tokens are left and the prompt alone needs about {prompt}")
        while calls > 1 and self._cost(prompt, reply, calls) > left.usd:
            calls -= 1
        if (cost := self._cost(prompt, reply, calls)) > left.usd:
            raise BudgetExceeded(f"US$ {left.usd:.6f} are left and one call may cost US$ {cost:.6f}")
        return replace(request, max_tokens=reply, calls=calls, seconds=min(request.seconds, WAIT * left.seconds))

    async def ask(self, model: Model, request: ModelRequest) -> ModelReply:
        """Ask within what is left, and count what it took.

        Of a call that is cancelled the prompt is counted, by estimate: what was written by then nobody knows.

        Raises:
            BudgetExceeded: as `fit`.
            ModelUnreachable, ModelReplyInvalid: from the model; what an unusable reply cost is counted.
        """
        fitting = self.fit(request)
        try:
            reply = await model.ask(fitting)
        except asyncio.CancelledError:
            self._count(Spend(tokens_in=_prompt_tokens(fitting), calls=1))
            raise
        except ModelReplyInvalid as error:
            self._count(error.spend)
            raise
        self._count(reply.spend)
        return reply

    def _count(self, spend: Spend) -> None:
        self._spent = self._spent + replace(spend, usd=0.0, seconds=0.0)

    def _cost(self, prompt: int, reply: int, calls: int) -> float:
        return self._price.of(tokens_in=calls * prompt, tokens_out=calls * reply, calls=calls)


def _prompt_tokens(request: ModelRequest) -> int:
    return estimate_tokens(request.instructions, request.prompt, "" if request.schema is None else str(request.schema))
