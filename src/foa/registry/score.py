"""Eq. 2, vectorised over the hits of one search; every factor is kept, because every decision is explained.

    α = max(0, sim) · 1[p_s ⊆ p_a] · f(r_s, r_a) · g(e_s, e_a) · reputation

As printed, two negative factors would give a positive score, and ‖r_s − r_a‖ would punish a surplus; hence max(0, sim),
g = (1 + cos)/2 and a one-sided gap. Reputation is ours.
"""

from dataclasses import dataclass

import numpy as np

from foa.values.resources import Needs, Resources
from foa.values.vcv import Matrix, Vector

#: The quantities of r that f compares, in the order of an offer row. The first two and the last are "have at most".
OFFERS = (
    "usd_per_call",
    "latency_seconds",
    "energy_joules",
    "tokens_per_second",
    "context_tokens",
    "memory_bytes",
    "vram_bytes",
    "bandwidth_bytes_per_second",
)
_CEILINGS = 3
TYPICAL_TOKENS_IN = 1_000  #: of a typical call, on which prices are compared
TYPICAL_TOKENS_OUT = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRules:
    """What eq. 2 leaves open."""

    beta: float = 1.0  #: how steeply f falls with the gap
    unstated: float = 0.25  #: gap of a quantity that is needed and not stated
    load_weight: float = 0.5  #: gap of a fully loaded agent


def typical_usd(resources: Resources) -> float:
    """Give the advertised price of a typical call, US dollars."""
    return resources.price.of(tokens_in=TYPICAL_TOKENS_IN, tokens_out=TYPICAL_TOKENS_OUT, calls=1)


def offer_row(resources: Resources) -> list[float]:
    """Give one agent's offer in the order of `OFFERS`; NaN where it states nothing."""
    stated = (getattr(resources, name) for name in OFFERS[1:])
    return [typical_usd(resources), *(float("nan") if value is None else float(value) for value in stated)]


def need_row(needs: Needs) -> Vector:
    """Give a task's needs in the order of `OFFERS`; NaN where it needs nothing. Shape (8,), float32."""
    values = (
        needs.max_usd_per_call,
        needs.max_latency_seconds,
        needs.max_energy_joules,
        needs.min_tokens_per_second,
        needs.min_context_tokens,
        needs.min_memory_bytes,
        needs.min_vram_bytes,
        needs.min_bandwidth_bytes_per_second,
    )
    return np.array([np.nan if value is None else value for value in values], np.float32)


def gaps(needs: Vector, offers: Matrix, *, unstated: float) -> Matrix:
    """Give the one-sided gaps, each over its scale (the need itself, or 1 where that is 0).

    Args:
        needs: shape (8,), NaN where nothing is needed.
        offers: shape (n, 8), NaN where nothing is stated.
        unstated: gap of what is needed and not stated.

    Returns:
        Shape (n, 8), float32, not negative; 0 where the need is met, above it or not there.
    """
    found = np.zeros(offers.shape, np.float32)
    for i in np.flatnonzero(~np.isnan(needs)):
        over = (offers[:, i] - needs[i]) / (needs[i] or 1.0)
        missed = np.maximum(over if i < _CEILINGS else -over, 0.0)
        found[:, i] = np.where(np.isnan(missed), unstated, missed)
    return found


def resource_factor(missed: Matrix, load: Vector, rules: ScoreRules) -> Vector:
    """Give f = exp(−β‖gap‖), load being one more gap. Shape (n,), float32, 0 to 1.

    Args:
        missed: what `gaps` gives, shape (n, 8).
        load: 0 idle to 1 full, shape (n,).
    """
    squares = (missed**2).sum(axis=1) + (rules.load_weight * load) ** 2
    return np.exp(-rules.beta * np.sqrt(squares)).astype(np.float32)


def spec_factor(demand: Vector, specs: Matrix) -> Vector:
    """Give g = (1 + cos)/2. Shape (n,), float32, 0 to 1.

    Args:
        demand: e_s, shape (d,), unit length.
        specs: e_a, shape (n, d), unit rows; a row of zeros (a Spec nobody here can read) gives 0.5.
    """
    return np.clip((1 + specs @ demand) / 2, 0, 1).astype(np.float32)
