"""The `fl` block of a VCV: what an agent says of itself as a training client.

Whatever could tell about single records is coarse on purpose: sample counts and ε go out in buckets.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from foa.values.ids import AgentId, WireId
from foa.values.resources import Name
from foa.values.task import Label

_Share = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
_Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlBlock:
    """A training client in its own words; bounded, and believed only as far as it is audited."""

    agent: WireId
    project: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: whose app it runs; only that project's servers ask it
    tasks: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()  #: purposes it trains for; empty: any
    samples: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 1  #: records, rounded by `bucketed_samples`
    width: _Share = 1.0  #: widest share of a model it can train
    seconds_a_round: _Amount = 1.0  #: its estimate
    joules_a_round: _Amount = 0.0
    bytes_a_second: _Amount | None = None  #: of its line to the server; None: it does not say
    epsilon: _Amount | None = None  #: privacy budget; None: it does not train with differential privacy
    epsilon_left: _Amount | None = None  #: of it, in steps of ½
    usd_a_round: _Amount = 0.0  #: reserve price
    group: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: e.g. its region, in the words of the run's owner
    hour: Annotated[int, msgspec.Meta(ge=0, le=23)] = 12  #: of its day
    policies: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()  #: p of its card: labels it is cleared for

    @property
    def id(self) -> AgentId:
        """Its agent id."""
        return AgentId(self.agent)


def bucketed_samples(count: int) -> int:
    """A record count as it may be told: rounded to the nearest power of √2."""
    return max(1, round(2 ** (round(2 * math.log2(max(1, count))) / 2)))


def node_id(agent: AgentId) -> int:
    """The number that Flower calls this agent by: stable, positive, under 2⁶³."""
    return int.from_bytes(hashlib.sha256(agent.encode()).digest()[:8]) >> 2 or 1


def fl_of(block: FlBlock) -> dict[str, object]:
    """The block as it stands in a VCV; what is as by default is left out, and so is what the card says elsewhere."""
    plain, default = (msgspec.to_builtins(one) for one in (block, FlBlock(agent=block.agent)))
    return {key: value for key, value in plain.items() if value != default[key] and key != "policies"}


def block_of(agent: AgentId, fl: Mapping[str, object] | None) -> FlBlock | None:
    """The block inside a VCV; None where the agent is no training client or its block is not usable."""
    if fl is None:
        return None
    try:
        return msgspec.convert({**fl, "agent": agent}, type=FlBlock)
    except msgspec.ValidationError:
        return None
