"""What scoring needs of every agent, in columns: a search's hits are gathered in one step, and a million agents fit.

A slot is a row; a slot that is given back is used again.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from foa.registry.score import OFFERS, offer_row
from foa.values.ids import AgentId
from foa.values.vcv import Matrix, Vcv, Vector, Vitals

T = TypeVar("T")

_FIRST_ROWS = 256
_MOST_INTERNED = 10_000  # distinct label sets shared between agents; then it starts afresh


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """The rows of some agents, in the order they were asked for."""

    offers: Matrix  #: shape (n, 8), price and latency as they are now
    load: Vector  #: shape (n,), 0 to 1
    specs: Matrix  #: e, shape (n, d)
    online: NDArray[np.bool_]  #: shape (n,)


@dataclass(slots=True, kw_only=True)
class Entry:
    """What is held of one agent beside its row and its card."""

    slot: int
    version: int
    issued_at: float
    key: str
    policies: frozenset[str]
    kinds: tuple[str, ...]


class Roster:
    """Entries and columns of every admitted agent."""

    def __init__(self, dimension: int) -> None:
        self._entries: dict[AgentId, Entry] = {}
        self._free: list[int] = []
        self._kinds: Counter[str] = Counter()
        self._cleared: Counter[str] = Counter()
        self._interned: dict[object, object] = {}
        self._specs = np.zeros((_FIRST_ROWS, dimension), np.float16)
        self._blooms = np.zeros((_FIRST_ROWS, 128), np.uint8)
        self._offers = np.full((_FIRST_ROWS, len(OFFERS)), np.nan, np.float32)
        #: load, price factor, latency (NaN: not measured), 1 while online
        self._vitals = np.zeros((_FIRST_ROWS, 4), np.float32)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, agent: AgentId) -> bool:
        return agent in self._entries

    def __iter__(self) -> Iterator[AgentId]:
        return iter(self._entries)

    def entry(self, agent: AgentId) -> Entry | None:
        """What is held of this agent, or None."""
        return self._entries.get(agent)

    def put(self, vcv: Vcv, spec: Vector) -> None:
        """Admit or replace. `spec` is e, or zeros where it is of another embedder."""
        held = self._entries.get(vcv.agent_id)
        if held is not None:
            self._uncount(held)
        self._kinds.update(set(vcv.kinds))
        self._cleared.update(vcv.p)
        slot = held.slot if held else self._new_slot()
        self._specs[slot] = spec
        self._blooms[slot] = np.frombuffer(vcv.s, np.uint8)
        self._offers[slot] = offer_row(vcv.r)
        if held is None:
            self._vitals[slot] = (0.0, 1.0, np.nan, 1.0)
        self._entries[vcv.agent_id] = Entry(
            slot=slot,
            version=vcv.version,
            issued_at=vcv.issued_at,
            key=vcv.public_key,
            policies=self._intern(vcv.p),
            kinds=self._intern(vcv.kinds),
        )

    def drop(self, agent: AgentId) -> Entry | None:
        """Forget; gives what was held, or None."""
        entry = self._entries.pop(agent, None)
        if entry is not None:
            self._free.append(entry.slot)
            self._uncount(entry)
        return entry

    def set_vitals(self, agent: AgentId, vitals: Vitals) -> None:
        """Keep what an admitted agent says of itself now."""
        latency = np.nan if vitals.latency_seconds is None else vitals.latency_seconds
        self._vitals[self._entries[agent].slot] = (vitals.load, vitals.price_factor, latency, float(vitals.online))

    def facts(self, agents: Sequence[AgentId]) -> Facts:
        """Gather the rows of admitted agents."""
        slots = np.array([self._entries[agent].slot for agent in agents], np.intp)
        offers, vitals = self._offers[slots], self._vitals[slots]
        offers[:, 0] *= vitals[:, 1]
        offers[:, 1] = np.fmax(offers[:, 1], vitals[:, 2])
        return Facts(offers=offers, load=vitals[:, 0], specs=self._specs[slots].astype(np.float32), online=vitals[:, 3] > 0)

    def all_may(self, policies: Collection[str], kind: str) -> bool:
        """Tell whether every agent is cleared for these labels and answers this kind of request (empty: any)."""
        every = len(self._entries)
        return (not kind or self._kinds[kind] == every) and all(self._cleared[policy] == every for policy in policies)

    def _uncount(self, entry: Entry) -> None:
        self._kinds.subtract(set(entry.kinds))
        self._cleared.subtract(entry.policies)

    def bloom(self, agent: AgentId) -> bytes:
        """The Bloom filter of an admitted agent."""
        return self._blooms[self._entries[agent].slot].tobytes()

    def _intern(self, value: T) -> T:
        if len(self._interned) > _MOST_INTERNED:
            self._interned.clear()
        return cast("T", self._interned.setdefault(value, value))

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._entries)
        if slot >= len(self._vitals):
            self._grow(len(self._vitals) + max(_FIRST_ROWS, len(self._vitals) // 4))
        return slot

    def _grow(self, rows: int) -> None:
        for name in ("_specs", "_blooms", "_offers", "_vitals"):
            column = getattr(self, name)
            # realloc, which moves pages instead of copying them where the column is large
            column.resize((rows, column.shape[1]), refcheck=False)
