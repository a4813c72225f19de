"""The gate of known unsafe content, in front of everything: a Bloom filter, then an exact look.

The filter answers "certainly not" for nearly every word in a few steps; only what it lets through is looked up among the
phrases themselves, so that nothing is refused by a collision, and it never forgets a phrase. It knows phrases, not
meanings: it is the first gate, and Specs and policy stand behind it.

Source: arXiv:2509.20175 (safety gate); Bloom (1970); double hashing after Kirsch and Mitzenmacher (2006).
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Self

from foa.errors import BadInput
from foa.policy.words import readings, words

FALSE_POSITIVES = 0.001  #: of the filter, for a word that begins no phrase
PHRASES = 100_000  #: most phrases of a list
PHRASE_CHARACTERS = 200
PHRASE_WORDS = 16


class SafetyFilter:
    """Finds phrases of a blocklist in a text.

    Args:
        phrases: what to refuse. Case, accents, punctuation, articles and look-alike letters do not matter.

    Raises:
        BadInput: a phrase has no word or too many, or there are more than `PHRASES`.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases: dict[tuple[str, ...], str] = {}
        for number, phrase in enumerate(phrases, 1):
            if number > PHRASES:
                raise BadInput(f"the blocklist has more than {PHRASES:,} phrases: split it")
            self._phrases.setdefault(_spelled(phrase), phrase)
        starts = {phrase[:end] for phrase in self._phrases for end in range(1, len(phrase) + 1)}
        self._size = max(64, math.ceil(-len(starts) * math.log(FALSE_POSITIVES) / math.log(2) ** 2))
        self._hashes = max(1, round(self._size / max(1, len(starts)) * math.log(2)))
        self._bits = bytearray(self._size // 8 + 1)
        for start in starts:
            for position in self._positions(*_hashed(start)):
                self._bits[position >> 3] |= 1 << (position & 7)

    @classmethod
    def default(cls) -> Self:
        """The filter of the list that is shipped: a few requests that no federation should serve."""
        return cls.parse(resources.files("foa.policy").joinpath("unsafe.txt").read_text("utf-8"), name="unsafe.txt")

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        """Read a blocklist: one phrase a line; empty lines and what follows a `#` are not read.

        Args:
            text: the file's content.
            name: the file's name, for the message.

        Raises:
            BadInput: a line is not usable; the message has its number.
        """
        phrases: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            phrase = line.partition("#")[0].strip()
            if not phrase:
                continue
            try:
                _spelled(phrase)
            except BadInput as error:
                raise BadInput(f"{name}, line {number}: {error}") from error
            phrases.append(phrase)
        return cls(phrases)

    def __len__(self) -> int:
        return len(self._phrases)

    def check(self, text: str) -> str:
        """The first listed phrase that the text contains, as the list spells it; empty if it contains none."""
        return next(filter(None, map(self._first_in, readings(text))), "")

    def _first_in(self, found: Sequence[str]) -> str:
        begins = {word: self._may_begin(*_add(word, 0, 0)) for word in set(found)}
        for start, word in enumerate(found):
            if begins[word] and (phrase := self._phrase_at(found, start)):
                return phrase
        return ""

    def _phrase_at(self, found: Sequence[str], start: int) -> str:
        first = second = 0
        for end in range(start, len(found)):
            first, second = _add(found[end], first, second)
            if not self._may_begin(first, second):
                return ""
            phrase = self._phrases.get(tuple(found[start : end + 1]))
            if phrase is not None:
                return phrase
        return ""

    def _may_begin(self, first: int, second: int) -> bool:
        bits = self._bits
        return all(bits[position >> 3] >> (position & 7) & 1 for position in self._positions(first, second))

    def _positions(self, first: int, second: int) -> Iterator[int]:
        return ((first + turn * (second | 1)) % self._size for turn in range(self._hashes))


def _spelled(phrase: str) -> tuple[str, ...]:
    found = tuple(words(phrase))
    if not 1 <= len(found) <= PHRASE_WORDS or len(phrase) > PHRASE_CHARACTERS:
        raise BadInput(
            f"phrase {phrase[:60]!r} will not do: write 1 to {PHRASE_WORDS} words beside articles, "
            f"in at most {PHRASE_CHARACTERS} characters"
        )
    return found


def _hashed(phrase: Sequence[str]) -> tuple[int, int]:
    first = second = 0
    for word in phrase:
        first, second = _add(word, first, second)
    return first, second


def _add(word: str, first: int, second: int) -> tuple[int, int]:
    """Two hashes that grow word by word, so that the beginnings of a phrase cost nothing extra."""
    raw = word.encode("utf-8", "surrogatepass")
    return zlib.crc32(raw, first ^ 0x9E3779B9), zlib.crc32(raw[::-1] + b" ", second)
