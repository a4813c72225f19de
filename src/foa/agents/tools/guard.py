"""The policy check that stands before every call of a tool.

agent's labels ⊇ labels the tool requires      else the agent may not use it
tool's labels  ⊇ labels of the task            else the task's words may not flow into it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from foa.agents.evidence import Evidence
from foa.errors import PolicyDenied
from foa.policy.gate import may_run_tool
from foa.ports import Tool

MAX_RESULT = 8_000  #: characters of a tool's result that a model sees


@runtime_checkable
class Retriever(Protocol):
    """A tool that can look up evidence for a question by itself."""

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """The best `k` pieces of evidence, best first; fewer or none when nothing fits.

        Raises:
            FabricError: it cannot be asked now; the sentence says why.
        """
        ...


@runtime_checkable
class Closable(Protocol):
    """A tool that holds a connection or process."""

    async def aclose(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipped:
    """A tool with its policy."""

    tool: Tool
    requires: frozenset[str] = frozenset()  #: labels an agent must be cleared for to use it
    #: labels of tasks whose words may flow into it; None: it keeps them on this machine, so as many as its agent
    cleared: frozenset[str] | None = None

    def denial(self, *, agent: frozenset[str], task: frozenset[str]) -> str:
        """Say why a call is forbidden; empty: it is allowed.

        Args:
            agent: labels the agent is cleared for.
            task: labels of the task.
        """
        name = self.tool.name
        if missing := sorted(self.requires - agent):
            return f"tool {name!r} requires {', '.join(missing)}, which the agent is not cleared for"
        reach = agent if self.cleared is None else self.cleared
        return may_run_tool(name, allowed=(name,), labels=task, cleared=reach).reason

    def for_task(self, *, agent: frozenset[str], task: frozenset[str]) -> "GuardedTool":
        """Give the tool as a model may drive it on this task: checked at every call."""
        return GuardedTool(self, agent=agent, task=task)


class GuardedTool:
    """A Tool that checks policy before every call, bounds what comes back and remembers it as evidence."""

    def __init__(self, equipped: Equipped, *, agent: frozenset[str], task: frozenset[str]) -> None:
        self._equipped = equipped
        self._agent = agent
        self._task = task
        self.results: list[str] = []  #: what it gave, in order, at most 16

    @property
    def name(self) -> str:
        return self._equipped.tool.name

    @property
    def description(self) -> str:
        return self._equipped.tool.description

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self._equipped.tool.parameters

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Check, then run.

        Raises:
            PolicyDenied: the labels do not allow it.
            FabricError: from the tool.
        """
        if reason := self._equipped.denial(agent=self._agent, task=self._task):
            raise PolicyDenied(reason)
        result = (await self._equipped.tool(arguments))[:MAX_RESULT]
        if len(self.results) < 16:
            self.results.append(result)
        return result


def text_argument(arguments: Mapping[str, Any], key: str, *, most: int = 2_000) -> str:
    """Take a text out of a model's arguments; empty when it is missing or not text. Shortened to `most` characters."""
    value = arguments.get(key, "")
    return value[:most] if isinstance(value, str) else ""


def count_argument(arguments: Mapping[str, Any], key: str, *, default: int, most: int) -> int:
    """Take a count out of a model's arguments, within 1 to `most`."""
    value = arguments.get(key, default)
    return min(most, max(1, value)) if isinstance(value, int) else default


def text_schema(properties: Mapping[str, str], *, required: Sequence[str] = ()) -> Mapping[str, Any]:
    """JSON Schema of an object of bounded texts, from names and their descriptions."""
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": about, "maxLength": 2_000} for name, about in properties.items()
        },
        "required": list(required),
        "additionalProperties": False,
    }


def render(found: Sequence[Evidence], *, most: int = MAX_RESULT) -> str:
    """Evidence as text for a model: each piece under its locator."""
    text = "\n\n".join(f"[{piece.source.locator}]\n{piece.text.strip()}" for piece in found)
    return text[:most] or "nothing found"
