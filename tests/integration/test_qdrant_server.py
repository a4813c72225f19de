"""A Qdrant server as the documentation shows it: the compose file, and servers that are not there or not the right one."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from foa.errors import StoreFailed
from foa.index.qdrant import QdrantIndex
from tests.brokers import free_port

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


@asynccontextmanager
async def server_of(said: dict[str, object]) -> AsyncGenerator[str]:
    """Answers everything with the same JSON."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(said).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_is_not_there_is_a_failed_store():
    index = QdrantIndex.remote(f"http://127.0.0.1:{free_port()}", 8)
    with pytest.raises(StoreFailed, match="the Qdrant server did not do it"):
        await index.count()
    await index.aclose()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("1.2.3", f"the Qdrant server is 1.2.3 and qdrant-client {version('qdrant-client')}"),
        ("latest", "what answers is no Qdrant server: its version is 'latest'"),
    ],
)
async def test_a_server_of_another_release_is_refused_with_both_versions(said: str, reason: str):
    async with server_of({"title": "qdrant", "version": said}) as url:
        index = QdrantIndex.remote(url, 8)
        with pytest.raises(StoreFailed, match=re.escape(reason)):
            await index.count()
        await index.aclose()


def test_the_compose_file_is_what_the_page_shows_and_fits_the_client():
    file, page = (HOWTO / "qdrant-compose.yaml").read_text(), (HOWTO / "qdrant-server.md").read_text()
    shown = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert shown[1] == file
    service = yaml.safe_load(file)["services"]["qdrant"]
    image = re.fullmatch(r"qdrant/qdrant:v(\d+)\.(\d+)\.\d+", service["image"])
    assert image is not None
    major, minor = map(int, version("qdrant-client").split(".")[:2])
    assert (int(image[1]), abs(int(image[2]) - minor) <= 1) == (major, True)
    [(host, outside, inside)] = [port.split(":") for port in service["ports"]]
    assert (host, inside) == ("127.0.0.1", "6333")  # Qdrant's own port, and not on a public address
    assert f"http://{host}:{outside}" in page
    assert service["environment"] == {"QDRANT__SERVICE__API_KEY": "${QDRANT_API_KEY:?set a key}"}
    assert "QDRANT_API_KEY=… docker compose -f qdrant-compose.yaml up -d" in page
    [volume] = service["volumes"]
    assert volume.split(":") == ["qdrant", "/qdrant/storage"]  # where Qdrant keeps its data
    assert "qdrant" in yaml.safe_load(file)["volumes"]
