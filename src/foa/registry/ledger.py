"""What version of whom is known, in a form that two orchestrators can compare cheaply.

An agent has a stamp; stamps order, and the higher one holds (last writer wins by version). Agents fall into buckets by hash,
and a bucket's digest is the exclusive or of its agents' hashes: it changes with any stamp, and in no order.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from foa.registry.bounded import remember
from foa.values.ids import AgentId

FINE = 8_192  #: buckets kept; a digest may fold them to fewer, by powers of two
RARELY = 64  #: periods after which a difference that brought nothing is looked at again at the latest
_COMPARED = 8 * FINE  # differences that are remembered


class _Signature(msgspec.Struct):
    jws: str = ""


_signatures = msgspec.json.Decoder(_Signature)


class Stamp(NamedTuple):
    """Which of two statements about an agent is the later one: compared field by field."""

    version: int
    issued_at: float
    gone: bool = False  #: a tombstone stands over the card it buries, and yields to one signed later
    mark: int = 0  #: of two cards of one version and moment, which nobody should sign, the same one holds everywhere


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


class Comparisons:
    """Which buckets were compared with whom, and brought nothing: the same difference is asked about less and less often.

    Two registries may differ for good, where one refuses what the other holds. The same two digests of a bucket are looked
    at the 1st, 2nd, 4th, 8th … time they are seen, and at least every `RARELY` times: a message may have been lost.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, int, int], tuple[int, int, int]] = OrderedDict()

    def news(self, sender: str, ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
        """Give the buckets that differ and are to be looked at now.

        Args:
            sender: whose digest it is.
            ours: digests of our buckets.
            theirs: of the same buckets, as many.
        """
        return [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if self._look((sender, len(ours), i), *pair)]

    def put_off(self, sender: str, buckets: int, unseen: Iterable[int]) -> None:
        """These were not looked at after all."""
        for i in unseen:
            self._seen.pop((sender, buckets, i), None)

    def _look(self, bucket: tuple[str, int, int], ours: int, theirs: int) -> bool:
        if ours == theirs:
            self._seen.pop(bucket, None)
            return False
        mine, other, times = self._seen.get(bucket, (ours, theirs, 0))
        times = times + 1 if (mine, other) == (ours, theirs) else 1
        remember(self._seen, bucket, (ours, theirs, times), _COMPARED)
        return times & (times - 1) == 0 or times % RARELY == 0


def bucket_of(agent: AgentId) -> int:
    """Give the fine bucket of an agent, 0 to `FINE` − 1."""
    return int.from_bytes(hashlib.blake2b(agent.encode(), digest_size=4).digest(), "little") % FINE


def mark_of(card: bytes) -> int:
    """Give a number that tells signed cards apart: 32 bits of the hash of the signature; 0 where it has none."""
    try:
        jws = _signatures.decode(card).jws
    except (msgspec.MsgspecError, UnicodeError):
        return 0
    return int.from_bytes(hashlib.blake2b(jws.encode(), digest_size=4).digest(), "little") if jws else 0


def _hash(agent: AgentId, stamp: Stamp) -> int:
    text = f"{agent}\n{stamp.version}\n{stamp.issued_at!r}\n{int(stamp.gone)}\n{stamp.mark}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
