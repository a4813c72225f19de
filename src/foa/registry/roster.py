"""What scoring needs of every agent, in columns: a search's hits are gathered in one step, and a million agents fit.

A slot is a row; a slot that is given back is used again.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from foa.registry.bloom import BYTES
from foa.registry.rows import Rows
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is held of one agent beside its numbers and its card."""

    version: int
    issued_at: float
    key: str
    policies: frozenset[str]
    kinds: tuple[str, ...]


class Roster:
    """Entries and columns of every admitted agent."""

    def __init__(self, dimension: int, *, rows: Rows | None = None) -> None:
        """Start empty.

        Args:
            dimension: of e.
            rows: where e and s lie, 2d + 128 bytes an agent; None: in memory.
        """
        self._dimension = dimension
        self._rows = rows or Rows()
        self._slots: dict[AgentId, int] = {}
        self._free: list[int] = []
        self._kinds: Counter[str] = Counter()
        self._cleared: Counter[str] = Counter()
        self._interned: dict[object, object] = {}
        self._versions = array("q")
        self._issued = array("d")
        self._shared: list[tuple[str, frozenset[str], tuple[str, ...]]] = []  # key, policies and kinds, by slot
        self._offers = np.full((_FIRST_ROWS, len(OFFERS)), np.nan, np.float32)
        #: load, price factor, latency (NaN: not measured)
        self._vitals = np.zeros((_FIRST_ROWS, 3), np.float32)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, agent: AgentId) -> bool:
        return agent in self._slots

    def __iter__(self) -> Iterator[AgentId]:
        return iter(self._slots)

    def entry(self, agent: AgentId) -> Entry | None:
        """What is held of this agent, or None."""
        slot = self._slots.get(agent)
        return None if slot is None else self._entry(slot)

    def put(self, vcv: Vcv, spec: Vector) -> None:
        """Admit or replace. `spec` is e, or zeros where it is of another embedder."""
        slot = self._slots.get(vcv.agent_id)
        if slot is None:
            slot = self._slots[vcv.agent_id] = self._new_slot()
            self._vitals[slot] = (0.0, 1.0, np.nan)
        else:
            self._uncount(self._entry(slot))
        self._kinds.update(set(vcv.kinds))
        self._cleared.update(vcv.p)
        self._rows.put(slot, vcv.s + spec.astype(np.float16).tobytes())
        self._offers[slot] = offer_row(vcv.r)
        self._versions[slot] = vcv.version
        self._issued[slot] = vcv.issued_at
        self._shared[slot] = self._intern((self._intern(vcv.public_key), self._intern(vcv.p), self._intern(vcv.kinds)))

    def drop(self, agent: AgentId) -> Entry | None:
        """Forget; gives what was held, or None."""
        slot = self._slots.pop(agent, None)
        if slot is None:
            return None
        entry = self._entry(slot)
        self._free.append(slot)
        self._uncount(entry)
        return entry

    def set_vitals(self, agent: AgentId, vitals: Vitals) -> None:
        """Keep what an admitted agent says of itself now."""
        latency = np.nan if vitals.latency_seconds is None else vitals.latency_seconds
        self._vitals[self._slots[agent]] = (vitals.load, vitals.price_factor, latency)

    def facts(self, agents: Sequence[AgentId]) -> Facts:
        """Gather the numbers of admitted agents."""
        slots = np.array([self._slots[agent] for agent in agents], np.intp)
        offers, vitals = self._offers[slots], self._vitals[slots]
        offers[:, 0] *= vitals[:, 1]
        offers[:, 1] = np.fmax(offers[:, 1], vitals[:, 2])
        return Facts(offers=offers, load=vitals[:, 0])

    def specs(self, agents: Sequence[AgentId]) -> Matrix:
        """Gather e of admitted agents. Shape (n, d)."""
        rows = self._rows.get([self._slots[agent] for agent in agents])
        return np.ascontiguousarray(rows[:, BYTES:]).view(np.float16).astype(np.float32).reshape(-1, self._dimension)

    def answers(self, kind: str) -> bool:
        """Tell whether any agent answers this kind of request."""
        return self._kinds[kind] > 0

    def all_may(self, policies: Collection[str], kind: str) -> bool:
        """Tell whether every agent is cleared for these labels and answers this kind of request (empty: any)."""
        every = len(self._slots)
        return (not kind or self._kinds[kind] == every) and all(self._cleared[policy] == every for policy in policies)

    def bloom(self, agent: AgentId) -> bytes:
        """The Bloom filter of an admitted agent."""
        return self._rows.get([self._slots[agent]])[0, :BYTES].tobytes()

    def _entry(self, slot: int) -> Entry:
        key, policies, kinds = self._shared[slot]
        return Entry(version=self._versions[slot], issued_at=self._issued[slot], key=key, policies=policies, kinds=kinds)

    def _uncount(self, entry: Entry) -> None:
        self._kinds.subtract(set(entry.kinds))
        self._cleared.subtract(entry.policies)

    def _intern(self, value: T) -> T:
        if len(self._interned) > _MOST_INTERNED:
            self._interned.clear()
        return cast("T", self._interned.setdefault(value, value))

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._shared)
        self._versions.append(0)
        self._issued.append(0.0)
        self._shared.append(("", frozenset(), ()))
        if slot >= len(self._vitals):
            self._grow(len(self._vitals) + max(_FIRST_ROWS, len(self._vitals) // 4))
        return slot

    def _grow(self, rows: int) -> None:
        for column in (self._offers, self._vitals):
            # realloc, which moves pages instead of copying them where the column is large
            column.resize((rows, column.shape[1]), refcheck=False)
