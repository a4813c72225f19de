"""Structured replies, the pure half."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.models.structured import check_bounded, fitting_object, misfit

TEXT = {"type": "string", "maxLength": 9}
PLAN = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {"type": "object", "properties": {"do": TEXT, "why": TEXT}, "required": ["do", "why"]},
        }
    },
    "required": ["steps"],
}


def of(inner: object, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": inner}, **more}


@pytest.mark.parametrize(
    "schema",
    [
        PLAN,
        of({"enum": ["a", "b"]}),
        of({"const": "a"}),
        of({"type": ["string", "null"], "maxLength": 3}),
        of({"anyOf": [TEXT, {"type": "null"}]}),
        of({"$ref": "#/$defs/t"}, **{"$defs": {"t": TEXT}}),
        of({"type": "integer"}),
        of({"type": "array", "prefixItems": [TEXT], "items": False, "maxItems": 1}),
        {"type": "object", "additionalProperties": TEXT, "maxProperties": 3},
    ],
)
def test_a_bounded_schema_passes(schema: dict[str, Any]) -> None:
    check_bounded(schema)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (of({"type": "string"}), r"reply\.x is a string without maxLength"),
        (of({"type": "array", "items": TEXT}), r"reply\.x is a list without maxItems"),
        (of({"type": "array", "maxItems": 2}), r"reply\.x\[\] accepts anything"),
        (of({"type": "array", "maxItems": 2, "items": {"type": "string"}}), r"reply\.x\[\] is a string without"),
        (of({}), r"reply\.x has no type"),
        (of(True), r"reply\.x accepts anything"),
        (of({"type": ["null", "string"]}), r"reply\.x is a string without"),
        (of({"anyOf": [TEXT, {"type": "string"}]}), r"reply\.x is a string without"),
        (of({"$ref": "#/$defs/t"}, **{"$defs": {"t": {"type": "string"}}}), r"reply\.x is a string without"),
        (of({"$ref": "#/$defs/t"}), r"does not point into this schema"),
        (of(TEXT, additionalProperties=TEXT), r"any keys without maxProperties"),
        ({"type": "object"}, r"any keys without maxProperties"),
        ({"type": "array", "maxItems": 1, "items": TEXT}, r'must have "type": "object"'),
        (of({"type": "strin"}), r"not a JSON Schema"),
    ],
)
def test_an_unbounded_or_broken_schema_is_named(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        check_bounded(schema)


def test_a_schema_that_contains_itself_is_refused() -> None:
    node = of({"$ref": "#/$defs/node"})
    with pytest.raises(ValueError, match="contains itself"):
        check_bounded({**node, "$defs": {"node": node}})


GOOD = {"steps": [{"do": "a", "why": "b"}]}


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Sure! Here it is:\n{json.dumps(GOOD)}\nI hope it helps {{really}}.",
        f"<think>maybe {{'a': 1}} or {json.dumps({'steps': []})}</think>{json.dumps(GOOD)}",
        f"{{not it}} {json.dumps(GOOD)}",
        '{"steps": [{"do": "a", "why": "b"}',
        '{"steps": [{"do": "a", "why": "b"}, {"do": "c"',
        '{"steps": [{"do": "a", "why": "b"}, {"do": "c", "why": "cut o',
    ],
)
def test_the_object_is_found_whatever_stands_around_it(reply: str) -> None:
    assert fitting_object(reply, PLAN) == GOOD


def test_a_string_cut_off_is_kept_only_where_nothing_else_fits() -> None:
    assert fitting_object('{"x": "half an ans', of({"type": "string", "maxLength": 99}, required=["x"])) == {
        "x": "half an ans"
    }


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("{'steps': 1}", "no JSON object"),
        ('{"steps": []}', r"reply\.steps: \[\]"),
        ('{"steps": [{"do": "a", "why": "far too long"}]}', r"reply\.steps\[0\]\.why: .* is too long"),
        ('{"steps": NaN}', "no JSON object"),
        ("{" * 10_000, ""),
        ('{"a":' * 10_000, ""),
        ('{"steps": [' + "[" * 50_000, ""),
    ],
)
def test_what_does_not_fit_is_a_sentence(reply: str, why: str) -> None:
    with pytest.raises(ValueError, match=why or "."):
        fitting_object(reply, PLAN)


@given(st.text(max_size=200) | st.text(alphabet='{}[]",: \\abdehopstwy0', max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert not misfit(fitting_object(text, PLAN), PLAN)


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=3), st.data())
def test_whatever_is_cut_off_what_comes_out_fits_and_was_there(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    whole = {"steps": [{"do": do, "why": why} for do, why in steps]}
    text = json.dumps(whole)
    try:
        found = fitting_object(text[: data.draw(st.integers(0, len(text)))], PLAN)
    except ValueError:
        return
    assert not misfit(found, PLAN)
    for kept, step in zip(found["steps"], whole["steps"], strict=False):
        assert step["do"] == kept["do"]
        assert step["why"].startswith(kept["why"]) or "\\" in text
