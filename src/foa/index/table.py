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
from numpy.typing import NDArray

from foa.values.ids import AgentId

SLOTS = 2**32
_MOST_SETS = 10_000  # label sets that nobody has any more, and as many as there are agents: then they are numbered anew
_MOST_ASKED = 64  # sets of asked labels for which it is remembered who has them


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
    labels: bytes  #: by slot, the number of one of the label sets


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
        self._labels = array("I")  # number of the set of labels
        self._sets: list[tuple[str, ...]] = [()]
        self._numbers: dict[tuple[str, ...], int] = {(): 0}
        self._having: dict[frozenset[str], array[int]] = {}  # by asked labels, by number of a set: 1 where it has them all
        self._counts: Counter[str] = Counter()
        self._at: Counter[int] = Counter()  # agents by home

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
        self._labels[row.slot] = self._number(row.labels)
        self._counts.update(row.labels)
        self._at[home] += 1

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
        for label in self._sets[self._labels[slot]]:
            self._counts[label] -= 1
            if not self._counts[label]:
                del self._counts[label]
        home, self._homes[slot] = self._homes[slot], 0
        self._at[home] -= 1
        return home, point_ids(slot, self._vectors[slot])

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

    def having(self, slots: NDArray[np.uint32], labels: Collection[str], *, home: int) -> NDArray[np.bool_]:
        """Tell which of these slots have agents with all these labels whose points are in this layer; shapes (n,)."""
        homes, asked = np.asarray(self._homes), frozenset(labels)
        if not asked:
            return homes.take(slots) == home
        right = self._having_all(asked).take(np.asarray(self._labels).take(slots))
        at = np.flatnonzero(right)
        right[at] = homes.take(slots.take(at)) == home
        return right

    def at(self, home: int) -> int:
        """Tell how many agents have their points in this layer."""
        return self._at[home]

    def labelled(self, label: str) -> int:
        """Tell how many agents have this label."""
        return self._counts[label]

    def move(self, homes: Collection[int], home: int) -> None:
        """The points of these layers are in another one now."""
        column = np.asarray(self._homes)
        column[np.isin(column, list(homes))] = home
        self._at[home] += sum(self._at.pop(one, 0) for one in homes)

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def encode(self) -> bytes:
        """Give the table as bytes, for `decode` on this machine."""
        saved = _Saved(
            order=sys.byteorder,
            agents=self._agents,
            vectors=self._vectors.tobytes(),
            digests=self._digests.tobytes(),
            homes=self._homes.tobytes(),
            label_sets=self._sets,
            labels=self._labels.tobytes(),
        )
        return msgspec.msgpack.encode(saved)

    @classmethod
    def decode(cls, data: bytes) -> "Table | None":
        """Give the table back; None where these are not the bytes of one that this machine wrote."""
        table = cls()
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            stored = (saved.vectors, saved.digests, saved.homes, saved.labels)
            for column, packed in zip(table._columns(), stored, strict=True):
                column.frombytes(packed)
        except (msgspec.MsgspecError, ValueError):
            return None
        table._agents, table._sets = saved.agents, saved.label_sets
        whole = len({len(column) for column in (*table._columns(), table._agents)}) == 1
        if saved.order != sys.byteorder or not whole or max(table._labels, default=-1) >= len(table._sets):
            return None
        table._index()
        return table

    def _index(self) -> None:
        self._slots = {agent: slot for slot, agent in enumerate(self._agents) if agent}
        self._free = [slot for slot, agent in enumerate(self._agents) if not agent]
        self._numbers = {labels: i for i, labels in enumerate(self._sets)}
        for number, count in Counter(self._labels[slot] for slot in self._slots.values()).items():
            self._counts.update(dict.fromkeys(self._sets[number], count))
        self._at = Counter(self._homes[slot] for slot in self._slots.values())

    def _number(self, labels: tuple[str, ...]) -> int:
        """The number of a set of labels."""
        if labels not in self._numbers:
            if len(self._sets) > _MOST_SETS + 2 * len(self):
                self._renumber()
            self._numbers[labels] = len(self._sets)
            self._sets.append(labels)
        return self._numbers[labels]

    def _renumber(self) -> None:
        """Let go of the sets of labels that nobody has."""
        used = np.unique(np.asarray(self._labels)[list(self._slots.values())])
        now = np.zeros(len(self._sets), np.uint32)
        now[used] = np.arange(1, len(used) + 1)
        self._labels = array("I", now[np.asarray(self._labels)].tobytes())
        self._sets = [(), *(self._sets[number] for number in used.tolist())]
        self._numbers = {labels: i for i, labels in enumerate(self._sets)}
        self._having.clear()

    def _having_all(self, asked: frozenset[str]) -> NDArray[np.bool_]:
        """Which sets have all these labels, by their numbers; what was told is remembered, and goes on with newer sets."""
        if asked not in self._having and len(self._having) >= _MOST_ASKED:
            del self._having[next(iter(self._having))]
        told = self._having.setdefault(asked, array("B"))
        told.extend(asked.issubset(labels) for labels in self._sets[len(told) :])
        return np.asarray(told).astype(np.bool_)

    def _columns(self) -> "tuple[array[int], array[int], array[int], array[int]]":
        return self._vectors, self._digests, self._homes, self._labels

    def _reach(self, slots: int) -> None:
        """Have at least this many slots."""
        more = slots - len(self._agents)
        if more > 0:
            self._agents += [AgentId("")] * more
            for column in self._columns():
                column.extend([0] * more)
