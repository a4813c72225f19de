"""Structured replies, the pure half: is a schema bounded, what JSON is in this text, does it fit.

    schema ──check_bounded──► sent to the server, which constrains decoding where it can
    text ──fitting_object──► object that fits, or a sentence that the model is asked to mend

A model fills an unbounded string or list without end, so every schema here has a maximum everywhere.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic_core import from_json

MAX_TEXT = 200_000  #: characters of a reply that are looked at
MAX_DEPTH = 16  #: nested schemas
_MAX_STARTS = 32  #: places where an object may begin
_FIXED = ("enum", "const")
_BRANCHES = ("anyOf", "oneOf", "allOf")


def check_bounded(schema: Mapping[str, Any]) -> None:
    """Pass a schema whose every string and list has a maximum.

    Raises:
        ValueError: it is not a valid schema of an object, or something in it has no maximum; the message names the place.
    """
    _checked(canonical(schema))


def canonical(value: object) -> str:
    """One text for equal JSON values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=256)
def _checked(text: str) -> None:
    schema = json.loads(text)
    problem = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if problem is not None:
        raise ValueError(f"not a JSON Schema: {problem.message}")
    if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "object":
        raise ValueError('the schema of a reply must have "type": "object"')
    _walk(cast("dict[str, Any]", schema), "reply", cast("dict[str, Any]", schema), 0)


def _walk(schema: Mapping[str, Any] | bool, place: str, root: Mapping[str, Any], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"{place}: nested more than {MAX_DEPTH} deep, or a $ref that contains itself")
    if isinstance(schema, bool):
        if schema:
            _unbounded(place, "accepts anything; give it a type")
        return
    if any(key in schema for key in _FIXED):
        return
    branches = [(key, branch) for key in _BRANCHES for branch in schema.get(key, ())]
    if "$ref" in schema:
        branches.append(("$ref", _resolve(str(schema["$ref"]), place, root)))
    for _, branch in branches:
        _walk({**_own(schema), **branch} if isinstance(branch, dict) else branch, place, root, depth + 1)
    if branches:
        return
    kinds = schema.get("type")
    for kind in [kinds] if isinstance(kinds, str) else kinds or ():
        _CHECKS.get(kind, _pass)(schema, place, root, depth)
    if not kinds:
        _unbounded(place, "has no type")


def _own(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a schema says itself, beside its branches."""
    return {key: value for key, value in schema.items() if key not in (*_BRANCHES, "$ref", "$defs")}


def _resolve(ref: str, place: str, root: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in ref.removeprefix("#/").split("/"):
        found = cast("dict[str, Any]", found).get(part) if isinstance(found, dict) else None
    if not ref.startswith("#/") or not isinstance(found, dict):
        raise ValueError(f"{place}: $ref {ref!r} does not point into this schema")
    return cast("dict[str, Any]", found)


def _string(schema: Mapping[str, Any], place: str, root: Mapping[str, Any], depth: int) -> None:
    if "maxLength" not in schema:
        _unbounded(place, "is a string without maxLength")


def _array(schema: Mapping[str, Any], place: str, root: Mapping[str, Any], depth: int) -> None:
    if "maxItems" not in schema:
        _unbounded(place, "is a list without maxItems")
    for number, item in enumerate(schema.get("prefixItems", ())):
        _walk(item, f"{place}[{number}]", root, depth + 1)
    if "prefixItems" not in schema or "items" in schema:
        _walk(schema.get("items", True), f"{place}[]", root, depth + 1)


def _object(schema: Mapping[str, Any], place: str, root: Mapping[str, Any], depth: int) -> None:
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties", not properties)
    if extra and "maxProperties" not in schema:
        _unbounded(place, "is an object of any keys without maxProperties")
    if extra:
        _walk(extra, f"{place}.*", root, depth + 1)
    for name, inner in properties.items():
        _walk(inner, f"{place}.{name}", root, depth + 1)


def _pass(schema: Mapping[str, Any], place: str, root: Mapping[str, Any], depth: int) -> None:
    """Numbers, booleans and null end by themselves."""


_CHECKS = {"string": _string, "array": _array, "object": _object}


def _unbounded(place: str, why: str) -> NoReturn:
    raise ValueError(
        f"{place} {why}: every string and list in the schema needs a maximum, or the model fills one without end"
    )


def fitting_object(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give the JSON object in a reply, once it fits the schema.

    A reply cut off at its token limit is cut again if asked again, so what stands whole in it is taken when that fits: an
    unfinished last list item is dropped, and only if that does not do, an unfinished last string is kept as far as it goes.

    Raises:
        ValueError: nothing in it fits; the sentence is for the model.
    """
    problem = ""
    for found in _candidates(text):
        why = misfit(found, schema)
        if not why:
            return found
        problem = problem or why
    raise ValueError(problem or "there is no JSON object in the reply")


def _candidates(text: str) -> Iterator[dict[str, Any]]:
    """Objects in a reply, best first: bare, in a code fence, after thoughts, with words around it; then the cut-off one."""
    text = text[:MAX_TEXT].rpartition("</think>")[2].rstrip()
    start = text.find("{")
    for _ in range(_MAX_STARTS):
        if start < 0:
            return
        try:
            found, end = _DECODER.raw_decode(text, start)
            yield cast("dict[str, Any]", found)
        except json.JSONDecodeError as error:
            if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
                yield from _salvaged(text[start:])
                return
            end = start + 1
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)


def _salvaged(text: str) -> Iterator[dict[str, Any]]:
    """What stands in JSON that was cut off, least guessed first."""
    for mode in ("on", "trailing-strings"):
        with contextlib.suppress(ValueError):
            found = from_json(text, allow_partial=mode)
            yield found
            while _drop_last(found):
                yield found


def _drop_last(value: object) -> bool:
    """Drop the last item of the innermost list that the text ended in. False: there is none."""
    last = list(cast("dict[str, object]", value).values())[-1:] if isinstance(value, dict) else value
    if not isinstance(last, list):
        return False
    items = cast("list[object]", last)
    if items and _drop_last(items[-1]):
        return True
    if isinstance(value, list) and items:
        items.pop()
        return True
    return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_constant)


def misfit(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say why a value does not fit its schema, in one sentence; empty when it fits."""
    try:
        problem = best_match(Draft202012Validator(schema).iter_errors(value))
    except RecursionError:
        return "the JSON is nested too deep"
    if problem is None:
        return ""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.absolute_path)
    return f"reply{place}: {problem.message[:300]}"
