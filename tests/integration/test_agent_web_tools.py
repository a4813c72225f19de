"""Tools that reach outside: web APIs and MCP servers, real ones on loopback."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from foa.agents.tools.http import HttpTool
from foa.agents.tools.mcp import McpServer, mcp_tool
from foa.errors import BadInput, Unreachable


@asynccontextmanager
async def web(answer: Callable[[str, str], str | bytes | Awaitable[bytes]]) -> AsyncGenerator[tuple[str, list[str]]]:
    """A web server whose answers are whole HTTP responses, by path and Host header; gives its URL and what was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        host = next(line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("host:"))
        asked.append(path)
        said = answer(path, host)
        whole = said if isinstance(said, str | bytes) else await said
        writer.write(whole.encode() if isinstance(whole, str) else whole)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://localhost:{port}", asked


def ok(body: str, kind: str = "application/json") -> str:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


def moved(where: str) -> str:
    return f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n"


async def test_an_api_is_asked_and_its_url_is_the_source() -> None:
    async with web(lambda path, host: ok(f'{{"path": "{path}", "host": "{host}"}}')) as (base, asked):
        tool = HttpTool([f"{base}/v1"], search=f"{base}/v1/find?q={{query}}", allow_private=True)
        found = (await tool.retrieve("red apples & pears", 3))[0]
        assert (found.source.kind, found.source.locator) == ("url", f"{base}/v1/find?q=red%20apples%20%26%20pears")
        assert asked == ["/v1/find?q=red%20apples%20%26%20pears"]
        assert f'"host": "{base.removeprefix("http://")}"' in found.text
        assert "find" in await tool({"url": f"{base}/v1/find"})


async def test_what_is_not_under_an_allowed_base_is_never_asked() -> None:
    async with web(lambda path, host: ok("{}")) as (base, asked):
        tool = HttpTool([f"{base}/v1"], allow_private=True)
        for url in (
            f"{base}/v2",
            f"{base}/v1x",
            f"{base}/v1/../v2",
            f"{base}/v1/%2e%2e/v2",
            base.replace("http", "https") + "/v1",
            base.replace("localhost", "user:pw@localhost") + "/v1",
            "file:///etc/passwd",
            "http://169.254.169.254/v1",
            "",
        ):
            with pytest.raises(BadInput):
                await tool({"url": url})
        assert asked == []


async def test_a_private_host_is_refused_unless_it_is_allowed() -> None:
    async with web(lambda path, host: ok("{}")) as (base, asked):
        with pytest.raises(BadInput, match="private address"):
            await HttpTool([base]).get(base)
        assert asked == []


async def test_redirects_stay_on_the_host_and_under_the_base() -> None:
    def answer(path: str, host: str) -> str:
        onward = {
            "/v1/a": "/v1/b", "/v1/out": "http://example.org/v1", "/v1/up": "/v2", "/v1/round": "/v1/round",
        }  # fmt: skip
        return moved(onward[path]) if path in onward else ok("arrived", "text/plain")

    async with web(answer) as (base, _):
        tool = HttpTool([f"{base}/v1"], allow_private=True)
        assert await tool.get(f"{base}/v1/a") == "arrived"
        with pytest.raises(Unreachable, match=r"redirects to example\.org"):
            await tool.get(f"{base}/v1/out")
        with pytest.raises(BadInput, match="is not allowed"):
            await tool.get(f"{base}/v1/up")
        with pytest.raises(Unreachable, match="in circles"):
            await tool.get(f"{base}/v1/round")


async def test_answers_are_bounded_in_size_and_time_and_markup_is_taken_out() -> None:
    never = asyncio.Event()

    async def silent() -> bytes:
        await never.wait()
        return b""

    def answer(path: str, host: str) -> str | Awaitable[bytes]:
        if path == "/slow":
            return silent()
        if path == "/page":
            return ok("<html><script>bad()</script><p>Red   <b>apples</b></p></html>", "text/html")
        if path == "/none":
            return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        return ok("x" * 100_000, "text/plain")

    async with web(answer) as (base, _):
        tool = HttpTool([base], allow_private=True, max_bytes=1_000, seconds=0.2)
        assert len(await tool.get(f"{base}/large")) == 1_000
        assert (await tool.get(f"{base}/page")).split() == ["Red", "apples"]
        with pytest.raises(Unreachable, match="answered 404"):
            await tool.get(f"{base}/none")
        with pytest.raises(Unreachable, match=r"did not answer in 0\.2 s"):
            await tool.get(f"{base}/slow")
        never.set()


# ── MCP ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
SERVER = '''
import sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("orchard")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def search_fruit(query: str) -> str:
    """Finds fruit."""
    return f"Red apples grow in orchards ({query})."


@server.tool()
def fail(reason: str) -> str:
    """Always fails."""
    raise ValueError(reason)


@server.tool()
def leave() -> str:
    """Ends the process."""
    import os
    os._exit(3)


if sys.argv[1:]:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run()
'''


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return str(path)


async def test_a_server_over_stdio_is_started_at_the_first_question_and_asked(script: str) -> None:
    async with mcp_tool(McpServer(name="orchard", command=sys.executable, args=(script,))) as tool:
        assert tool.description == "MCP server orchard."
        found = await tool.retrieve("Where do apples grow?", 1)
        assert (found[0].source.kind, found[0].source.locator) == ("tool", "orchard/search_fruit")
        assert found[0].text == "Red apples grow in orchards (Where do apples grow?)."
        assert "search_fruit: Finds fruit." in tool.description
        assert await tool({"tool": "add", "arguments": {"a": 2, "b": 3}}) == "5"
        with pytest.raises(BadInput, match="has no tool 'nothing'"):
            await tool({"tool": "nothing"})
        with pytest.raises(BadInput, match="fail failed"):
            await tool({"tool": "fail", "arguments": {"reason": "because"}})


async def test_a_server_that_dies_is_started_again(script: str) -> None:
    async with mcp_tool(McpServer(name="orchard", command=sys.executable, args=(script,)), seconds=5) as tool:
        with pytest.raises(Unreachable):
            await tool.call("leave", {})
        assert await tool.call("add", {"a": 1, "b": 1}) == "2"


async def test_a_server_that_does_not_start_is_unreachable() -> None:
    async with mcp_tool(McpServer(name="none", command="/no/such/program")) as tool:
        with pytest.raises(Unreachable, match="MCP server none cannot be used"):
            await tool.retrieve("anything", 1)


async def test_a_server_over_http_is_asked(script: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _listens(port)
        async with mcp_tool(McpServer(name="orchard", url=f"http://127.0.0.1:{port}/mcp")) as tool:
            assert await tool.call("add", {"a": 20, "b": 22}) == "42"
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> None:
    """Wait until a process of its own accepts connections."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
