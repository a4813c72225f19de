"""Between a language model and anything that matters: its reply is checked, or a rule decides.

    model ──reply──► check ──fits──► decision
      ▲                │ faults
      └──2 repairs─────┘
    no model · too late · unreachable · still unfit · breaker open ──► rule ──► decision

Every decision leaves one entry: who, hash of the prompt, the raw reply, what was wrong with it, what was decided.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from foa.errors import ModelReplyInvalid, ModelUnreachable
from foa.ports import Clock, Model, ModelReply, ModelRequest
from foa.values.budget import Spend

T = TypeVar("T")

MAX_REPAIRS = 2
RAW_CHARACTERS = 2_000


class Unfit(Exception):
    """A reply breaks its bounds. Raised by a check; it never leaves the guard."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked(Generic[T]):
    """A reply that fits, perhaps after it was brought within a bound."""

    value: T
    limited: tuple[str, ...] = ()  #: what was brought within bounds, and from what


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardEntry:
    """What was asked of a model and what became of it."""

    who: str  #: whose decision, e.g. `server/round-3`
    model: str  #: its name; empty: no model was asked
    prompt_sha256: str
    raw: str  #: the last reply, at most 2,000 characters
    verdict: str  #: accepted · limited · fallback
    faults: tuple[str, ...]  #: why it was repaired, limited, or replaced by the rule
    repairs: int  #: how often the model was asked again
    seconds: float  #: from question to decision
    spend: Spend


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded(Generic[T]):
    """A decision and how it came about."""

    value: T
    entry: GuardEntry

    @property
    def by_rule(self) -> bool:
        """Whether the rule decided."""
        return self.entry.verdict == "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """How much patience a model gets."""

    seconds: float = 20.0  #: from question to decision, repairs included
    failures: int = 3  #: in a row, after which the model is left alone
    rest_seconds: float = 300.0  #: for how long it is left alone before it is tried once more


@dataclass(slots=True)
class _Talk:
    """What happened so far in one decision."""

    raw: str = ""
    faults: list[str] = field(default_factory=list[str])
    repairs: int = 0
    spend: Spend = field(default_factory=Spend)


class Guard:
    """Asks a model for decisions and answers for them. One guard for each agent: the breaker is its memory."""

    def __init__(
        self,
        model: Model | None,
        clock: Clock,
        *,
        limits: GuardLimits | None = None,
        log: Callable[[GuardEntry], None] | None = None,
    ) -> None:
        """Make a guard; `model` None means that the rule always decides."""
        self._model = model
        self._clock = clock
        self._limits = limits or GuardLimits()
        self._log = log or _forget
        self._failures = 0
        self._rests_until = float("-inf")

    @property
    def open(self) -> bool:
        """Whether the breaker keeps the model out at present."""
        return self._clock.monotonic() < self._rests_until

    async def decide(
        self,
        request: ModelRequest,
        *,
        who: str,
        check: Callable[[Mapping[str, Any]], Checked[T]],
        rule: Callable[[], T],
    ) -> Guarded[T]:
        """A decision that `check` let through, or the rule's. Never raises for anything a model does.

        Args:
            request: the question; its schema is what `check` reads.
            who: names the decision in the log.
            check: gives the decision, or raises `Unfit`. Whatever else it raises is a bug and escapes.
            rule: decides without a model.
        """
        began, talk = self._clock.monotonic(), _Talk()
        found: Checked[T] | None = None
        if self._model is not None and self.open:
            talk.faults.append("the model failed too often lately; it is left alone for a while")
        elif self._model is not None:
            found = await self._converse(self._model, request, check, talk)
            self._count(found is not None)
        verdict = "fallback" if found is None else "limited" if found.limited else "accepted"
        entry = GuardEntry(
            who=who,
            model="" if self._model is None else self._model.name,
            prompt_sha256=hashlib.sha256(f"{request.instructions}\0{request.prompt}".encode()).hexdigest(),
            raw=talk.raw[:RAW_CHARACTERS],
            verdict=verdict,
            faults=(*talk.faults, *(found.limited if found else ())),
            repairs=talk.repairs,
            seconds=self._clock.monotonic() - began,
            spend=talk.spend,
        )
        self._log(entry)
        return Guarded(value=rule() if found is None else found.value, entry=entry)

    def _count(self, good: bool) -> None:
        self._failures = 0 if good else self._failures + 1
        if self._failures >= self._limits.failures:
            # one more failure after the rest closes the door again at once
            self._failures = self._limits.failures - 1
            self._rests_until = self._clock.monotonic() + self._limits.rest_seconds

    async def _converse(
        self, model: Model, request: ModelRequest, check: Callable[[Mapping[str, Any]], Checked[T]], talk: _Talk
    ) -> Checked[T] | None:
        asked = request
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    faults, found = await self._once(model, asked, check, talk)
                    if found is not None:
                        return found
                    talk.faults.extend(faults)
                    # the model's own repairs count: two in all
                    if talk.repairs >= MAX_REPAIRS:
                        return None
                    talk.repairs += 1
                    wrong = "; ".join(faults)[:800]
                    asked = replace(
                        request, prompt=f"{request.prompt}\n\nYour last reply was refused: {wrong}. Answer again."
                    )
        except TimeoutError:
            talk.faults.append(f"no usable reply within {self._limits.seconds:g} s")
        except ModelUnreachable as error:
            talk.faults.append(str(error)[:300])
        return None

    async def _once(
        self, model: Model, request: ModelRequest, check: Callable[[Mapping[str, Any]], Checked[T]], talk: _Talk
    ) -> tuple[tuple[str, ...], Checked[T] | None]:
        """Ask once: why the reply was unfit, or what it says."""
        try:
            reply = await model.ask(request)
        except ModelReplyInvalid as error:
            talk.raw, talk.spend = error.raw, talk.spend + error.spend
            talk.repairs = MAX_REPAIRS
            return (str(error)[:300],), None
        self._note(reply, talk)
        if not isinstance(reply.value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            return ("the reply is not an object",), None
        try:
            return (), check(reply.value)
        except Unfit as unfit:
            return unfit.faults, None

    @staticmethod
    def _note(reply: ModelReply, talk: _Talk) -> None:
        talk.raw = reply.text
        talk.spend = talk.spend + reply.spend
        talk.repairs = min(MAX_REPAIRS, talk.repairs + max(0, reply.repairs))


def _forget(entry: GuardEntry) -> None:
    """The log of a guard that was given none."""
