"""The resource part r of a VCV (eq. 1): named quantities with units, for an agent what it has, for a task what it needs."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

Quantity = Annotated[float, msgspec.Meta(ge=0.0, le=1e18)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an agent charges. All of it is added: per call, per 1,000 prompt tokens, per 1,000 generated tokens."""

    usd_per_call: Quantity = 0.0
    usd_per_1k_tokens_in: Quantity = 0.0
    usd_per_1k_tokens_out: Quantity = 0.0

    def of(self, *, tokens_in: int, tokens_out: int, calls: int) -> float:
        """Charge for this much work, US dollars."""
        return (
            calls * self.usd_per_call
            + tokens_in / 1000 * self.usd_per_1k_tokens_in
            + tokens_out / 1000 * self.usd_per_1k_tokens_out
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What an agent offers. None means "not stated"; a stated limit is a promise.

    Source: arXiv:2509.20175, eq. 1, r; Sec. 4 (A-1 size, throughput, context window, token budget).
    """

    price: Price = Price()
    latency_seconds: Quantity | None = None  #: typical time for one reply
    tokens_per_second: Quantity | None = None
    context_tokens: Quantity | None = None
    token_budget: Quantity | None = None  #: most tokens for one job
    memory_bytes: Quantity | None = None
    vram_bytes: Quantity | None = None
    bandwidth_bytes_per_second: Quantity | None = None
    energy_joules: Quantity | None = None  #: per reply
    tools: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()
    corpora: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a task needs of an agent: floors ("have at least") and ceilings ("have at most")."""

    max_usd_per_call: Quantity | None = None  #: ceiling on the price of one typical call (1,000 in, 250 out)
    max_latency_seconds: Quantity | None = None  #: ceiling
    min_tokens_per_second: Quantity | None = None
    min_context_tokens: Quantity | None = None
    min_memory_bytes: Quantity | None = None
    min_vram_bytes: Quantity | None = None
    min_bandwidth_bytes_per_second: Quantity | None = None
    max_energy_joules: Quantity | None = None  #: ceiling
