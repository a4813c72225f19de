"""Replaying real exchanges, and models that are functions."""

from dataclasses import replace
from pathlib import Path

import pytest

from foa.errors import BadInput, FabricError, ModelReplyInvalid
from foa.models.recorded import RecordedModel, UnknownPrompt, request_key
from foa.models.scripted import ScriptedModel
from foa.ports import ModelReply, ModelRequest
from foa.values.budget import Spend

ASKED = ModelRequest(instructions="Be brief.", prompt="What is MQTT?")


async def test_a_recorded_reply_comes_back_whole(tmp_path: Path) -> None:
    said = ModelReply(text="{}", value={"a": [1]}, spend=Spend(tokens_in=3, calls=2), repairs=1, tool_calls=("lookup",))
    path = tmp_path / "deep" / "exchanges.jsonl"
    recorder = RecordedModel(path, inner=ScriptedModel(lambda asked: said, name="real"))
    assert recorder.name == "real"
    assert await recorder.ask(ASKED) == said
    assert await RecordedModel(path).ask(ASKED) == said


async def test_a_known_prompt_is_not_asked_again(tmp_path: Path) -> None:
    inner = ScriptedModel(lambda asked: "a protocol")
    for _ in range(2):
        await RecordedModel(tmp_path / "x.jsonl", inner=inner).ask(ASKED)
    assert len(inner.asked) == 1


async def test_an_unknown_prompt_is_loud_and_no_fallback_catches_it(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(UnknownPrompt, match=r"no reply to [0-9a-f]{12} \('What is MQTT\?'\): record it again"):
        await RecordedModel(tmp_path / "x.jsonl").ask(ASKED)
    assert not issubclass(UnknownPrompt, FabricError)


def test_the_key_is_of_what_the_model_sees() -> None:
    key = request_key(ASKED)
    assert key == request_key(replace(ASKED, seconds=1.0, calls=9))
    for other in ({"prompt": "?"}, {"instructions": ""}, {"schema": {}}, {"max_tokens": 1}, {"temperature": 0.0}):
        assert key != request_key(replace(ASKED, **other))


def test_the_order_of_a_schemas_keys_does_not_matter() -> None:
    one, two = {"type": "object", "maxProperties": 1}, {"maxProperties": 1, "type": "object"}
    assert request_key(replace(ASKED, schema=one)) == request_key(replace(ASKED, schema=two))


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"key": 1}', '{"key": "a", "request": {}, "reply": {"text": "", "repairs": 9}}']
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(BadInput, match=r"x\.jsonl:2: not a recorded exchange"):
        RecordedModel(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.jsonl cannot be read"):
        RecordedModel(tmp_path / "none.jsonl")


async def test_a_script_is_held_to_the_schema_too() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    with pytest.raises(ModelReplyInvalid, match="'n' is a required property"):
        await ScriptedModel(lambda asked: {"m": 1}).ask(replace(ASKED, schema=schema))
    reply = await ScriptedModel(lambda asked: {"n": 1}).ask(replace(ASKED, schema=schema))
    assert (reply.text, reply.value) == ('{"n":1}', {"n": 1})


async def test_a_script_remembers_its_last_requests() -> None:
    model = ScriptedModel(lambda asked: "ok", remember=2)
    for number in range(4):
        await model.ask(replace(ASKED, prompt=str(number)))
    assert [asked.prompt for asked in model.asked] == ["2", "3"]
