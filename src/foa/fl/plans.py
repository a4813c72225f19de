"""What the server decides for one round, the bounds no model can cross, and the rule that decides without a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foa.fl.aggregate import AGGREGATIONS, RULES
from foa.fl.guard import Checked, Unfit
from foa.fl.replies import among, choice, number, sentence, whole
from foa.fl.selectors import SELECTORS

REASON = 80  #: characters of a reason at most


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """The server agent's decision for one round."""

    selector: str  #: a key of `SELECTORS`
    k: int  #: clients to choose
    deadline_seconds: float  #: after which the round closes with what arrived
    aggregation: str  #: one of `RULES`
    noise_floor: float  #: least DP noise multiplier asked of every client; 0: no noise asked
    reason: str  #: one sentence for people
    share: float = 1.0  #: of an update's changes that clients send, in 8 bits; 1: whole updates, not compressed
    avoid: str = ""  #: group of clients that sits this round out; empty: none does


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the owner of a run allows; nothing a model says gets past them."""

    k_min: int = 1
    k_max: int = 1  #: also never more than are alive
    deadline_min_seconds: float = 1.0
    deadline_max_seconds: float = 3600.0
    noise_min: float = 0.0  #: an owner's floor under the noise floor
    noise_max: float = 10.0
    selectors: tuple[str, ...] = tuple(SELECTORS)
    aggregations: tuple[str, ...] = tuple(AGGREGATIONS)
    shares: tuple[float, ...] = (1.0, 0.25, 0.1)  #: choices of `RoundPlan.share`; (1.0,): updates are never compressed
    groups: tuple[str, ...] = ()  #: of clients, in the owner's words; one of them may be told to sit a round out
    change: float = 2.0  #: most that k or the deadline may grow or shrink from one round to the next, a factor
    noise_fall: float = 0.8  #: least share of the last noise floor that must remain

    def __post_init__(self) -> None:
        if not 1 <= self.k_min <= self.k_max:
            raise ValueError(f"bounds need 1 ≤ k_min ≤ k_max, not {self.k_min} and {self.k_max}")
        if not 0 < self.deadline_min_seconds <= self.deadline_max_seconds:
            raise ValueError("bounds need 0 < deadline_min_seconds ≤ deadline_max_seconds")
        unknown = {*self.selectors} - {*SELECTORS} | {*self.aggregations} - {*RULES}
        if unknown or not self.selectors or not self.aggregations:
            raise ValueError(f"bounds name rules that do not exist or none at all: {sorted(unknown)}")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"bounds need shares above 0 and at most 1, not {self.shares}")

    def alive(self, count: int, members: Mapping[str, int] | None = None) -> "Bounds":
        """These bounds when so many clients are there.

        Args:
            count: of them all.
            members: of each group. A group without which fewer than `k_min` are left cannot sit out.
        """
        least, members = min(self.k_min, max(1, count)), members or {}
        free = tuple(group for group in self.groups if members.get(group) and count - members[group] >= least)
        return replace(self, k_min=least, k_max=max(1, min(self.k_max, count)), groups=free)

    @property
    def fixed(self) -> dict[str, Any]:
        """Fields of a plan that these bounds leave no choice of."""
        spans = {
            "selector": self.selectors,
            "k": (self.k_min, self.k_max),
            "deadline_seconds": (self.deadline_min_seconds, self.deadline_max_seconds),
            "aggregation": self.aggregations,
            "noise_floor": (self.noise_min, self.noise_max),
            "share": self.shares,
            "avoid": ("", *self.groups),
        }
        return {name: span[0] for name, span in spans.items() if len({*span}) == 1}

    def schema(self, around: RoundPlan) -> dict[str, Any]:
        """JSON Schema of a proposal: every field but the reason is a choice among a few values near those of a plan.

        Choices rather than ranges, because a small model that is held to a grammar can pick, and can hardly count.
        What is fixed is not asked: every field costs a model tokens and seconds.
        """
        k = sorted({self._k(around.k * factor) for factor in (0.5, 0.75, 1, 1.25, 1.5, 2)})
        deadline = sorted({self._deadline(around.deadline_seconds * factor) for factor in (0.5, 0.75, 1, 1.5, 2)})
        noise = sorted({self._noise(around.noise_floor * factor + more) for factor, more in _NOISE_STEPS})
        properties = {
            "selector": {"type": "string", "enum": list(self.selectors)},
            "k": {"type": "integer", "enum": k},
            "deadline_seconds": {"type": "number", "enum": deadline},
            "aggregation": {"type": "string", "enum": list(self.aggregations)},
            "noise_floor": {"type": "number", "enum": noise},
            "share": {"type": "number", "enum": sorted({*self.shares})},
            "avoid": {"type": "string", "enum": ["", *self.groups]},
            "reason": {"type": "string", "maxLength": REASON},
        }
        properties = {name: rule for name, rule in properties.items() if name not in self.fixed}
        return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}

    def _k(self, wanted: float) -> int:
        return min(max(round(wanted), self.k_min), self.k_max)

    def _deadline(self, wanted: float) -> float:
        return min(max(float(f"{wanted:.3g}"), self.deadline_min_seconds), self.deadline_max_seconds)

    def _noise(self, wanted: float) -> float:
        return min(max(float(f"{wanted:.2g}"), self.noise_min), self.noise_max)


#: Choices of noise around the last floor: (factor, more).
_NOISE_STEPS = ((0.8, 0.0), (1.0, 0.0), (1.25, 0.0), (1.0, 0.5))


def check_plan(value: Mapping[str, Any], bounds: Bounds, previous: RoundPlan | None) -> Checked[RoundPlan]:
    """A proposal as a plan: out of bounds is refused, too sudden a change is brought within the rate limit.

    Raises:
        Unfit: with every fault at once, so that one repair can mend them all.
    """
    value = {**value, **bounds.fixed}
    faults, found = list[str](), dict[str, Any]()
    for key, read in (
        ("selector", lambda: choice(value, "selector", bounds.selectors)),
        ("k", lambda: whole(value, "k", bounds.k_min, bounds.k_max)),
        (
            "deadline_seconds",
            lambda: number(value, "deadline_seconds", bounds.deadline_min_seconds, bounds.deadline_max_seconds),
        ),
        ("aggregation", lambda: choice(value, "aggregation", bounds.aggregations)),
        ("noise_floor", lambda: number(value, "noise_floor", bounds.noise_min, bounds.noise_max)),
        ("share", lambda: among(value, "share", bounds.shares)),
        ("avoid", lambda: choice(value, "avoid", ("", *bounds.groups))),
    ):
        try:
            found[key] = read()
        except Unfit as unfit:
            faults.extend(unfit.faults)
    if faults:
        raise Unfit(*faults)
    return limit_change(RoundPlan(**found, reason=sentence(value, "reason", REASON)), bounds, previous)


def limit_change(plan: RoundPlan, bounds: Bounds, previous: RoundPlan | None) -> Checked[RoundPlan]:
    """The plan with k, deadline and noise floor no further from the last round's than the bounds allow."""
    if previous is None:
        return Checked(value=plan)
    limited = list[str]()

    def hold(what: str, wanted: float, low: float, high: float) -> float:
        held = min(max(wanted, low), high)
        if held != wanted:
            limited.append(f"{what} {wanted:g} was held at {held:g}: too sudden a change")
        return held

    k_low = max(bounds.k_min, min(bounds.k_max, math.ceil(previous.k / bounds.change)))
    k_high = max(k_low, min(bounds.k_max, math.floor(previous.k * bounds.change)))
    deadline = hold(
        "deadline_seconds",
        plan.deadline_seconds,
        max(bounds.deadline_min_seconds, previous.deadline_seconds / bounds.change),
        min(bounds.deadline_max_seconds, previous.deadline_seconds * bounds.change),
    )
    noise = hold(
        "noise_floor", plan.noise_floor, min(bounds.noise_max, previous.noise_floor * bounds.noise_fall), bounds.noise_max
    )
    k = int(hold("k", plan.k, k_low, k_high))
    held = replace(plan, k=k, deadline_seconds=deadline, noise_floor=noise)
    return Checked(value=held, limited=tuple(limited))


def rule_plan(
    bounds: Bounds,
    previous: RoundPlan | None,
    *,
    k: int,
    durations: Sequence[float] = (),
    lasted: Sequence[float] = (),
    suspects: float = 0.0,
) -> RoundPlan:
    """The decision without a model: Oort per turn, a deadline of 1.5 times the slow tenth, a robust rule under suspicion.

    Args:
        bounds: are kept.
        previous: last round's plan; its noise floor stays.
        k: clients the run was planned with.
        durations: known seconds of training, a client each.
        lasted: seconds of recent rounds as the server saw them, with every queue on the way.
        suspects: share of recent updates that looked poisoned, 0 to 1.
    """
    slow = sorted(durations)[int(0.9 * (len(durations) - 1))] if durations else 0.0
    tail = 1.5 * max(slow, *lasted, 0.0) or bounds.deadline_max_seconds
    robust = [name for name in ("fltrust", "multikrum", "trimmed-mean", "median") if name in bounds.aggregations]
    plain = "fedavg" if "fedavg" in bounds.aggregations else bounds.aggregations[0]
    plan = RoundPlan(
        selector="oort-per-turn" if "oort-per-turn" in bounds.selectors else bounds.selectors[0],
        k=min(max(k, bounds.k_min), bounds.k_max),
        deadline_seconds=min(max(tail, bounds.deadline_min_seconds), bounds.deadline_max_seconds),
        aggregation=robust[0] if robust and suspects > 0 else plain,
        noise_floor=max(bounds.noise_min, previous.noise_floor if previous else 0.0),
        share=max(bounds.shares),
        reason="Oort per turn, deadline 1.5 × the slow tenth" + (", updates looked poisoned" if suspects > 0 else ""),
    )
    return limit_change(plan, bounds, previous).value
