"""Do clients do what they said? Claims are checked against what was seen, and lying costs more than it brings.

Source: the payoff U_i = v_i·w_i(θ̂_i) − C(θ_i) − Π(audit(θ̂_i)) of arXiv:2604.04895. With a chance p of an audit, a penalty of
gain / p makes the expected gain of a lie zero; `SAFETY` makes it a loss.
"""

from dataclasses import dataclass

SAFETY = 1.5
TOLERANCE = 0.25  #: share by which a claim may be off before it is called a lie


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a client said of itself before a round."""

    samples: int
    seconds: float
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What could be observed of it: None where nothing could."""

    samples_at_most: int | None = None  #: from its VCV, or from how much its update moved with how many steps
    seconds: float | None = None
    epochs: int | None = None


def lies(claim: Claim, seen: Seen) -> tuple[str, ...]:
    """Every claim that what was seen contradicts, as sentences."""
    found = list[str]()
    if seen.samples_at_most is not None and claim.samples > seen.samples_at_most * (1 + TOLERANCE):
        found.append(f"it claimed {claim.samples} records and has at most {seen.samples_at_most}")
    if seen.seconds is not None and seen.seconds > claim.seconds * (1 + TOLERANCE):
        found.append(f"it claimed {claim.seconds:g} s and took {seen.seconds:g} s")
    if seen.epochs is not None and claim.epochs > seen.epochs:
        found.append(f"it claimed {claim.epochs} epochs and did {seen.epochs}")
    return tuple(found)


def penalty_usd(payment_usd: float, *, audit_chance: float) -> float:
    """What a caught lie costs, so that lying loses money on average.

    Args:
        payment_usd: what the lie could have gained at most: the whole payment.
        audit_chance: 0 < p ≤ 1.
    """
    if not 0 < audit_chance <= 1:
        raise ValueError(f"an audit chance of {audit_chance} deters nobody: it must be above 0 and at most 1")
    return SAFETY * payment_usd / audit_chance
