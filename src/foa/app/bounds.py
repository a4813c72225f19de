"""What values a type takes, in words: for complaints and for the reference."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

_WORDS: dict[object, str] = {str: "text", int: "a whole number", float: "a number", Path: "a folder"}


def metas(kind: Any) -> Sequence[msgspec.Meta]:
    """The bounds written on a type."""
    if get_origin(kind) is not Annotated:
        return []
    return [meta for meta in get_args(kind)[1:] if isinstance(meta, msgspec.Meta)]


def describe(kind: Any) -> str:
    """`a number, 0 to 1` · `true or false` · `mqttium or paho`."""
    found = metas(kind)
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) is Literal:
        return " or ".join(str(each) for each in get_args(plain))
    if plain is bool:
        return "true or false"
    return ", ".join([_WORDS.get(plain, "a value"), *_limits(found)])


def _limits(found: Iterable[msgspec.Meta]) -> Iterable[str]:
    for meta in found:
        if meta.ge is not None and meta.le is not None:
            yield f"{meta.ge:,g} to {meta.le:,g}"
        elif meta.gt is not None and meta.le is not None:
            yield f"over {meta.gt:,g}, at most {meta.le:,g}"
        if meta.max_length is not None:
            yield f"at most {meta.max_length:,} characters"
        if meta.pattern is not None:
            yield f"of the form `{meta.pattern}`"
