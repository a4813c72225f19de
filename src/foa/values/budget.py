"""What a task may spend and what was spent. Money is US dollars, time is seconds of wall clock."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e12)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one task, or one request of it, may spend. Checked before work starts; the hard stop holds."""

    usd: Amount  #: money, US dollars
    tokens: Count  #: model tokens read and written, over all agents
    calls: Count  #: model calls, over all agents
    seconds: Amount  #: wall clock, from intake to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What was used. Adds up; never negative."""

    usd: Amount = 0.0  #: money, US dollars, at the agent's advertised price
    tokens_in: Count = 0  #: prompt tokens
    tokens_out: Count = 0  #: generated tokens
    calls: Count = 0  #: model calls
    seconds: Amount = 0.0  #: time spent working, summed over agents (not wall clock)

    @property
    def tokens(self) -> int:
        """Prompt and generated tokens together."""
        return self.tokens_in + self.tokens_out

    def beyond(self, other: "Spend") -> "Spend":
        """What this is more than the other, never below 0."""
        return Spend(
            usd=max(0.0, self.usd - other.usd),
            tokens_in=max(0, self.tokens_in - other.tokens_in),
            tokens_out=max(0, self.tokens_out - other.tokens_out),
            calls=max(0, self.calls - other.calls),
            seconds=max(0.0, self.seconds - other.seconds),
        )

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(
            usd=self.usd + other.usd,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            calls=self.calls + other.calls,
            seconds=self.seconds + other.seconds,
        )
