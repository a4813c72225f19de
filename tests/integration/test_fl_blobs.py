"""Large models over HTTP: offered, fetched, brought, refused; tokens, bounds, and two processes that share no folder."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict

from foa.app.clock import SystemClock
from foa.app.federated_blobs import open_blobs, reach
from foa.app.settings import read_settings
from foa.broker import Broker, BrokerConfig
from foa.errors import BadInput, BadMessage, StoreFailed, Unreachable
from foa.fl.blob_client import HttpBlobs
from foa.fl.blob_server import WAITING, BlobServer, Listen, serving
from foa.fl.blobs import BlobClaim, BlobPlace, claim_of
from foa.fl.grids.mqtt import MqttGrid
from foa.fl.roll import Roll, Wanted
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from tests.fakes import HandClock
from tests.fl_sites import PROJECT, TOPICS
from tests.tls import make_certificate

ROOT = Path(__file__).resolve().parents[2]
SITE, OTHER = AgentId("clinic"), AgentId("ward")
MODEL = bytes(range(256)) * 8_000  #: 2 MB
LISTEN = Listen(host="127.0.0.1", port=0)


@asynccontextmanager
async def server(folder: Path, clock: HandClock | None = None, listen: Listen = LISTEN) -> AsyncIterator[BlobServer]:
    made = BlobServer(folder / "server", "run-1", listen, clock or HandClock())
    async with serving(made, listen):
        yield made


def at(place: BlobPlace, folder: Path) -> HttpBlobs:
    return HttpBlobs(place, folder)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "server").rglob("*") if path.is_file()]


async def test_a_model_goes_out_and_an_update_comes_back(tmp_path: Path) -> None:
    async with server(tmp_path) as there:
        site = at(there.place(SITE), tmp_path)
        offered = await asyncio.to_thread(there.put, MODEL)
        assert await asyncio.to_thread(site.get, offered) == MODEL
        brought = await asyncio.to_thread(site.put, MODEL[::-1])
        assert brought == claim_of(MODEL[::-1])
        assert there.get(brought) == MODEL[::-1]
        there.drop(offered)
        there.drop(brought)
        assert files(tmp_path) == []
        with pytest.raises(BadMessage, match="404"):
            await asyncio.to_thread(site.get, offered)


async def test_what_one_site_brings_no_other_can_fetch(tmp_path: Path) -> None:
    async with server(tmp_path) as there:
        brought = await asyncio.to_thread(at(there.place(SITE), tmp_path).put, MODEL)
        with pytest.raises(BadMessage, match="404"):
            await asyncio.to_thread(at(there.place(OTHER), tmp_path).get, brought)


def tampered(place: BlobPlace) -> list[str]:
    agent, expires, mac = place.token.rsplit(".", 2)
    return ["x", f"{agent}.{int(expires) + 1}.{mac}", f"ward.{expires}.{mac}", f"{agent}.{expires}.{'0' * 64}", "a.b.c"]


async def test_without_the_runs_own_token_there_is_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with server(tmp_path, clock) as there, server(tmp_path / "another") as another:
        claim = there.put(MODEL)
        place = there.place(SITE)
        for token in [*tampered(place), another.place(SITE).token]:
            with pytest.raises(BadMessage, match="401"):
                await asyncio.to_thread(at(replace(place, token=token), tmp_path).get, claim)
            with pytest.raises(StoreFailed, match="401"):
                await asyncio.to_thread(at(replace(place, token=token), tmp_path).put, MODEL)
        await clock.move(LISTEN.token_seconds + 1)
        with pytest.raises(BadMessage, match="401"):
            await asyncio.to_thread(at(place, tmp_path).get, claim)
        assert await asyncio.to_thread(at(there.place(SITE), tmp_path).get, claim) == MODEL
        assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "content", "length", "status"),
    [
        (hashlib.sha256(b"good").hexdigest(), b"evil", None, 422),
        (hashlib.sha256(b"x").hexdigest(), b"x" * 2_000_001, None, 413),
        (hashlib.sha256(b"x").hexdigest(), b"x", "99999999999999999999", 411),
        ("..%2F..%2Fetc%2Fpasswd", b"x", None, 404),
        ("A" * 64, b"x", None, 404),
    ],
)
async def test_an_upload_that_is_not_what_it_says_is_not_kept(
    tmp_path: Path, name: str, content: bytes, length: str | None, status: int
) -> None:
    async with server(tmp_path, listen=replace(LISTEN, blob_bytes=2_000_000)) as there, httpx.AsyncClient() as client:
        headers = {"authorization": f"Bearer {there.place(SITE).token}", **({"content-length": length} if length else {})}
        if length is not None:  # h11 would not send what is not as long as it says
            reader, writer = await asyncio.open_connection("127.0.0.1", int(there.url.rpartition(":")[2]))
            lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
            writer.write(f"PUT /blobs/{name} HTTP/1.1\r\nhost: x\r\n{lines}\r\nx".encode())
            answer = await reader.readline()
            writer.close()
            assert answer.split()[1] in {b"411", b"400"}
        else:
            answered = await client.put(f"{there.url}/blobs/{name}", content=content, headers=headers)
            assert answered.status_code == status
        assert files(tmp_path) == []


async def test_an_upload_that_stops_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async with server(tmp_path) as there:
        _, writer = await asyncio.open_connection("127.0.0.1", int(there.url.rpartition(":")[2]))
        token, name = there.place(SITE).token, hashlib.sha256(MODEL).hexdigest()
        head = (
            f"PUT /blobs/{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {len(MODEL)}\r\n\r\n"
        )
        writer.write(head.encode() + MODEL[:1000])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert files(tmp_path) == []


async def test_updates_that_nobody_reads_are_bounded_for_each_site(tmp_path: Path) -> None:
    async with server(tmp_path) as there:
        brought = [await asyncio.to_thread(at(there.place(SITE), tmp_path).put, bytes([i]) * 100) for i in range(5)]
        kept = await asyncio.to_thread(at(there.place(OTHER), tmp_path).put, b"other")
        assert len(files(tmp_path)) == WAITING + 1
        assert there.get(brought[-1]) == b"\x04" * 100
        assert there.get(kept) == b"other"
        with pytest.raises(BadMessage):
            there.get(brought[0])


async def test_a_site_believes_no_server_about_size_content_or_address(tmp_path: Path) -> None:
    async with server(tmp_path) as there:
        claim, site = there.put(MODEL), at(there.place(SITE), tmp_path)
        with pytest.raises(BadMessage, match="not what its name says"):
            await asyncio.to_thread(site.get, BlobClaim(sha256=claim.sha256, size=claim.size - 1))
        small = HttpBlobs(there.place(SITE), tmp_path, blob_bytes=1_000_000)
        with pytest.raises(BadMessage, match="over the limit"):
            await asyncio.to_thread(small.get, claim)
        with pytest.raises(StoreFailed, match="over the limit"):
            await asyncio.to_thread(small.put, MODEL)
        with pytest.raises(BadMessage, match="from models\\.example only"):
            HttpBlobs(there.place(SITE), tmp_path, hosts=("models.example",))
        for url in ("file:///etc/passwd", "ftp://x", "http://", "http://a:b@c", "http://x?y=1", "http://x#y", ""):
            with pytest.raises(BadMessage, match="address"):
                HttpBlobs(replace(there.place(SITE), url=url), tmp_path)
    with pytest.raises(Unreachable, match="FOA_FL_URL"):
        await asyncio.to_thread(site.get, claim)


async def test_what_stands_at_an_address_is_not_told_to_the_server_that_named_it(tmp_path: Path) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Password Is Swordfish\r\n\r\n")
        try:
            while True:
                writer.write(b"the password is swordfish " * 1_000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as inside:
        url = f"http://127.0.0.1:{inside.sockets[0].getsockname()[1]}/admin"
        site = HttpBlobs(BlobPlace(at="http", run="run-1", url=url, token="t"), tmp_path)
        with pytest.raises(BadMessage, match="403") as fetching:
            await asyncio.to_thread(site.get, claim_of(MODEL))
        with pytest.raises(StoreFailed, match="403") as bringing:
            await asyncio.to_thread(site.put, b"update")
    assert "swordfish" not in f"{fetching.value} {bringing.value}".lower()


async def test_over_https_a_site_believes_a_certificate_it_was_given_and_no_other(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    listen = replace(LISTEN, host="localhost", certificate=certificate, key=key)
    async with server(tmp_path, listen=listen) as there:
        claim, place = there.put(MODEL), there.place(SITE)
        assert place.url.startswith("https://localhost:")
        trusting = HttpBlobs(place, tmp_path, ca=certificate)
        assert await asyncio.to_thread(trusting.get, claim) == MODEL
        assert there.get(await asyncio.to_thread(trusting.put, b"update")) == b"update"
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await asyncio.to_thread(at(place, tmp_path).get, claim)


async def test_settings_that_cannot_serve_are_refused_with_the_reason(tmp_path: Path) -> None:
    async def refused(**given: str) -> str:
        overrides = {"FOA_STATE_DIR": str(tmp_path), **{f"FOA_FL_{name.upper()}": value for name, value in given.items()}}
        with pytest.raises(BadInput) as caught:
            async with open_blobs(read_settings(environ={}, overrides=overrides), "run-1", HandClock()):
                pass
        return str(caught.value)

    assert "host:port" in await refused(listen="8480")
    assert "FOA_FL_URL" in await refused(listen="0.0.0.0:0")
    assert "belong together" in await refused(listen="127.0.0.1:0", cert="x.pem")
    assert "cannot be read" in await refused(listen="127.0.0.1:0", cert="x.pem", key="y.pem")
    async with server(tmp_path) as there:
        assert "in use" in await refused(listen=there.url.removeprefix("http://"))


async def test_without_http_one_machine_shares_a_folder_that_goes_with_the_run(tmp_path: Path) -> None:
    settings = read_settings(environ={}, overrides={"FOA_STATE_DIR": str(tmp_path / "one")})
    elsewhere = read_settings(environ={}, overrides={"FOA_STATE_DIR": str(tmp_path / "two")})
    async with open_blobs(settings, "run-1", HandClock()) as blobs:
        claim = blobs.put(MODEL)
        assert reach(blobs.place(SITE), settings, tmp_path).get(claim) == MODEL
        with pytest.raises(BadMessage, match="FOA_FL_LISTEN"):
            reach(blobs.place(SITE), elsewhere, tmp_path)
    assert not (tmp_path / "one" / "fl" / "run-1" / "blobs").exists()


@asynccontextmanager
async def site_process(folder: Path, url: str) -> AsyncIterator[None]:
    """`foa fl site` of a project that doubles what it is given, with a state directory of its own."""
    project = folder / PROJECT
    project.mkdir()
    (project / "FL.toml").write_text('[[sites]]\nname = "clinic"\nrecords = 20\n')
    (project / "app.py").write_text(
        "from flwr.app import Array, ArrayRecord, Message, RecordDict\n"
        "from flwr.clientapp import ClientApp\n"
        "app = ClientApp()\n"
        "@app.query()\n"
        "def double(message, context):\n"
        "    arrays = {'w': Array(message.content['arrays']['w'].numpy() * 2)}\n"
        "    return Message(RecordDict({'arrays': ArrayRecord(arrays)}), reply_to=message)\n"
        "strategy = arrays = config = None\n"
    )
    command = ["-m", "foa", "fl", "site", str(project), "--name", "clinic", "--broker", url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env={**os.environ, "FOA_STATE_DIR": str(folder / "site")}, cwd=ROOT
    )
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_two_processes_that_share_no_folder_exchange_a_model_of_three_megabytes(tmp_path: Path) -> None:
    clock = SystemClock()
    overrides = {"FOA_STATE_DIR": str(tmp_path / "server"), "FOA_FL_LISTEN": "127.0.0.1:0"}
    settings = read_settings(environ={}, overrides=overrides)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(BrokerConfig(host="127.0.0.1", port=0)))
        url = f"mqtt://127.0.0.1:{broker.port}"
        link = await stack.enter_async_context(MqttTransport(url, client_id="server"))
        blobs = await stack.enter_async_context(open_blobs(settings, "run-1", clock))
        grid = MqttGrid(link, TOPICS, "run-1", Roll(Wanted(project=PROJECT), clock), blobs=blobs)
        await stack.enter_async_context(grid)
        await stack.enter_async_context(site_process(tmp_path, url))
        await grid.present(1, seconds=60)
        (node,) = grid.get_node_ids()
        model = ArrayRecord({"w": Array(np.ones(400_000, np.float64))})
        ask = Message(RecordDict({"arrays": model}), node, "query")
        (reply,) = await asyncio.to_thread(grid.send_and_receive, [ask], timeout=60)
        assert not reply.has_error(), reply.error.reason
        assert reply.content["arrays"]["w"].numpy().sum() == 800_000
        assert grid.bytes_out + grid.bytes_in < 1_000
        assert files(tmp_path) == []
