"""The contract of `foa.ports.Model`, held by every adapter; then what is the endpoint's alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.openai_peer import Answer, Peer, calls, openai_peer, refuses, says

from foa.errors import BadInput, ModelReplyInvalid, ModelUnreachable
from foa.models.endpoint import EndpointModel
from foa.models.recorded import RecordedModel
from foa.models.scripted import ScriptedModel
from foa.ports import Model, ModelRequest

PLAN = {
    "type": "object",
    "properties": {
        "steps": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "maxLength": 20}},
    },
    "required": ["steps"],
    "additionalProperties": False,
}
GOOD = '{"steps": ["look", "answer"]}'
FREE = ModelRequest(instructions="Be brief.", prompt="What is MQTT?")
PLANNED = ModelRequest(instructions="Plan.", prompt="Answer a question.", schema=PLAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A tool that knows one word, fails on another, and is long on a third."""

    name: str = "lookup"
    description: str = "Look a word up."

    @property
    def parameters(self) -> Mapping[str, Any]:
        word = {"type": "string", "maxLength": 20}
        return {"type": "object", "properties": {"word": word}, "required": ["word"], "additionalProperties": False}

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        if arguments["word"] == "unknown":
            raise BadInput("no such word: try another")
        return "x" * 100_000 if arguments["word"] == "long" else f"{arguments['word']} is a protocol"


@pytest.fixture(params=["endpoint", "scripted", "recorded"])
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Model]:
    scripted = ScriptedModel(lambda asked: {"steps": ["look", "answer"]} if asked.schema else "A protocol.")
    async with openai_peer(by=lambda asked: says(GOOD if "response_format" in asked else "A protocol.")) as peer:
        if request.param == "endpoint":
            made: Model = endpoint(peer)
        elif request.param == "recorded":
            recorder = RecordedModel(tmp_path / "exchanges.jsonl", inner=scripted)
            for asked in (FREE, PLANNED):
                await recorder.ask(asked)
            made = RecordedModel(tmp_path / "exchanges.jsonl")
        else:
            made = scripted
        yield made
        await made.aclose()


async def test_free_text_comes_back_as_text(model: Model) -> None:
    reply = await model.ask(FREE)
    assert reply.text == "A protocol."
    assert reply.value is None


async def test_a_schema_gives_a_decoded_object_that_fits(model: Model) -> None:
    reply = await model.ask(PLANNED)
    assert reply.value == {"steps": ["look", "answer"]}
    assert reply.repairs == 0


async def test_what_it_cost_is_told_and_money_is_left_to_the_agent(model: Model) -> None:
    spend = (await model.ask(FREE)).spend
    assert spend.calls == 1
    assert spend.tokens_in > 0
    assert spend.tokens_out > 0
    assert spend.usd == 0


async def test_a_model_has_a_name(model: Model) -> None:
    assert model.name


# ── the endpoint's own ─────────────────────────────────────────────────────────────────────────────────────────────────
def endpoint(peer: Peer, **options: Any) -> EndpointModel:
    model = EndpointModel(peer.base_url, "m", **{"attempts": 1, **options})
    peer.clients.append(model)
    return model


async def test_the_schema_reaches_the_server_untouched() -> None:
    async with openai_peer(says(GOOD)) as peer:
        await endpoint(peer, with_schema={"repeat_penalty": 1.1}).ask(PLANNED)
        asked = peer.asked[0]
        assert asked["response_format"]["json_schema"]["schema"] == PLAN
        assert asked["repeat_penalty"] == 1.1
        assert asked["max_tokens"] == PLANNED.max_tokens
        assert asked["messages"][0] == {"role": "system", "content": "Plan."}


async def test_usage_is_the_servers() -> None:
    async with openai_peer(says("hi")) as peer:
        reply = await endpoint(peer).ask(FREE)
    assert (reply.spend.tokens_in, reply.spend.tokens_out, reply.estimated) == (20, 5, False)


async def test_usage_is_estimated_and_said_to_be_where_the_server_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    async with openai_peer(says("four words it says", usage=None)) as peer:
        with caplog.at_level(logging.WARNING):
            reply = await endpoint(peer).ask(FREE)
    assert reply.estimated
    assert reply.spend.tokens_in >= len("Be brief.What is MQTT?") // 4
    assert reply.spend.tokens_out >= len("four words it says") // 4
    assert "usage_estimated" in caplog.text


async def test_a_misfit_is_asked_for_again_with_the_reason() -> None:
    async with openai_peer(says('{"steps": []}'), says("no JSON at all"), says(GOOD)) as peer:
        reply = await endpoint(peer).ask(PLANNED)
        assert reply.value == {"steps": ["look", "answer"]}
        assert (reply.repairs, reply.spend.calls, reply.spend.tokens_in) == (2, 3, 60)
        assert "steps" in str(peer.asked[1]["messages"][-1])
        assert "no JSON object" in str(peer.asked[2]["messages"][-1])


async def test_the_third_misfit_is_final_and_carries_raw_text_and_spend() -> None:
    async with openai_peer(says('{"steps": "none"}')) as peer:
        with pytest.raises(ModelReplyInvalid, match="steps") as caught:
            await endpoint(peer).ask(replace(PLANNED, calls=9))
        assert len(peer.asked) == 3
    assert caught.value.raw == '{"steps": "none"}'
    assert (caught.value.spend.calls, caught.value.spend.tokens_out) == (3, 15)


async def test_repairs_stay_within_the_calls_of_the_request() -> None:
    async with openai_peer(says("nonsense")) as peer:
        with pytest.raises(ModelReplyInvalid, match="no JSON object"):
            await endpoint(peer).ask(replace(PLANNED, calls=1))
        assert len(peer.asked) == 1


async def test_a_reply_cut_off_at_its_token_limit_keeps_what_is_whole_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with openai_peer(says('{"steps": ["look", "answer", "and th', finish="length")) as peer:
        reply = await endpoint(peer).ask(PLANNED)
    assert reply.value == {"steps": ["look", "answer"]}
    assert "reply_cut: m stopped at 256 tokens" in caplog.text


async def test_an_empty_reply_is_not_an_answer() -> None:
    async with openai_peer(says("")) as peer:
        with pytest.raises(ModelReplyInvalid):
            await endpoint(peer).ask(FREE)


async def test_an_unbounded_schema_is_misuse_and_asks_nobody() -> None:
    loose = {"type": "object", "properties": {"text": {"type": "string"}}}
    async with openai_peer(says(GOOD)) as peer:
        with pytest.raises(ValueError, match=r"reply\.text is a string without maxLength: every string and list"):
            await endpoint(peer).ask(replace(FREE, schema=loose))
        assert not peer.asked


async def test_a_model_that_drives_tools_calls_them_and_then_answers() -> None:
    async with openai_peer(calls(("lookup", {"word": "MQTT"})), says("MQTT is a protocol.")) as peer:
        reply = await endpoint(peer).ask(replace(FREE, tools=[Lookup()]))
        assert peer.asked[1]["messages"][-1]["content"] == "MQTT is a protocol"
    assert (reply.tool_calls, reply.spend.calls, reply.repairs) == (("lookup",), 2, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"word": "unknown"}, "error: no such word: try another"),
        ({"word": 7}, "error: these arguments do not fit: .word: 7 is not of type 'string'"),
        ({}, "error: these arguments do not fit: 'word' is a required property"),
    ],
)
async def test_a_tools_error_goes_back_to_the_model(arguments: dict[str, Any], told: str) -> None:
    async with openai_peer(calls(("lookup", arguments)), says("Sorry.")) as peer:
        reply = await endpoint(peer).ask(replace(FREE, tools=[Lookup()]))
        assert peer.asked[1]["messages"][-1]["content"] == told
    assert reply.text == "Sorry."


async def test_a_tools_long_answer_is_cut() -> None:
    async with openai_peer(calls(("lookup", {"word": "long"})), says("Long.")) as peer:
        await endpoint(peer).ask(replace(FREE, tools=[Lookup()]))
        assert len(peer.asked[1]["messages"][-1]["content"]) < 21_000


async def test_a_tool_nobody_has_is_answered_and_not_fatal() -> None:
    async with openai_peer(calls(("rm", {"path": "/"})), says("Sorry.")) as peer:
        reply = await endpoint(peer).ask(replace(FREE, tools=[Lookup()]))
    assert (reply.text, reply.tool_calls) == ("Sorry.", ())


async def test_tool_rounds_without_end_stop_at_the_calls_of_the_request() -> None:
    async with openai_peer(calls(("lookup", {"word": "MQTT"}))) as peer:
        with pytest.raises(ModelReplyInvalid, match="no answer within 3 calls") as caught:
            await endpoint(peer).ask(replace(FREE, tools=[Lookup()], calls=3))
        assert len(peer.asked) == 3
    assert caught.value.spend.calls == 3


async def test_tools_are_not_offered_to_a_model_that_cannot_drive_them() -> None:
    async with openai_peer(says("hi")) as peer:
        await endpoint(peer, drives_tools=False).ask(replace(FREE, tools=[Lookup()]))
        assert "tools" not in peer.asked[0]


@pytest.mark.parametrize("fault", [refuses(500), refuses(429), Answer(body=b'{"id": "c', cut=True)])
async def test_a_passing_fault_is_tried_again(fault: Answer) -> None:
    soon = replace(fault, headers=("retry-after-ms: 1",))
    async with openai_peer(soon, says("hi")) as peer:
        assert (await endpoint(peer, attempts=2).ask(FREE)).text == "hi"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refuses(401, "bad key"), "refused with 401: bad key.*set FOA_MODEL_KEY"),
        (refuses(404, "no model m"), "refused with 404: no model m.*ollama pull m"),
        (refuses(429, "slow down"), "refused with 429: slow down.*lower `at_once`"),
        (refuses(500, "boom"), "refused with 500: boom"),
        (refuses(503), "refused with 503"),
        (Answer(body=b"<html>", cut=True), "no answer from the model at http://127.0.0.1"),
    ],
)
async def test_a_refusal_says_what_to_do(answer: Answer, sentence: str) -> None:
    async with openai_peer(answer) as peer:
        with pytest.raises(ModelUnreachable, match=sentence):
            await endpoint(peer).ask(FREE)


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{}", b"[]", b'{"choices": []}', b'"\xff"', b'{"choices": [{}]}', b""]
)
async def test_a_body_that_is_not_openais_is_a_model_error_and_nothing_else(body: bytes) -> None:
    async with openai_peer(Answer(body=body)) as peer:
        with pytest.raises((ModelUnreachable, ModelReplyInvalid)):
            await endpoint(peer).ask(FREE)


async def test_a_response_over_the_limit_is_not_read_to_its_end() -> None:
    async with openai_peer(says("x" * 9_000_000)) as peer:
        with pytest.raises(ModelUnreachable):
            await endpoint(peer).ask(FREE)


async def test_nobody_listening_names_the_address_and_the_way_out() -> None:
    async with openai_peer(says("hi")) as peer:
        gone = peer.base_url
    model = EndpointModel(gone, "qwen3:8b", attempts=1)
    with pytest.raises(ModelUnreachable, match=f"{gone}.*ollama serve.*ollama pull qwen3:8b"):
        await model.ask(FREE)


async def test_silence_ends_with_the_requests_time() -> None:
    async with openai_peer(Answer(silent=True)) as peer:
        with pytest.raises(ModelUnreachable, match=r"nothing within 0\.05 s"):
            await endpoint(peer).ask(replace(FREE, seconds=0.05))


async def test_no_more_requests_than_slots_are_under_way() -> None:
    async with openai_peer(says("hi")) as peer, asyncio.TaskGroup() as group:
        peer.held = asyncio.Event()
        model = endpoint(peer, at_once=2)
        for number in range(6):
            group.create_task(model.ask(FREE), name=f"ask[{number}]")
        await peer.wait_for_requests(2)
        peer.held.set()
        await peer.wait_for_requests(6)
    assert peer.most_at_once == 2


async def test_a_cancelled_request_gives_its_slot_back() -> None:
    async with openai_peer(Answer(silent=True), says("hi")) as peer:
        model = endpoint(peer, at_once=1)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(model.ask(FREE), name="ask")
            await peer.wait_for_requests(1)
            task.cancel()
        assert (await model.ask(FREE)).text == "hi"


@pytest.mark.parametrize("address", ["localhost:11434", "ftp://host/v1", "", "http://"])
def test_an_address_that_is_none_is_misuse(address: str) -> None:
    with pytest.raises(ValueError, match="base_url must be an http or https address"):
        EndpointModel(address, "m")
