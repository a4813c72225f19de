"""The tools of an agent file, made ready: one place that knows how each kind is written.

tools:
  - documents: ./handbook            # relative to the agent's file
  - code                             # the folder the federation looks at
  - {kind: sql, file: orders.db, about: orders since 2019, requires: [gdpr]}
  - {kind: http, allow: [https://api.example.org/v1], search: "https://api.example.org/v1/find?q={query}"}
  - {kind: mcp, name: wiki, command: wiki-server, args: [--stdio], policies: [gdpr]}
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from foa.agents.frontmatter import Value
from foa.agents.profile import AgentProfile, ToolSpec
from foa.agents.tools.dependencies import DependencyTool
from foa.agents.tools.documents import code, documents
from foa.agents.tools.git import GitTool
from foa.agents.tools.guard import Closable, Equipped
from foa.agents.tools.http import HttpTool
from foa.agents.tools.mcp import McpServer, mcp_tool
from foa.agents.tools.sql import SqlTool
from foa.agents.tools.vectors import VectorCache
from foa.errors import BadInput
from foa.ports import Embedder, Tool

#: Kinds that send the task's words to somebody else: cleared only for the labels their `policies` name.
OUTSIDE = frozenset({"http", "mcp"})


@asynccontextmanager
async def equip(
    profile: AgentProfile, *, embedder: Embedder, over: Path | None = None, cache: Path | None = None
) -> AsyncGenerator[tuple[Equipped, ...]]:
    """Have an agent's tools while the block lasts; nothing is read or connected before the first question.

    Args:
        profile: the agent.
        embedder: for search by meaning.
        over: the folder that tools without one look at; the agent's own by default.
        cache: a folder for vectors, so that a second start is quick; None: none are kept.

    Raises:
        BadInput: a tool's options are not usable; the message names the agent and the tool.
    """
    async with AsyncExitStack() as stack:
        maker = _Maker(profile, embedder, over, VectorCache(cache / "vectors.sqlite") if cache is not None else None, stack)
        equipped: list[Equipped] = []
        for spec in profile.tools:
            try:
                tool = await maker.make(spec)
                equipped.append(_with_policy(tool, spec, maker))
            except BadInput as error:
                raise BadInput(f"agent {profile.agent_id}, tool {spec.kind}: {error}") from error
            if sum(one.tool.name == tool.name for one in equipped) > 1:
                raise BadInput(f"agent {profile.agent_id}: two tools are called {tool.name!r}; give one of them a `name`")
            if isinstance(tool, Closable):
                stack.push_async_callback(tool.aclose)
        yield tuple(equipped)


def _with_policy(tool: Tool, spec: ToolSpec, maker: "_Maker") -> Equipped:
    requires = frozenset(maker.texts(spec, "requires"))
    remote = spec.kind in OUTSIDE or (spec.kind == "sql" and bool(maker.text(spec, "url")))
    return Equipped(tool=tool, requires=requires, cleared=frozenset(maker.texts(spec, "policies")) if remote else None)


class _Maker:
    """Makes tools of their specs."""

    def __init__(
        self,
        profile: AgentProfile,
        embedder: Embedder,
        over: Path | None,
        cache: VectorCache | None,
        stack: AsyncExitStack,
    ) -> None:
        self._home = profile.folder or Path()
        self._over = over or self._home
        self._embedder = embedder
        self._cache = cache
        self._stack = stack

    async def make(self, spec: ToolSpec) -> Tool:
        match spec.kind:
            case "documents" | "code":
                kind = documents if spec.kind == "documents" else code
                return kind(
                    self._folder(spec),
                    self._embedder,
                    name=self.text(spec, "name", spec.kind),
                    cache=self._cache,
                    include=self.texts(spec, "include"),
                    exclude=self.texts(spec, "exclude"),
                )
            case "git":
                return GitTool(self._folder(spec), embedder=self._embedder, cache=self._cache)
            case "dependencies":
                return DependencyTool(self._folder(spec))
            case "sql":
                return self._sql(spec)
            case "http":
                return self._http(spec)
            case "mcp":
                return await self._stack.enter_async_context(mcp_tool(self._server(spec)))
            case other:
                raise BadInput(f"there is no tool {other!r}")

    def text(self, spec: ToolSpec, key: str, default: str = "") -> str:
        value = spec.options.get(key, default)
        if not isinstance(value, str):
            raise BadInput(f"`{key}` must be text")
        return value.strip()

    def texts(self, spec: ToolSpec, key: str) -> tuple[str, ...]:
        value: Value = spec.options.get(key, [])
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if isinstance(value, dict) or not all(isinstance(part, str) for part in value):
            raise BadInput(f"`{key}` must be a list of texts")
        return tuple(part for part in value if isinstance(part, str) and part)

    def _folder(self, spec: ToolSpec) -> Path:
        given = self.text(spec, "folder") or self.text(spec, "")
        folder = (self._home / given) if given else self._over
        if not folder.is_dir():
            raise BadInput(f"no folder {folder}; name one that exists, relative to the agent's file")
        return folder

    def _sql(self, spec: ToolSpec) -> SqlTool:
        file = self.text(spec, "file") or self.text(spec, "")
        url = self.text(spec, "url")
        if bool(file) == bool(url):
            raise BadInput("give either `file`, an SQLite database, or `url`, an SQLAlchemy URL")
        database = self._home / file if file else url
        if isinstance(database, Path) and not database.is_file():
            raise BadInput(f"no database file {database}")
        return SqlTool(database, name=self.text(spec, "name", "sql"), about=self.text(spec, "about"))

    def _http(self, spec: ToolSpec) -> HttpTool:
        return HttpTool(
            self.texts(spec, "allow") or self.texts(spec, ""),
            search=self.text(spec, "search"),
            name=self.text(spec, "name", "http"),
            about=self.text(spec, "about"),
            allow_private=self.text(spec, "allow_private", "false").lower() in ("true", "yes", "on"),
        )

    def _server(self, spec: ToolSpec) -> McpServer:
        env = spec.options.get("env", {})
        if not isinstance(env, dict):
            raise BadInput("`env` must be a mapping")
        first = self.text(spec, "")
        return McpServer(
            name=self.text(spec, "name", "mcp"),
            command=self.text(spec, "command", "" if first.startswith("http") else first),
            args=self.texts(spec, "args"),
            env={key: value for key, value in env.items() if isinstance(value, str)},
            url=self.text(spec, "url", first if first.startswith("http") else ""),
        )
