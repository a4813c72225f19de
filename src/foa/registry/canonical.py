"""Canonical JSON (RFC 8785, JCS): one byte form for one value, so that a signature survives re-serialisation."""

import math
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring  # 3.2.2.2: escapes only what it must
from typing import cast

DEEPEST = 16  #: objects and lists within one another


def canonical(value: object, *, deepest: int = DEEPEST) -> bytes:
    """Give the canonical bytes of a JSON value (what `json.loads` returns).

    Args:
        deepest: how many objects and lists may lie within one another, the value itself the first.

    Raises:
        ValueError: not a JSON value, nested too deep, NaN or infinite, an integer
            beyond any double, a lone surrogate.

    Source: RFC 8785.
    """
    try:
        return _write(value, deepest).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half of a surrogate pair") from error


def _write(value: object, left: int) -> str:
    match value:
        case str():
            return encode_basestring(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return _number(_double(value))
        case float():
            return _number(value)
        case Mapping():
            return _object(cast("Mapping[str, object]", value), _within(left))
        case Sequence() if not isinstance(value, bytes | bytearray):
            inside = _within(left)
            return "[" + ",".join([_write(item, inside) for item in cast("Sequence[object]", value)]) + "]"
        case _:
            raise ValueError(f"{type(value).__name__} is not a JSON value")


def _within(left: int) -> int:
    if left < 1:
        raise ValueError("too many objects and lists lie within one another")
    return left - 1


def _object(members: Mapping[str, object], left: int) -> str:
    # 3.2.3: sorted by UTF-16 code units, which for ASCII is the order of the characters
    keys = sorted(members) if all(map(str.isascii, members)) else sorted(members, key=_utf_16)
    return "{" + ",".join([f"{encode_basestring(key)}:{_write(members[key], left)}" for key in keys]) + "}"


def _utf_16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _double(value: int) -> float:
    # 3.2.2.3: every number is a double, as JavaScript would read it
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("an integer is too large for a double") from error


def _number(value: float) -> str:
    """Write a double as ECMAScript does (ECMA-262, Number::toString)."""
    if not math.isfinite(value):
        raise ValueError("NaN and infinity are not JSON numbers")
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return ("-" if value < 0 else "") + _place(digits, point)


def _place(digits: str, point: int) -> str:
    """Put the decimal point after `point` digits, or use an exponent where ECMAScript does."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"
