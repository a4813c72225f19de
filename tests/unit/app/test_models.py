"""Whether a model's endpoint is there is seen before work begins."""

import asyncio
import socket

import pytest

from foa.app.models import check_endpoint
from foa.app.settings import read_settings
from foa.errors import ModelUnreachable


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
