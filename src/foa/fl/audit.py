"""Do clients do what they said? Claims and agreements are held against what was seen, and a lie costs more than it brings.

Source: the payoff U_i = v_i·w_i(θ̂_i) − C(θ_i) − Π(audit(θ̂_i)) of arXiv:2604.04895. With a chance p of an audit, a penalty of
gain / p makes the expected gain of a lie zero; `SAFETY` makes it a loss. Everything here is checked in every round: p is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foa.fl.market import Offer
from foa.fl.terms import Told

SAFETY = 1.5
TOLERANCE = 0.25  #: share by which a claim may be off before it is called a lie
MOMENT_SECONDS = 1.0  #: clocks and transfers may differ by this
BOAST = 4.0  #: a loss over so many times the median of the others …
STILL = 0.25  #: … with an update shorter than this share of theirs is a boast
WITNESSES = 3  #: others that are needed for that


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the server has of one client in one round. None: it has nothing."""

    told: Told | None = None  #: what its guardian says it did
    agreed: Offer | None = None  #: what it promised
    samples: int = 0  #: as it claims with its update
    samples_most: int | None = None  #: by its card, rounding allowed for
    loss: float | None = None  #: of the model it was given, as it claims
    seconds: float | None = None  #: from the ask to the end of the round: nobody can have trained longer
    width: float | None = None  #: of the model, by the shapes it sent
    moved: float | None = None  #: length of its update; None: it is hidden, or noise drowns it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that does not hold."""

    text: str
    lie: bool  #: False: it says openly that it did not keep what it promised


def findings(evidence: Evidence, others: Sequence[Evidence] = ()) -> tuple[Finding, ...]:
    """Everything that does not hold of one client.

    Args:
        evidence: of the client.
        others: of those who trained beside it.
    """
    lies = (*_counts(evidence), *_work(evidence), *_boast(evidence, others))
    return (
        *(Finding(text=text, lie=True) for text in lies),
        *(Finding(text=text, lie=False) for text in _broken(evidence)),
    )


def _counts(seen: Evidence) -> list[str]:
    found = list[str]()
    if seen.samples_most is not None and seen.samples > seen.samples_most * (1 + TOLERANCE):
        found.append(f"it claimed {seen.samples:,} records and its card allows {seen.samples_most:,}")
    if seen.told is not None and seen.seconds is not None:
        most = seen.seconds * (1 + TOLERANCE) + MOMENT_SECONDS
        if seen.told.seconds > most:
            found.append(f"it claimed {seen.told.seconds:.1f} s of training in a round of {seen.seconds:.1f} s")
    return found


def _work(seen: Evidence) -> list[str]:
    found = list[str]()
    if seen.moved == 0.0:
        found.append("it sent the model back as it was and said that it had trained")
    if seen.told is not None and seen.width is not None and seen.width < seen.told.width * (1 - TOLERANCE):
        found.append(f"it claimed width {seen.told.width:g} and sent {seen.width:g}")
    return found


def _boast(seen: Evidence, others: Sequence[Evidence]) -> list[str]:
    """A high loss makes a client worth more to the server; where it is true, training moves the model."""
    losses = sorted(other.loss for other in others if other.loss is not None)
    lengths = sorted(other.moved for other in others if other.moved is not None)
    if seen.loss is None or seen.moved is None or min(len(losses), len(lengths)) < WITNESSES:
        return []
    usual, length = losses[len(losses) // 2], lengths[len(lengths) // 2]
    if seen.loss <= BOAST * max(usual, 0.0) or seen.moved >= STILL * length:
        return []
    return [f"it claimed a loss of {seen.loss:.3g}, others {usual:.3g}, and its update hardly moved"]


def _broken(seen: Evidence) -> list[str]:
    """Where it trained on other terms than it agreed to. More work, or less noise, than agreed is no breach."""
    told, agreed = seen.told, seen.agreed
    if told is None or agreed is None:
        return []
    found = [
        f"it agreed to {name} {getattr(agreed, name):g} and trained with {getattr(told, name):g}"
        for name in ("width", "epochs", "steps")
        if getattr(told, name) < getattr(agreed, name) * (1 - TOLERANCE)
    ]
    if told.noise_multiplier > agreed.noise_multiplier * (1 + TOLERANCE):
        found.append(f"it agreed to noise {agreed.noise_multiplier:g} and trained with {told.noise_multiplier:g}")
    return found


def penalty_usd(payment_usd: float, found: Sequence[Finding], *, audit_chance: float = 1.0) -> float:
    """What was found costs: the whole pay for a broken promise, and more for a lie, so that lying loses on average.

    Args:
        payment_usd: what could have been gained at most: the whole payment.
        found: on this client in this round.
        audit_chance: 0 < p ≤ 1, that a lie is looked for.
    """
    if not 0 < audit_chance <= 1:
        raise ValueError(f"an audit chance of {audit_chance} deters nobody: it must be above 0 and at most 1")
    if not found:
        return 0.0
    return SAFETY * payment_usd / audit_chance if any(finding.lie for finding in found) else payment_usd


def settled(payment_usd: float, penalty: float, owed_usd: float) -> tuple[float, float]:
    """(paid now, still owed): a penalty is kept back from this payment, and what is left of it from later ones."""
    due = payment_usd - penalty - owed_usd
    return max(0.0, due), max(0.0, -due)
