"""The local guardian: owns a site's data, privacy budget and hardware, and answers what the server asks of it.

    ask ─► audit ─► Refuse │ Counter │ Accept          (consider: changes nothing)
    accepted terms ─► debit ─► train ─► keep ─► send   (commit: the ledger's write-ahead)

The rules here are the limits. A model may make a guardian stricter, never laxer (`foa.fl.guardian_model`).
"""

import math
from dataclasses import dataclass, replace

from foa.fl.ledger import PrivacyLedger, bucketed
from foa.fl.privacy import NoisyTraining, least_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a client is to train in one round."""

    epochs: int  #: passes over its data; with noise, `steps` counts instead
    steps: int  #: noisy or plain gradient steps at most
    width: float  #: share of the model, 0 < width ≤ 1
    batch: int  #: records a step
    noise_multiplier: float  #: σ; 0: no differential privacy
    clip: float  #: clipping norm of one record's gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAsk:
    """What the server asks of a client."""

    run: str
    round: int
    purpose: str  #: what the model is for; checked against the owner's list
    terms: Terms
    deadline_seconds: float
    cohort: int  #: clients in this round, this one included
    rounds: int = 0  #: planned in all, so that a budget can be shared out among them; 0: not told
    secure_aggregation: bool = False  #: single updates stay hidden from the server
    share: float = 1.0  #: of its changes that it is to send, in 8 bits; 1: its whole update
    usd: float = 0.0  #: pay for the round; 0: none, or not told
    policies: tuple[str, ...] = ()  #: labels of the run; a site has to be cleared for each

    @property
    def key(self) -> str:
        """Name of the round in the ledger."""
        return f"{self.run}/round-{self.round}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the owner of a site allows."""

    purposes: tuple[str, ...] = ("*",)  #: `*`: any
    epochs_max: int = 5
    steps_max: int = 2_000
    width_max: float = 1.0  #: what its memory holds
    noise_min: float = 0.0  #: least noise it trains with; above 0, it never trains without differential privacy
    clip_max: float = 10.0
    share_a_round: float = 0.25  #: most of the remaining privacy allowance spent in one round
    cohort_min: int = 1  #: fewer clients than this would point at its data
    evaluates: bool = True  #: it tells accuracies on its held-out records; no ledger counts those
    secure_aggregation_required: bool = False  #: it trains only where its update is hidden in a sum
    noise_max: float = 8.0  #: noise above which its update would be worthless; it refuses instead
    battery_min: float = 0.3  #: of charge, 0 to 1; unless it is plugged in
    idle_hours: tuple[int, int] = (0, 24)  #: from, to; from > to goes over midnight
    load_max: float = 0.9  #: of its processor, 0 to 1
    policies: tuple[str, ...] = ()  #: labels it is cleared for, as its card says


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the device is right now."""

    records: int  #: training records
    seconds_a_step: float = 0.001  #: at full width
    battery: float | None = None  #: 0 to 1; None: no battery
    plugged: bool = True
    hour: int = 12  #: local, 0 to 23
    load: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """It will train as asked."""

    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """It will train like this instead."""

    terms: Terms
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It will not."""

    reason: str
    #: it would rather have its last update counted again, decayed, than be left out
    degraded: bool = False


Verdict = Accept | Counter | Refuse


class Guardian:
    """The rules of one site."""

    def __init__(self, limits: Limits, ledger: PrivacyLedger | None = None) -> None:
        """Make a guardian.

        Args:
            limits: the owner's.
            ledger: its privacy ledger; None: the site never trains with differential privacy.

        Raises:
            ValueError: the limits ask for noise and there is no ledger to account for it.
        """
        if ledger is None and limits.noise_min > 0:
            raise ValueError("a site that must train with noise needs a privacy ledger")
        self.limits = limits
        self.ledger = ledger

    def consider(self, ask: TrainAsk, condition: Condition) -> Verdict:
        """Answer an ask without changing anything.

        A round that was paid for already gets terms that cost no more than was paid, so that repeating it costs nothing.
        """
        if (fault := self._audit(ask)) is not None:
            return Refuse(reason=fault)
        if (busy := self._busy(condition)) is not None:
            return Refuse(reason=busy, degraded=True)
        terms, reasons = self._fitted(ask, condition)
        noised = self._noised(ask, terms, condition)
        if isinstance(noised, Refuse):
            return noised
        terms, why = noised
        reasons = (*reasons, *why)
        return Counter(terms=terms, reasons=reasons) if reasons else Accept(terms=terms)

    def commit(self, ask: TrainAsk, terms: Terms, condition: Condition, *, at: float) -> None:
        """Pay for a round before training. Returns when the debit is on disk.

        Raises:
            BudgetExceeded: the ledger says no; do not train.
            BadInput: the round was paid for under cheaper terms.
            StoreFailed: the ledger could not write; do not train.
        """
        if self.ledger is not None and terms.noise_multiplier > 0:
            self.ledger.debit(ask.key, mechanism(terms, condition), at=at)

    def epsilon_told(self) -> tuple[float, float] | None:
        """(budget, left) in coarse steps, as it may go into a VCV; None without a ledger."""
        if self.ledger is None:
            return None
        return self.ledger.budget.epsilon, bucketed(self.ledger.budget.epsilon - self.ledger.epsilon_spent)

    def _audit(self, ask: TrainAsk) -> str | None:
        """What is wrong with the request itself."""
        limits, terms = self.limits, ask.terms
        if "*" not in limits.purposes and ask.purpose not in limits.purposes:
            return f"purpose {ask.purpose[:60]!r} is not among those the owner allows"
        if missing := sorted({*ask.policies} - {*limits.policies}):
            return f"the run is under {missing[0]!r} and this site is not cleared for it"
        if limits.secure_aggregation_required and not ask.secure_aggregation:
            return "the server would see this site's update by itself, and its owner wants secure aggregation"
        if ask.cohort < limits.cohort_min:
            return f"a cohort of {ask.cohort} is under the owner's {limits.cohort_min}"
        if terms.epochs < 1 or terms.steps < 1 or terms.batch < 1 or not 0 < terms.width <= 1:
            return "the terms are not usable: epochs, steps and batch from 1, width above 0 and at most 1"
        if not (
            0 <= terms.noise_multiplier < math.inf and 0 < terms.clip < math.inf and 0 < ask.deadline_seconds < math.inf
        ):
            return "the terms are not usable: noise from 0, clip and deadline above 0, all of them finite"
        if not 0 < ask.share <= 1:
            return f"the share of an update must be above 0 and at most 1, not {ask.share:g}"
        if terms.clip > limits.clip_max:
            return f"clip {terms.clip:g} is over the owner's {limits.clip_max:g}: single records would show"
        return None

    def _busy(self, condition: Condition) -> str | None:
        """Why the device cannot train now."""
        begin, end = self.limits.idle_hours
        inside = begin <= condition.hour < end if begin <= end else condition.hour >= begin or condition.hour < end
        if not inside:
            return f"hour {condition.hour} is outside its idle window {begin} to {end}"
        if condition.battery is not None and not condition.plugged and condition.battery < self.limits.battery_min:
            return f"battery at {condition.battery:.0%}, under {self.limits.battery_min:.0%} and not charging"
        if condition.load > self.limits.load_max:
            return f"load {condition.load:.0%} is over {self.limits.load_max:.0%}"
        return None

    def _fitted(self, ask: TrainAsk, condition: Condition) -> tuple[Terms, tuple[str, ...]]:
        """The terms within its hardware and the deadline: width first, then epochs, then steps."""
        terms, reasons = ask.terms, list[str]()
        if terms.width > self.limits.width_max:
            terms = replace(terms, width=self.limits.width_max)
            reasons.append(f"its memory holds width {self.limits.width_max:g}")
        if terms.epochs > self.limits.epochs_max:
            terms = replace(terms, epochs=self.limits.epochs_max)
            reasons.append(f"the owner allows {self.limits.epochs_max} epochs")
        affordable = max(1, int(ask.deadline_seconds / max(condition.seconds_a_step * terms.width, 1e-9)))
        most = min(self.limits.steps_max, affordable)
        if terms.steps > most:
            terms = replace(terms, steps=most)
            reasons.append(f"{most} steps are what its speed and its owner allow before the deadline")
        return terms, tuple(reasons)

    def _noised(self, ask: TrainAsk, terms: Terms, condition: Condition) -> tuple[Terms, tuple[str, ...]] | Refuse:
        """The terms with noise enough for its budget: noise first, then fewer steps, then no."""
        if terms.noise_multiplier == 0 and self.limits.noise_min == 0:
            return terms, ()
        if self.ledger is None:
            return Refuse(reason="the server asks for differential privacy and this site keeps no ledger")
        paid = self.ledger.paid(ask.key)
        share = self.limits.share_a_round
        if ask.rounds >= ask.round:
            # spread over the rounds to come; what the server says of them can only make a round cost less
            share = min(share, 1 / (ask.rounds - ask.round + 1))
        allowance = self.ledger.left * share if paid is None else paid
        reasons = list[str]()
        for steps in (terms.steps, max(1, terms.steps // 2), max(1, terms.steps // 4)):
            needed = least_noise(
                allowance=allowance,
                order=self.ledger.budget.order,
                sample_rate=_rate(terms, condition),
                steps=steps,
                most=self.limits.noise_max,
            )
            if needed is None:
                continue
            noise = max(terms.noise_multiplier, self.limits.noise_min, needed)
            if steps < terms.steps:
                reasons.append(f"{steps} steps instead of {terms.steps} to stay within its privacy budget")
            if noise > terms.noise_multiplier:
                reasons.append(
                    f"noise {noise:.2f} instead of {terms.noise_multiplier:.2f} to stay within its privacy budget"
                )
            return replace(terms, steps=steps, noise_multiplier=noise), tuple(reasons)
        return Refuse(reason="its privacy budget is nearly used up: no useful update can be paid for", degraded=True)


def _rate(terms: Terms, condition: Condition) -> float:
    """What Opacus samples with: one over the whole number of batches (`foa.fl.dpsgd`)."""
    return 1.0 / max(1, math.ceil(max(1, condition.records) / terms.batch))


def mechanism(terms: Terms, condition: Condition) -> NoisyTraining:
    """What training on these terms does with the data, as the ledger counts it."""
    return NoisyTraining(noise_multiplier=terms.noise_multiplier, sample_rate=_rate(terms, condition), steps=terms.steps)
