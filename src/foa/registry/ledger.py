"""What version of whom is known, in a form that two orchestrators can compare cheaply.

An agent has a stamp; stamps order, and the higher one holds (last writer wins by version). Agents fall into buckets by hash,
and a bucket's digest is the exclusive or of its agents' hashes: it changes with any stamp, and in no order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from foa.values.ids import AgentId

FINE = 8_192  #: buckets kept; a digest may fold them to fewer, by powers of two


class Stamp(NamedTuple):
    """Which of two statements about an agent is the later one: compared field by field."""

    version: int
    issued_at: float
    gone: bool = False  #: a tombstone stands over the card it buries, and yields to one signed later


class Ledger:
    """Stamps by agent, and their digests."""

    def __init__(self) -> None:
        self._stamps: dict[AgentId, Stamp] = {}
        self._digests = [0] * FINE
        self._members: list[set[AgentId]] = [set() for _ in range(FINE)]

    def __len__(self) -> int:
        return len(self._stamps)

    def stamp(self, agent: AgentId) -> Stamp | None:
        """What is known of an agent, or None."""
        return self._stamps.get(agent)

    def put(self, agent: AgentId, stamp: Stamp | None) -> None:
        """Set or forget an agent's stamp."""
        bucket = bucket_of(agent)
        if (old := self._stamps.pop(agent, None)) is not None:
            self._digests[bucket] ^= _hash(agent, old)
            self._members[bucket].discard(agent)
        if stamp is not None:
            self._stamps[agent] = stamp
            self._digests[bucket] ^= _hash(agent, stamp)
            self._members[bucket].add(agent)

    def buckets(self) -> int:
        """How many buckets a digest of this many agents should have: about 16 agents in each."""
        wanted = 16
        while wanted < FINE and wanted * 16 < len(self._stamps):
            wanted *= 2
        return wanted

    def digest(self, buckets: int) -> list[int]:
        """Give the 32-bit digest of each bucket, folded to this many (a power of two up to `FINE`)."""
        folded = [0] * buckets
        for i, value in enumerate(self._digests):
            folded[i % buckets] ^= value
        return [(value ^ value >> 32) & 0xFFFFFFFF for value in folded]

    def members(self, buckets: int, chosen: Iterable[int]) -> list[AgentId]:
        """Give the agents of some buckets of a folded digest, sorted."""
        return sorted(agent for one in chosen for i in range(one, FINE, buckets) for agent in self._members[i])


def differing(ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """Give the buckets whose digests differ."""
    return [i for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)) if mine != other]


def bucket_of(agent: AgentId) -> int:
    """Give the fine bucket of an agent, 0 to `FINE` − 1."""
    return int.from_bytes(hashlib.blake2b(agent.encode(), digest_size=4).digest(), "little") % FINE


def _hash(agent: AgentId, stamp: Stamp) -> int:
    text = f"{agent}\n{stamp.version}\n{stamp.issued_at!r}\n{int(stamp.gone)}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
