"""Any MCP server as a tool: started or connected at the first question, kept open, opened again after a fault.

stdio        command, args, env          a child process
HTTP         url                         streamable HTTP

The server is one tool to a model: it names one of the server's tools and its arguments. For a small model the server is
asked by itself through a tool that takes one text (`search`, `query` …).
Source: Model Context Protocol, 2025-11-25 and later; the client is the `mcp` package's.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from foa.agents.evidence import Evidence
from foa.agents.tasks import owning_tasks
from foa.errors import BadInput, FabricError, Unreachable
from foa.values.draft import Source

if TYPE_CHECKING:
    from mcp import Client

MAX_TOOLS = 32  #: of one server
MAX_TEXT = 20_000  #: characters of one result
SECONDS = 30.0  #: of one call, connecting apart
CONNECT_SECONDS = 20.0

_SEARCHING = ("search", "query", "find", "lookup", "ask", "retrieve", "get")


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """Where an MCP server is. Either `command` or `url`."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One tool of the server."""

    name: str
    description: str
    schema: Mapping[str, Any]

    @property
    def text_argument(self) -> str:
        """The argument through which it can be asked a question: its only required text, or its only text; else empty."""
        properties = self.schema.get("properties")
        if not isinstance(properties, dict):
            return ""
        texts = [name for name, about in properties.items() if isinstance(about, dict) and about.get("type") == "string"]
        required = self.schema.get("required")
        needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        if needed:
            return needed[0] if len(needed) == 1 and needed[0] in texts else ""
        return texts[0] if len(texts) == 1 else ""


class McpTool:
    """Talks to one MCP server. Use it as `async with mcp_tool(server)`."""

    def __init__(self, server: McpServer, group: asyncio.TaskGroup, *, seconds: float = SECONDS) -> None:
        self.name = server.name
        self._server = server
        self._group = group
        self._seconds = seconds
        self._opening = asyncio.Lock()
        self._client: Client | None = None
        self._leave: asyncio.Event | None = None
        self._tools: tuple[Offered, ...] = ()

    @property
    def description(self) -> str:
        """What the server offers, once it was asked."""
        listed = "; ".join(f"{tool.name}: {tool.description[:120]}" for tool in self._tools[:12])
        return f"MCP server {self.name}. {f'Its tools: {listed}.' if listed else ''}"[:2_000].strip()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Which of the server's tools, with which arguments."""
        return {
            "type": "object",
            "properties": {
                "tool": {"type": "string", "maxLength": 128, "description": "name of the server's tool"},
                "arguments": {"type": "object", "description": "its arguments", "maxProperties": 32},
            },
            "required": ["tool"],
            "additionalProperties": False,
        }

    async def tools(self) -> Sequence[Offered]:
        """The server's tools, the first `MAX_TOOLS`.

        Raises:
            Unreachable: the server does not start or answer.
        """
        await self._open()
        return self._tools

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Call one of its tools for a model.

        Raises:
            BadInput: no such tool, or the tool says that it failed.
            Unreachable: the server does not start or answer.
        """
        name, given = arguments.get("tool"), arguments.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(given, dict):
            raise BadInput(f"{self.name} needs `tool`, a name, and `arguments`, an object")
        return await self.call(name, given)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Call one of its tools; gives the text of the result.

        Raises:
            BadInput, Unreachable: as `__call__`.
        """
        client = await self._open()
        if tool not in {offered.name for offered in self._tools}:
            raise BadInput(f"{self.name} has no tool {tool[:64]!r}; it has {', '.join(o.name for o in self._tools)[:500]}")
        try:
            async with asyncio.timeout(self._seconds):
                result = await client.call_tool(tool, dict(arguments))
        except TimeoutError:
            raise Unreachable(f"MCP server {self.name} did not answer in {self._seconds:g} s") from None
        except Exception as error:  # the client raises its own, the transport's and anyio's errors
            self._close()
            raise Unreachable(f"MCP server {self.name}: {type(error).__name__}: {str(error)[:300]}") from error
        text = _text(result.content)
        if result.is_error:
            raise BadInput(f"{self.name}: {tool} failed: {text[:500]}")
        return text

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """Ask the server's search-like tools, at most two, with the question.

        Raises:
            Unreachable: the server does not start or answer.
        """
        asked = [(tool, tool.text_argument) for tool in await self.tools() if tool.text_argument]
        asked.sort(key=lambda pair: not any(word in pair[0].name.lower() for word in _SEARCHING))
        found: list[Evidence] = []
        for tool, argument in asked[: min(2, k)]:
            try:
                text = await self.call(tool.name, {argument: query[:1_000]})
            except BadInput:
                continue  # it does not understand the question; the next one may
            if text.strip():
                found.append(Evidence(source=Source(kind="tool", locator=f"{self.name}/{tool.name}"), text=text[:4_000]))
        return found

    # ── the connection: entered and left in one task of its own, as its cancel scopes ask ───────────────────────────────
    async def _open(self) -> "Client":
        async with self._opening:
            if self._client is None:
                opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
                leave = self._leave = asyncio.Event()
                self._group.create_task(self._hold(opened, leave), name=f"mcp[{self.name}]")
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        self._client = await opened
                except TimeoutError:
                    leave.set()
                    raise Unreachable(f"MCP server {self.name} did not start in {CONNECT_SECONDS:g} s") from None
            return self._client

    async def _hold(self, opened: "asyncio.Future[Client]", leave: asyncio.Event) -> None:
        try:
            async with _connected(self._server) as client:
                self._tools = await _list(client)
                if not opened.done():
                    opened.set_result(client)
                await leave.wait()
        except FabricError as error:
            if not opened.done():
                opened.set_exception(error)
        except Exception as error:  # noqa: BLE001 - as in `call`; whoever waits for the connection is told
            if not opened.done():
                said = f"MCP server {self.name} cannot be used: {_first(error)}"
                opened.set_exception(Unreachable(said))
        finally:
            if self._leave is leave:
                self._client = None

    def _close(self) -> None:
        if self._leave is not None:
            self._leave.set()
        self._client = None


@asynccontextmanager
async def mcp_tool(server: McpServer, *, seconds: float = SECONDS) -> AsyncGenerator[McpTool]:
    """Have a server's tool while the block lasts; leaving ends its process or session.

    Raises:
        BadInput: neither or both of `command` and `url` are given.
    """
    if bool(server.command) == bool(server.url):
        raise BadInput(f"MCP server {server.name} needs either `command` (with `args`) or `url`")
    async with owning_tasks() as group:
        tool = McpTool(server, group, seconds=seconds)
        try:
            yield tool
        finally:
            tool._close()  # pyright: ignore[reportPrivateUsage]


def _connected(server: McpServer) -> "Client":
    try:
        from mcp import Client, StdioServerParameters
    except ImportError as error:
        raise BadInput("MCP tools need the `mcp` package: pip install 'foa[local]'") from error
    if server.url:
        return Client(server.url)
    return Client(StdioServerParameters(command=server.command, args=list(server.args), env=dict(server.env)))


async def _list(client: "Client") -> tuple[Offered, ...]:
    found: list[Offered] = []
    cursor: str | None = None
    while len(found) < MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found += [
            Offered(name=tool.name[:128], description=(tool.description or "")[:500], schema=dict(tool.input_schema))
            for tool in page.tools
        ]
        cursor = page.next_cursor
        if not cursor:
            break
    return tuple(found[:MAX_TOOLS])


def _text(content: Sequence[Any]) -> str:
    """The texts of a result, what is not text as JSON, bounded."""
    parts: list[str] = []
    for item in content[:64]:
        text = getattr(item, "text", None)
        parts.append(text if isinstance(text, str) else msgspec.json.encode(str(getattr(item, "type", "data"))).decode())
    return "\n".join(parts)[:MAX_TEXT]


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:300]}"
