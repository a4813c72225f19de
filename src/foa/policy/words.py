"""Text as the safety gate compares it, so that spelling tricks do not get past it.

"Mаke a pipe-bοmb"  ─►  compatibility forms (NFKC), lower case, no marks, no invisible characters,
                        look-alikes of other scripts, digits for letters  ─►  make · pipe · bomb
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby

#: Letters of other scripts, and digits and signs, that are read as Latin letters.
#: Source: the commonest entries of Unicode TS 39, confusables.txt, chosen by hand.
_LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("абвгеёзиіїјкмнорстухѕԁԛԝьһ", "abbreezuiijkmhopctyxsdqwbh", strict=True)),
        **dict(zip("αβγεηικμνοπρτυχωσς", "abyenikuvonptuxwos", strict=True)),
        **dict(zip("0134578ıłøđɑɡ", "oieastbilodag", strict=True)),
        "æ": "ae",
        "œ": "oe",
        "ß": "ss",
    }
)
#: Words that change nothing: "make a bomb" and "make the bomb" ask for the same.
_IDLE = frozenset({"a", "an", "the", "my", "your", "some", "please"})
_WORD = re.compile(r"\w+")
_SIGNS = re.compile(r"[@$](?=\w)")
_APOSTROPHES = re.compile(r"(?<=\w)['’ʼ`](?=\w)")


def words(text: str) -> list[str]:
    """The words of a text in the one form in which the gate compares them."""
    return _busy(_all(text))


def readings(text: str) -> list[list[str]]:
    """The words of a text, and how they read where letters are set apart: "b o m b" and "b.o.m.b" are "bomb".

    The first reading is `words`; the others are there only where three or more single letters follow one another, with an
    article before them read as one of the letters or not.
    """
    raw = _all(text)
    plain = _busy(raw)
    others = (_busy(_joined(raw)), _joined(plain))
    return [plain, *(other for other in others if other != plain)]


def _all(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(letter for letter in plain if unicodedata.category(letter) not in ("Mn", "Me", "Cf"))
    latin = _SIGNS.sub(lambda sign: "a" if sign[0] == "@" else "s", seen.translate(_LOOK_ALIKES))
    return _WORD.findall(_APOSTROPHES.sub("", latin).replace("_", " "))


def _busy(found: Sequence[str]) -> list[str]:
    return [word for word in found if word not in _IDLE]


def _joined(found: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for single, run in groupby(found, key=lambda word: len(word) == 1):
        letters = list(run)
        joined.extend(["".join(letters)] if single and len(letters) >= 3 else letters)
    return joined
