"""Reading single fields of an object that a language model wrote. Whatever does not fit raises `Unfit` with a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from foa.fl.guard import Unfit


def choice(value: Mapping[str, Any], key: str, among: Sequence[str]) -> str:
    """One of these words."""
    found = value.get(key)
    if not isinstance(found, str) or found not in among:
        raise Unfit(f"{key} must be one of {', '.join(among)}, not {_shown(found)}")
    return found


def whole(value: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """A whole number within bounds."""
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not _is_whole(found):
        raise Unfit(f"{key} must be a whole number, not {_shown(found)}")
    if not low <= found <= high:
        raise Unfit(f"{key} must be {low} to {high}, not {_shown(found)}")
    return int(found)


def number(value: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A finite number within bounds."""
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise Unfit(f"{key} must be a number, not {_shown(found)}")
    # compared before it becomes a float: an int of a thousand digits has no float
    if not low <= found <= high:
        raise Unfit(f"{key} must be {low:g} to {high:g}, not {_shown(found)}")
    return float(found)


def among(value: Mapping[str, Any], key: str, numbers: Sequence[float]) -> float:
    """One of these numbers."""
    found = number(value, key, min(numbers), max(numbers))
    if found not in numbers:
        raise Unfit(f"{key} must be one of {', '.join(f'{one:g}' for one in sorted(numbers))}, not {_shown(found)}")
    return found


def sentence(value: Mapping[str, Any], key: str, longest: int = 300) -> str:
    """Text for people, shortened and without control characters; anything else is no text."""
    found = value.get(key)
    if not isinstance(found, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in found[: longest * 2])[:longest].strip()


def _is_whole(found: float) -> bool:
    return isinstance(found, int) or found.is_integer()


def _shown(found: object) -> str:
    if isinstance(found, str):
        return repr(found[:60])
    if isinstance(found, float) or (isinstance(found, int) and abs(found) < 10**18):
        return str(found)
    return f"a value of type {type(found).__name__}"
