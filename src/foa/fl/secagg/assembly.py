"""The server's part in one round of secure aggregation: it passes on what it cannot read, and takes the masks off the sum.

introduce ─► pass_on ─► add ─► total        whoever is missing in a step has dropped out; the threshold says how many may
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foa.errors import BadMessage
from foa.fl.secagg.masks import Levels, agree, mask, public
from foa.fl.secagg.member import LEAST, Keys
from foa.fl.secagg.shares import join

NEIGHBOURS = 64  #: that a member shares secrets with, half on each side of it in a ring; fewer members: all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What one member hands in after it saw its neighbours' keys."""

    sealed: Mapping[int, bytes]  #: by neighbour
    seed_sha256: bytes  #: of the seed of its own mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """What one member reveals at the end."""

    seeds: Mapping[int, bytes]  #: shares of seeds, by the number of the member who is there
    privates: Mapping[int, bytes]  #: shares of mask keys, by the number of the member who is gone


def threshold(holders: int) -> int:
    """Shares that give a secret back: two thirds, so that a third may drop out, and half of them never suffice."""
    return -(-2 * holders // 3)


class Assembly:
    """One round."""

    def __init__(self, keys: Mapping[int, Keys], about: str, *, neighbours: int = NEIGHBOURS) -> None:
        """Begin.

        Args:
            keys: of the members, by number, in the order in which they are neighbours; shuffle it.
            about: names run and round; the members' is the same.
            neighbours: most that one member has; even.

        Raises:
            BadMessage: fewer than three members.
        """
        _enough(len(keys), LEAST)
        self._keys, self._about, ring = keys, about, list(keys)
        span = range(-(neighbours // 2), neighbours // 2 + 1)
        near = {node: {ring[(place + step) % len(ring)] for step in span} for place, node in enumerate(ring)}
        self._near: Mapping[int, set[int]] = {node: set(ring) for node in ring} if neighbours + 1 >= len(ring) else near
        self.threshold = threshold(min(neighbours + 1, len(ring)))
        self._shared: Mapping[int, Shared] = {}
        self._there: list[int] = []
        self._sum = np.zeros(0, np.uint32)

    def introduce(self) -> dict[int, dict[int, Keys]]:
        """Each member's neighbours' keys, and its own."""
        return {node: {other: self._keys[other] for other in self._among(node, self._keys)} for node in self._keys}

    def pass_on(self, shared: Mapping[int, Shared]) -> dict[int, dict[int, bytes]]:
        """The sealed shares that are meant for each member, by sender.

        Who left a neighbour out has dropped out: the mask between the two would stay in the sum.

        Raises:
            BadMessage: too few members are left.
        """
        self._shared = {
            node: entry
            for node, entry in shared.items()
            if node in self._keys and self._near[node] - {node} <= entry.sealed.keys()
        }
        _enough(len(self._shared), max(LEAST, self.threshold))
        return {
            node: {
                other: self._shared[other].sealed[node]
                for other in self._among(node, self._shared)
                if other != node and node in self._shared[other].sealed
            }
            for node in self._shared
        }

    def add(self, masked: Mapping[int, Levels]) -> dict[int, tuple[list[int], list[int]]]:
        """Add the masked vectors up; gives for each member which of its neighbours are there, and which are gone.

        Raises:
            BadMessage: too few members are left.
        """
        self._there = sorted(node for node in masked if node in self._shared)
        _enough(len(self._there), self.threshold)
        self._sum = np.zeros(len(masked[self._there[0]]), np.uint32)
        for node in self._there:
            self._sum += masked[node]
        return {node: (self._of(node, there=True), self._of(node, there=False)) for node in self._there}

    def total(self, revealed: Mapping[int, Revealed]) -> Levels:
        """The sum without masks.

        Raises:
            BadMessage: a secret cannot be put together: too few shares came, or wrong ones.
        """
        total = self._sum.copy()
        for node in self._there:
            seed = self._secret(node, {holder: entry.seeds for holder, entry in revealed.items()})
            total -= mask(seed, len(total))
        for node in sorted(self._shared.keys() - {*self._there}):
            private = self._secret(node, {holder: entry.privates for holder, entry in revealed.items()})
            for other in self._of(node, there=True):
                pair = mask(agree(private, self._keys[other].masking, f"mask|{self._about}"), len(total))
                # it is in the other's vector: added where the other's number is the lower one
                total = total - pair if other < node else total + pair
        return total

    @property
    def there(self) -> Sequence[int]:
        """Members whose update is in the sum."""
        return self._there

    def _among(self, node: int, those: Mapping[int, object]) -> list[int]:
        return sorted(other for other in self._near[node] if other in those)

    def _of(self, node: int, *, there: bool) -> list[int]:
        return [other for other in self._among(node, self._shared) if (other in self._there) == there]

    def _secret(self, node: int, columns: Mapping[int, Mapping[int, bytes]]) -> bytes:
        places = {holder: place for place, holder in enumerate(self._among(node, self._keys), 1)}
        shares = {
            places[holder]: column[node] for holder, column in sorted(columns.items()) if holder in places and node in column
        }
        for chosen in _windows(list(shares), self.threshold):
            try:
                secret = join({place: shares[place] for place in chosen})
            except BadMessage:
                continue
            if self._fits(node, secret):
                return secret
        raise BadMessage(
            "the masks cannot be taken off: too many members left, or sent wrong shares; this round has no model"
        )

    def _fits(self, node: int, secret: bytes) -> bool:
        if node in self._there:
            return hashlib.sha256(secret).digest() == self._shared[node].seed_sha256
        return public(secret) == self._keys[node].masking


def _windows(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """So many of them, and again with others: one wrong share is left out by some window."""
    if len(places) >= size:
        yield from ([places[(start + step) % len(places)] for step in range(size)] for start in range(len(places)))


def _enough(count: int, least: int) -> None:
    if count < least:
        raise BadMessage(f"secure aggregation needs {least} members in this round and {count} are left: no model")
