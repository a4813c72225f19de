"""VCV_a = (c, s, r, p, e, v): who an agent is, in a searchable form (eq. 1). The wire form is in `foa.registry.card`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foa.values.ids import AgentId
from foa.values.resources import Resources

#: One embedding: shape (d,), float32, unit length.
Vector = NDArray[np.float32]
#: Embeddings, one a row: shape (n, d), float32, each row of unit length.
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vcv:
    """Versioned Capability Vector of one agent.

    Source: arXiv:2509.20175, eq. 1.
    """

    agent_id: AgentId
    version: int  #: v; +1 at every change of capability or Spec
    name: str
    description: str
    skills: tuple[str, ...]  #: the discrete skills that s encodes
    examples: tuple[str, ...] = ()  #: requests it is good at, in its author's words
    c: Vector  #: capability embedding, shape (d,)
    s: bytes  #: Bloom filter of the skills, 128 bytes (1,024 bits)
    r: Resources
    p: frozenset[str]  #: policy labels it is cleared for
    e: Vector  #: Spec embedding, shape (d,)
    embedder: str  #: id of the embedder that made c and e; vectors of different embedders are not comparable
    kinds: tuple[str, ...] = ("propose", "draft", "refine")  #: the requests it answers
    issued_at: float = 0.0  #: seconds since the epoch, by its own clock
    public_key: str = ""  #: Ed25519, base64url without padding (RFC 8037 `x`); empty: unsigned
    fl: Mapping[str, object] | None = field(default=None)  #: federated-learning block, left open


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Fast-moving facts, published apart from the VCV: unsigned, never retained, never a new version."""

    online: bool = True
    load: float = 0.0  #: 0 idle, 1 full
    queue: int = 0  #: requests waiting
    slots: int = 4  #: requests it takes at once (cap_j of eq. 3)
    latency_seconds: float | None = None  #: recent median
    price_factor: float = 1.0  #: price now over the advertised price
    battery: float | None = None  #: 0 to 1
