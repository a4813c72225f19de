"""A secret in shares, of which so many give it back and one fewer says nothing about it.

Source: Shamir, "How to share a secret", CACM 1979, over the smallest prime field above 256 bits.
"""

import secrets
from collections.abc import Iterable, Mapping

from foa.errors import BadMessage

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, places: Iterable[int], threshold: int) -> dict[int, bytes]:
    """A share for each place.

    Args:
        secret: 32 bytes.
        places: whole numbers from 1, each once; who gets which share.
        threshold: shares that give it back, at least 2.
    """
    found = list(places)
    if len(secret) != SECRET_BYTES or not 2 <= threshold <= len(found) or len({*found}) != len(found) or min(found) < 1:
        raise ValueError("split needs 32 bytes, places from 1 that differ, and a threshold from 2 up to their number")
    line = [int.from_bytes(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {place: _at(line, place).to_bytes(SHARE_BYTES) for place in found}


def _at(line: list[int], place: int) -> int:
    value = 0
    for coefficient in reversed(line):
        value = (value * place + coefficient) % PRIME
    return value


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret, out of as many shares as its threshold; with wrong ones something else comes out, or a refusal.

    Raises:
        BadMessage: a share is no share, or together they give no secret.
    """
    if not shares or any(len(share) != SHARE_BYTES or place < 1 for place, share in shares.items()):
        raise BadMessage("a share of a secret has not the length of one: the round cannot be unmasked with it")
    total = 0
    for place, share in shares.items():
        over, under = 1, 1
        for other in shares:
            if other != place:
                over, under = over * other % PRIME, under * (other - place) % PRIME
        total = (total + int.from_bytes(share) * over * pow(under, -1, PRIME)) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise BadMessage("the shares do not belong to one secret: the round cannot be unmasked with them")
    return total.to_bytes(SECRET_BYTES)
