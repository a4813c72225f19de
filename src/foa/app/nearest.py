"""What somebody may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint, ready to stand behind the unknown name; nothing where no known name is like it."""
    by_capitals = {each.upper(): each for each in known}
    close = difflib.get_close_matches(word.upper(), by_capitals, n=1, cutoff=0.6)
    return f"; did you mean {by_capitals[close[0]]}?" if close else ""
