"""The skill part s of a VCV (eq. 1): a Bloom filter of discrete skills, small enough for every card.

An agent is asked for a skill by asking for its positions: the filter has the skill (or, at 1 %, seems to) when all of
them are set. The index stores the positions, so that a required skill is answered inside the search.
"""

import hashlib
import re
import struct
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

BITS = 1024  #: m
HASHES = 7  #: k = (m/n) ln 2 at n = 100 skills, where a false positive has probability 0.7 %
BYTES = BITS // 8

_SEPARATORS = re.compile(r"(?:[^\w+#]|_)+")


def skill_token(skill: str) -> str:
    """Give the form in which a skill is hashed: NFKC, case folded, anything but letters, digits, `+` and `#` one `-`.

    `"Code Review"`, `code_review` and `code-review` are one skill; `C`, `C++` and `C#` are three.
    """
    return _SEPARATORS.sub("-", unicodedata.normalize("NFKC", skill).casefold()).strip("-")


def positions(skills: Iterable[str]) -> tuple[int, ...]:
    """Give the bits that these skills set: sorted, distinct, each from 0 to `BITS` − 1.

    The first 14 bytes of the SHA-256 of a skill's token, read as 7 little-endian 16-bit numbers, modulo `BITS`.
    """
    return tuple(sorted(set[int]().union(*map(_positions, skills))))


@lru_cache(maxsize=4_096)
def _positions(skill: str) -> tuple[int, ...]:
    digest = hashlib.sha256(skill_token(skill).encode()).digest()
    return tuple(number % BITS for number in struct.unpack_from(f"<{HASHES}H", digest))


def bloom(skills: Iterable[str]) -> bytes:
    """Give the filter of these skills: `BYTES` bytes; bit i is bit i % 8 (least significant first) of byte i // 8."""
    bits = bytearray(BYTES)
    for position in positions(skills):
        bits[position // 8] |= 1 << position % 8
    return bytes(bits)


def set_positions(bits: bytes) -> tuple[int, ...]:
    """Give the positions of the set bits, sorted.

    Raises:
        ValueError: not `BYTES` bytes long.
    """
    if len(bits) != BYTES:
        raise ValueError(f"a Bloom filter has {BYTES} bytes, not {len(bits)}")
    return tuple(np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")).tolist())


def has_skills(bits: bytes, skills: Iterable[str]) -> bool:
    """Tell whether the filter may hold every one of these skills; False is certain."""
    return all(bits[i // 8] >> i % 8 & 1 for i in positions(skills))
