"""The embedded model itself: real weights, real llama.cpp."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from foa.errors import ModelUnreachable
from foa.models.embedded import EmbeddedModel
from foa.models.endpoint import EndpointModel
from foa.models.llama_server import EmbeddedServer, LlamaOptions
from foa.models.weights import FetchFailed, Progress, Weights
from foa.ports import ModelRequest

SMALL = LlamaOptions(parallel=1, context_tokens=256)
PLAN = {
    "type": "object",
    "properties": {
        "subtasks": {
            "type": "array",
            "minItems": 2,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {"title": {"type": "string", "maxLength": 40}, "text": {"type": "string", "maxLength": 80}},
                "required": ["title", "text"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["subtasks"],
    "additionalProperties": False,
}
SHORT = ModelRequest(instructions="Answer in one sentence.", prompt="What is MQTT?", max_tokens=24)


@pytest.fixture
async def model(llama: EmbeddedServer) -> AsyncIterator[EndpointModel]:
    made = EndpointModel(
        llama.base_url, llama.alias, llama.api_key, drives_tools=False, proxied=False, with_schema={"repeat_penalty": 1.1}
    )
    async with made:
        yield made


async def test_it_answers_and_counts_its_tokens(model: EndpointModel) -> None:
    reply = await model.ask(SHORT)
    assert reply.text.strip()
    assert 0 < reply.spend.tokens_out <= 24
    assert reply.spend.tokens_in > 5
    assert not reply.estimated


async def test_a_plan_of_two_to_four_subtasks_comes_out_whatever_it_thinks(model: EndpointModel) -> None:
    request = ModelRequest(instructions="Split the task into subtasks, as JSON.", prompt="Find and fix a bug.", schema=PLAN)
    reply = await model.ask(request)
    assert reply.value is not None
    assert 2 <= len(reply.value["subtasks"]) <= 4


async def test_a_prompt_over_the_context_says_so(model: EndpointModel) -> None:
    with pytest.raises(ModelUnreachable, match="too long for smollm2-135m-instruct"):
        await model.ask(ModelRequest(instructions="", prompt="word " * 3000, max_tokens=8))


async def test_questions_at_the_same_time_are_all_answered(model: EndpointModel) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(model.ask(replace(SHORT, max_tokens=8)), name=f"ask[{number}]") for number in range(6)]
    assert all(task.result().text for task in asked)


async def test_nobody_without_the_key_may_ask(llama: EmbeddedServer) -> None:
    async with EndpointModel(llama.base_url, llama.alias, "guess", proxied=False) as stranger:
        with pytest.raises(ModelUnreachable, match="refused with 401"):
            await stranger.ask(SHORT)


def test_it_listens_on_loopback_only_and_serves_no_page(llama: EmbeddedServer) -> None:
    assert llama.base_url.startswith("http://127.0.0.1:")
    assert httpx.get(llama.base_url.removesuffix("/v1"), trust_env=False).status_code in (401, 403, 404)


def refuse_download(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
    raise FetchFailed("offline")


async def test_the_model_starts_at_the_first_question_and_again_after_it_died(smollm2: Path) -> None:
    model = EmbeddedModel(smollm2.parent.parent, options=SMALL, download=refuse_download)
    try:
        assert (await model.ask(SHORT)).text
        server = await model.start()
        first = server.base_url
        server.kill()
        await asyncio.to_thread(_until, lambda: not server.running)
        assert (await model.ask(SHORT)).text
        assert server.base_url != first
    finally:
        await model.aclose()
    assert not server.running
    with pytest.raises(ModelUnreachable, match="was closed"):
        await model.ask(SHORT)


async def test_no_weights_and_no_network_is_a_sentence_and_not_tried_at_every_question(tmp_path: Path) -> None:
    tried: list[str] = []

    def offline(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
        tried.append(weights.name)
        refuse_download(weights, folder, progress, stop)

    model = EmbeddedModel(tmp_path, download=offline)
    for _ in range(3):
        with pytest.raises(ModelUnreachable, match=r"offline.*FOA_MODEL_URL.*SmolLM2-135M-Instruct\.Q4_1\.gguf"):
            await model.ask(SHORT)
    await model.aclose()
    assert tried == ["smollm2-135m-instruct"]


def wait_for_stop(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
    progress(1, 2)
    stop.wait(30)
    raise FetchFailed("it was stopped")


async def test_closing_ends_a_fetch_under_way(tmp_path: Path) -> None:
    fetching = threading.Event()
    model = EmbeddedModel(tmp_path, download=wait_for_stop, progress=lambda done, total: fetching.set())

    async def ask() -> None:
        with pytest.raises(ModelUnreachable, match="it was stopped"):
            await model.ask(SHORT)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask(), name="ask")
        await asyncio.to_thread(fetching.wait, 30)
        await model.aclose()


async def test_a_question_does_not_wait_for_the_fetch_past_its_own_time(tmp_path: Path) -> None:
    model = EmbeddedModel(tmp_path, download=wait_for_stop)
    with pytest.raises(ModelUnreachable, match="still being fetched"):
        await model.ask(replace(SHORT, seconds=0.05))
    await model.aclose()


def test_weights_that_are_none_do_not_start(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelUnreachable, match=r"did not start .*delete .*no\.gguf"):
        EmbeddedServer(tmp_path / "no.gguf", options=SMALL).start()


_PARENT = """
import json, sys
from pathlib import Path
from foa.models.llama_server import EmbeddedServer, LlamaOptions
server = EmbeddedServer(Path(sys.argv[1]), options=LlamaOptions(parallel=1, context_tokens=256))
server.start()
print(json.dumps({"child": server._process.pid}), flush=True)
sys.stdin.read()
"""


def test_a_killed_parent_takes_the_server_along(smollm2: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(smollm2)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = json.loads(parent.stdout.readline())["child"]
        parent.send_signal(signal.SIGKILL)
    _until(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


def _until(happened: Callable[[], bool], *, tries: int = 400) -> None:
    pause = threading.Event()
    while not happened():
        tries -= 1
        assert tries, "it did not happen within 10 s"
        pause.wait(0.025)
