"""Whether a model's endpoint is there is seen before work begins."""

import asyncio
import socket

import pytest

from foa.app.agents import build_agents
from foa.app.clock import SystemClock
from foa.app.models import ModelOnDemand, check_endpoint
from foa.app.settings import read_settings
from foa.errors import BadInput, ModelUnreachable
from foa.models.scripted import ScriptedModel
from foa.models.wordllama import WordLlamaEmbedder


def settings(url: str):
    return read_settings(environ={}, overrides={"FOA_MODEL_URL": url, "FOA_MODEL": "qwen3:8b"} if url else {})


async def test_without_an_endpoint_there_is_nothing_to_see():
    await check_endpoint(settings(""))


async def test_an_endpoint_that_listens_is_there():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await check_endpoint(settings(f"http://127.0.0.1:{port}/v1"))


async def test_an_endpoint_where_nobody_listens_is_said_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes the port meanwhile
        port = taken.getsockname()[1]
        with pytest.raises(ModelUnreachable, match="ollama pull qwen3:8b"):
            await check_endpoint(settings(f"http://127.0.0.1:{port}/v1"))


AGENT = """---
name: {name}
description: Answers questions.
model: {model}
---
Be brief.
"""


async def test_an_agent_file_gets_the_model_it_asks_for_by_a_name_of_the_settings(tmp_path):
    for name, model in (("one", "sonnet"), ("two", "opus"), ("three", "unheard-of")):
        (tmp_path / f"{name}.md").write_text(AGENT.format(name=name, model=model))
    found = read_settings(
        environ={},
        overrides={
            "FOA_MODEL_URL": "http://127.0.0.1:9/v1",
            "FOA_MODEL": "small",
            "FOA_MODELS": "sonnet=qwen3:8b, opus=qwen3:32b",
            "FOA_CACHE_DIR": str(tmp_path),
        },
    )
    ours = ModelOnDemand(found)
    async with build_agents(
        [tmp_path], model=ours, embedder=WordLlamaEmbedder(), clock=SystemClock(), settings=found, over=None
    ) as agents:
        named = {agent.profile.name: agent.brain.model_name for agent in agents}
    assert named == {"one": "qwen3:8b", "two": "qwen3:32b", "three": "small"}


@pytest.mark.parametrize("given", ["sonnet", "=x", "sonnet=", "a=b, c"])
def test_a_list_of_models_that_is_none_is_said(given):
    with pytest.raises(BadInput, match="name=model"):
        read_settings(environ={}, overrides={"FOA_MODEL_URL": "http://h/v1", "FOA_MODEL": "m", "FOA_MODELS": given})


async def test_the_embedded_model_is_asked_for_less_and_one_that_a_caller_brings_is_not(tmp_path):
    (tmp_path / "one.md").write_text(AGENT.format(name="one", model="x"))
    found = read_settings(environ={}, overrides={"FOA_CACHE_DIR": str(tmp_path)})
    kept = {}
    for name, model in (("embedded", ModelOnDemand(found)), ("brought", ScriptedModel(lambda request: "yes"))):
        async with build_agents(
            [tmp_path], model=model, embedder=WordLlamaEmbedder(), clock=SystemClock(), settings=found, over=None
        ) as agents:
            kept[name] = agents[0].profile.limits
    assert kept["embedded"].prompt_tokens < kept["brought"].prompt_tokens
    assert kept["embedded"].model_rounds == 0
