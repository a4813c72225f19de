"""A client's part in one round of secure aggregation. It trusts the server with the sum, and with nothing else.

keys ─► share ─► hide ─► reveal        each once, in this order; a new round is a new `Member`
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foa.errors import BadMessage
from foa.fl.secagg.masks import KEY_BYTES, Levels, agree, mask, public, seal, unseal
from foa.fl.secagg.shares import SHARE_BYTES, split

LEAST = 3  #: members; of two, each would know the other's update


@dataclass(frozen=True, slots=True)
class Keys:
    """What a member tells the others through the server."""

    sealing: bytes  #: public key for sealed shares
    masking: bytes  #: public key for masks


class Member:
    """One client in one round."""

    def __init__(self, *, node: int, about: str, survivors_min: int = 2) -> None:
        """Begin.

        Args:
            node: the client's number.
            about: names run and round; goes into every key, so that nothing can be used in another round.
            survivors_min: it reveals nothing where fewer members than this sent their masked update; from 2.
        """
        self._node, self._about = node, about
        self._threshold = self._least = max(2, survivors_min)
        self._sealing, self._masking = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        self._seed = secrets.token_bytes(KEY_BYTES)
        self._others: Mapping[int, Keys] = {}
        self._held: dict[int, tuple[bytes, bytes]] = {}
        self._stage = "keys"

    def _enter(self, stage: str, following: str) -> None:
        if self._stage != stage:
            raise BadMessage(
                f"secure aggregation is at {self._stage!r}, and the server asks for {stage!r}: begin a new round"
            )
        self._stage = following

    def keys(self) -> Keys:
        """Its public keys of this round."""
        self._enter("keys", "share")
        return Keys(public(self._sealing), public(self._masking))

    @property
    def seed_sha256(self) -> bytes:
        """By which the server can tell that the seed of its own mask was put together right."""
        return hashlib.sha256(self._seed).digest()

    def share(self, keys: Mapping[int, Keys], threshold: int) -> dict[int, bytes]:
        """Sealed shares of its two secrets, one for each neighbour.

        Args:
            keys: of its neighbours and itself, by number.
            threshold: shares that give a secret back.

        Raises:
            BadMessage: too few, a key twice, its own changed, or a threshold under two thirds of them.
        """
        self._enter("share", "hide")
        own = Keys(public(self._sealing), public(self._masking))
        if keys.get(self._node) != own or len(
            {part for entry in keys.values() for part in (entry.sealing, entry.masking)}
        ) != (2 * len(keys)):
            raise BadMessage(
                "the keys of this round are not those of different members, this one among them: taking no part"
            )
        if len(keys) < LEAST or not 2 * len(keys) <= 3 * threshold <= 3 * len(keys):
            # if half sufficed, one half could be told that a member is there and the other that it left: both secrets;
            # at two thirds a server that lies so needs the help of a third of them
            raise BadMessage(f"{len(keys)} members with a threshold of {threshold} would not hide an update")
        self._threshold = threshold
        places = {node: place for place, node in enumerate(sorted(keys), 1)}
        seeds = split(self._seed, places.values(), threshold)
        privates = split(self._masking, places.values(), threshold)
        self._others = {node: entry for node, entry in keys.items() if node != self._node}
        self._held = {self._node: (seeds[places[self._node]], privates[places[self._node]])}
        return {
            node: seal(self._with(node), seeds[places[node]] + privates[places[node]], f"{self._about}|{self._node}|{node}")
            for node in self._others
        }

    def _with(self, node: int) -> bytes:
        return agree(self._sealing, self._others[node].sealing, f"shares|{self._about}")

    def hide(self, sealed: Mapping[int, bytes], levels: Levels) -> Levels:
        """Its vector under masks: one of its own, and one with every neighbour that shared its secrets.

        Args:
            sealed: what its neighbours sent it, by number.
            levels: of its update.

        Raises:
            BadMessage: a share is from a stranger, was changed, or too few came.
        """
        self._enter("hide", "reveal")
        if len(sealed) + 1 < max(self._threshold, self._least) or not sealed.keys() <= self._others.keys():
            raise BadMessage(f"{len(sealed) + 1} members would not hide an update: taking no part in this round")
        for node, content in sealed.items():
            opened = unseal(self._with(node), content, f"{self._about}|{node}|{self._node}")
            if len(opened) != 2 * SHARE_BYTES:
                raise BadMessage("a sealed share has not the length of two: taking no part in this round")
            self._held[node] = opened[:SHARE_BYTES], opened[SHARE_BYTES:]
        total = levels + mask(self._seed, len(levels))
        for node in sealed:
            pair = mask(agree(self._masking, self._others[node].masking, f"mask|{self._about}"), len(levels))
            total = total + pair if self._node < node else total - pair
        return total

    def reveal(self, there: Sequence[int], gone: Sequence[int]) -> tuple[dict[int, bytes], dict[int, bytes]]:
        """Its shares of the seeds of those who are there, and of the mask keys of those who are gone.

        Args:
            there: members whose masked update arrived.
            gone: members whose did not.

        Raises:
            BadMessage: somebody is called both, is a stranger, or too few are there: then the sum would show too much.
        """
        self._enter("reveal", "over")
        named = [*there, *gone]
        if len({*named}) != len(named) or not {*named} <= {*self._held} or self._node not in there:
            raise BadMessage("a member is called there and gone at once, or is a stranger: revealing nothing")
        if len(there) < max(self._threshold, self._least):
            raise BadMessage(f"only {len(there)} updates would be added up: revealing nothing")
        holders = len(self._others) + 1
        if holders - holders * len(gone) // self._threshold < self._least:
            # each may be told of others that are gone, and a threshold of such shares makes one of them gone
            raise BadMessage(f"with {len(gone)} gone the sum could be of fewer than {self._least}: revealing nothing")
        return {node: self._held[node][0] for node in there}, {node: self._held[node][1] for node in gone}
