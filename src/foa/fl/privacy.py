"""What a differentially private release costs, as Rényi DP, and what a sum of such costs means as (ε, δ).

Neighbouring data sets differ by one added or removed record. A cost is the Rényi divergence at one integer order; costs
add up, also when each is chosen after seeing the outputs of those before it, as an agent does, as long as the order was
fixed beforehand (Feldman and Zrnic, "Individual privacy accounting via a Rényi filter", NeurIPS 2021, theorem 3.1).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foa.errors import BadInput

#: Orders tried when one is chosen. Integers only: the subsampled Gaussian has a closed form there.
ORDERS = (*range(2, 65), 72, 80, 96, 128, 192, 256, 512)


class Mechanism(Protocol):
    """A randomised release of data."""

    def rdp(self, order: int) -> float:
        """Rényi divergence bound at this order, nats."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyTraining:
    """DP-SGD: Poisson-sampled batches, clipped gradients, Gaussian noise (Abadi et al., CCS 2016)."""

    noise_multiplier: float  #: σ: standard deviation of the noise over the clipping norm, > 0
    sample_rate: float  #: q: chance of each record to be in a batch, 0 < q ≤ 1
    steps: int  #: noisy steps, ≥ 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ValueError(f"noise multiplier {self.noise_multiplier} must be above 0 and finite")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample rate {self.sample_rate} must be above 0 and at most 1")
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} must be at least 1")

    def rdp(self, order: int) -> float:
        """Rényi divergence bound of all steps.

        Source: Mironov, Talwar and Zhang, "Rényi DP of the sampled Gaussian mechanism", 2019, section 3.3.
        """
        return self.steps * _sampled_gaussian(self.noise_multiplier, self.sample_rate, order)


@dataclass(frozen=True, slots=True, kw_only=True)
class PureRelease:
    """A release that is ε-differentially private by itself, such as a Laplace-noised count in a bid."""

    epsilon: float  #: > 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon {self.epsilon} must be above 0 and finite")

    def rdp(self, order: int) -> float:
        """Rényi divergence bound: min(ε, α·ε²/2) (Bun and Steinke, TCC 2016, proposition 3.3)."""
        return min(self.epsilon, order * self.epsilon**2 / 2)


def _sampled_gaussian(sigma: float, rate: float, order: int) -> float:
    """Rényi divergence of one step at an integer order ≥ 2."""
    if rate == 1.0:
        return order / (2 * sigma**2)
    k = np.arange(order + 1)
    binomial = np.array([math.lgamma(order + 1) - math.lgamma(i + 1) - math.lgamma(order - i + 1) for i in k])
    terms = binomial + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * sigma**2)
    top = float(terms.max())
    # the sum is at least 1 in exact arithmetic; rounding must not make a cost negative
    return max(0.0, top + math.log(float(np.exp(terms - top).sum()))) / (order - 1)


def offset(order: int, delta: float) -> float:
    """What the conversion from Rényi DP to (ε, δ) adds: ε = rdp + offset.

    Source: Canonne, Kamath and Steinke, "The discrete Gaussian", 2020, proposition 12.
    """
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyBudget:
    """What may ever be learned about one record of a site, over all runs."""

    epsilon: float  #: ε of the whole, > 0
    delta: float  #: δ of the whole; well under 1 / number of records
    order: int  #: the one Rényi order that is counted; fixed before the first debit

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise BadInput(f"a privacy budget needs an epsilon above 0, not {self.epsilon}")
        if not 0 < self.delta < 1:
            raise BadInput(f"a privacy budget needs a delta between 0 and 1, not {self.delta}")
        if self.order < 2:
            raise BadInput(f"a privacy budget needs a Rényi order of 2 or more, not {self.order}")
        if self.allowance <= 0:
            raise BadInput(
                f"at order {self.order} and delta {self.delta:g} even no release counts as epsilon "
                f"{offset(self.order, self.delta):.2f}, over {self.epsilon:g}: take a higher order or a larger epsilon"
            )

    @property
    def allowance(self) -> float:
        """Rényi divergence that may be spent at `order`."""
        return self.epsilon - offset(self.order, self.delta)

    def epsilon_of(self, rdp: float) -> float:
        """ε that this much spending amounts to; nothing spent is 0."""
        return 0.0 if rdp <= 0 else max(0.0, rdp + offset(self.order, self.delta))


def plan_budget(epsilon: float, delta: float, plan: Mechanism) -> PrivacyBudget:
    """The budget whose order leaves the most room for a plan like this one.

    The plan is only a forecast made before any data is touched; it commits to nothing.

    Raises:
        BadInput: no order leaves any allowance.
    """
    fitting = [order for order in ORDERS if epsilon > offset(order, delta)]
    if not fitting:
        raise BadInput(f"epsilon {epsilon:g} with delta {delta:g} is too small to spend anything: raise one of them")
    best = max(fitting, key=lambda order: (epsilon - offset(order, delta)) / max(plan.rdp(order), 1e-12))
    return PrivacyBudget(epsilon=epsilon, delta=delta, order=best)


def epsilon_of(mechanism: Mechanism, delta: float) -> float:
    """ε of one mechanism by itself, at the best order. Never use it to add up releases: that is the ledger's work."""
    return max(0.0, min(mechanism.rdp(order) + offset(order, delta) for order in ORDERS))


def least_noise(*, allowance: float, order: int, sample_rate: float, steps: int, most: float = 100.0) -> float | None:
    """Smallest noise multiplier (to 1 ‰, never below it) whose cost fits the allowance; None if even `most` does not."""

    def fits(sigma: float) -> bool:
        return NoisyTraining(noise_multiplier=sigma, sample_rate=sample_rate, steps=steps).rdp(order) <= allowance

    low, high = 0.05, most
    if not fits(high):
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
