"""Which agents a partition holds, in columns: a million of them take about 100 MB beside their ids.

An agent has a slot; its i-th vector is the point `i · 2³² + slot`, so that a hit names its agent without a look-up.
"""

import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from foa.values.ids import AgentId

SLOTS = 2**32
_MOST_INTERNED = 10_000  # different label sets shared between agents; then it starts afresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is remembered of one agent beside its vectors."""

    agent: AgentId
    slot: int
    vectors: int  #: how many, c counted
    digest: int  #: 63 bits
    labels: tuple[str, ...]  #: of what filters ask for: `p:gdpr`, `k:draft`


class _Saved(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A table on disk. The columns are those of `Table`, as this machine has them in memory."""

    order: str
    agents: list[AgentId]  #: by slot; empty: a free one
    vectors: bytes
    digests: bytes
    homes: bytes
    label_sets: list[tuple[str, ...]]
    labels: bytes  #: which of the label sets


def point_ids(slot: int, vectors: int) -> list[int]:
    """Give the point ids of an agent."""
    return [i * SLOTS + slot for i in range(vectors)]


class Table:
    """Slots by agent, columns by slot."""

    def __init__(self) -> None:
        self._slots: dict[AgentId, int] = {}
        self._agents: list[AgentId] = []  # empty: a free slot
        self._free: list[int] = []
        self._vectors = array("H")
        self._digests = array("q")
        self._homes = array("I")  # number of the layer that has the points
        self._labels: list[tuple[str, ...]] = []
        self._interned: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, agent: AgentId) -> bool:
        return agent in self._slots

    def __iter__(self) -> Iterator[AgentId]:
        return iter(self._slots)

    def new_slot(self) -> int:
        """Take a free slot."""
        if self._free:
            return self._free.pop()
        self._reach(len(self._agents) + 1)
        return len(self._agents) - 1

    def put(self, row: Row, *, home: int) -> None:
        """Keep an agent that is not here, at a slot that was taken.

        Args:
            row: the agent.
            home: number of the layer that has its points.
        """
        self._slots[row.agent] = row.slot
        self._agents[row.slot] = row.agent
        self._vectors[row.slot] = row.vectors
        self._digests[row.slot] = row.digest
        self._homes[row.slot] = home
        if len(self._interned) > _MOST_INTERNED:
            self._interned.clear()
        self._labels[row.slot] = self._interned.setdefault(row.labels, row.labels)
        self._counts.update(row.labels)

    def restore(self, rows: Iterable[Row], *, home: int) -> list[int]:
        """Keep what a layer has, which has the later word; gives the points of other layers that this buries."""
        buried: list[int] = []
        for row in rows:
            self._reach(row.slot + 1)
            for agent in {row.agent, self._agents[row.slot]}:
                if agent in self._slots:
                    buried += self.drop(agent)[1]
            self.put(row, home=home)
        self._free = [slot for slot, agent in enumerate(self._agents) if not agent]
        return buried

    def drop(self, agent: AgentId) -> tuple[int, list[int]]:
        """Forget an agent that is here; gives the number of the layer that has its points, and their ids."""
        slot = self._slots.pop(agent)
        self._agents[slot] = AgentId("")
        self._free.append(slot)
        for label in self._labels[slot]:
            self._counts[label] -= 1
            if not self._counts[label]:
                del self._counts[label]
        return self._homes[slot], point_ids(slot, self._vectors[slot])

    def agent(self, slot: int) -> AgentId:
        """Give the agent at this slot; empty where it is a free one."""
        return self._agents[slot]

    def points_of(self, slots: Iterable[int]) -> list[int]:
        """Give the ids of the points of the agents at these slots."""
        return [one for slot in slots for one in point_ids(slot, self._vectors[slot])]

    def digest(self, agent: AgentId) -> int:
        """Give what `put` was given; −1 where the agent is not here."""
        slot = self._slots.get(agent)
        return -1 if slot is None else self._digests[slot]

    def having(self, slots: Iterable[int], labels: Collection[str]) -> set[int]:
        """Give those of these slots whose agents have all these labels."""
        asked = frozenset(labels)
        held = {slot: self._labels[slot] for slot in slots}
        right = {some for some in set(held.values()) if asked.issubset(some)}
        return {slot for slot, some in held.items() if some in right}

    def labelled(self, label: str) -> int:
        """Tell how many agents have this label."""
        return self._counts[label]

    def move(self, homes: Collection[int], home: int) -> None:
        """The points of these layers are in another one now."""
        column = np.frombuffer(self._homes, np.uint32)
        column[np.isin(column, list(homes))] = home

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def encode(self) -> bytes:
        """Give the table as bytes, for `decode` on this machine."""
        sets = {labels: i for i, labels in enumerate(dict.fromkeys(self._labels))}
        saved = _Saved(
            order=sys.byteorder,
            agents=self._agents,
            vectors=self._vectors.tobytes(),
            digests=self._digests.tobytes(),
            homes=self._homes.tobytes(),
            label_sets=list(sets),
            labels=array("I", [sets[labels] for labels in self._labels]).tobytes(),
        )
        return msgspec.msgpack.encode(saved)

    @classmethod
    def decode(cls, data: bytes) -> "Table | None":
        """Give the table back; None where these are not the bytes of one that this machine wrote."""
        table, labels = cls(), array("I")
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            stored = (saved.vectors, saved.digests, saved.homes, saved.labels)
            for column, packed in zip((*table._columns(), labels), stored, strict=True):
                column.frombytes(packed)
            table._labels = [saved.label_sets[i] for i in labels]
        except (msgspec.MsgspecError, ValueError, IndexError):
            return None
        table._agents = saved.agents
        columns = (*table._columns(), table._agents, table._labels)
        if saved.order != sys.byteorder or len({len(column) for column in columns}) != 1:
            return None
        table._index()
        return table

    def _index(self) -> None:
        self._slots = {agent: slot for slot, agent in enumerate(self._agents) if agent}
        self._free = [slot for slot, agent in enumerate(self._agents) if not agent]
        for labels, count in Counter(self._labels[slot] for slot in self._slots.values()).items():
            self._counts.update(dict.fromkeys(labels, count))

    def _columns(self) -> "tuple[array[int], array[int], array[int]]":
        return self._vectors, self._digests, self._homes

    def _reach(self, slots: int) -> None:
        """Have at least this many slots."""
        more = slots - len(self._agents)
        if more > 0:
            self._agents += [AgentId("")] * more
            self._labels += [()] * more
            for column in self._columns():
                column.extend([0] * more)
