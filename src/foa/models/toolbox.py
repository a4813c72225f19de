"""Our tools as pydantic-ai tools: arguments checked, errors told to the model, names written down."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic_ai

from foa.errors import FabricError
from foa.models.structured import misfit
from foa.ports import Tool

MAX_TOOL_TEXT = 20_000  #: characters of a tool's answer that reach the model


@dataclass(slots=True, kw_only=True)
class ToolLog:
    """Which tools a model called, in order."""

    names: list[str] = field(default_factory=list)


def wrap_tools(tools: Sequence[Tool], log: ToolLog) -> list[pydantic_ai.Tool[object]]:
    """Offer these tools to a pydantic-ai agent, writing every call into `log`."""
    return [
        pydantic_ai.Tool[object].from_schema(
            _caller(tool, log), name=tool.name, description=tool.description, json_schema=dict(tool.parameters)
        )
        for tool in tools
    ]


def _caller(tool: Tool, log: ToolLog) -> Callable[..., Awaitable[str]]:
    async def call(**arguments: Any) -> str:
        log.names.append(tool.name)
        return await _call(tool, arguments)

    return call


async def _call(tool: Tool, arguments: Mapping[str, Any]) -> str:
    if problem := misfit(arguments, tool.parameters):
        return f"error: these arguments do not fit: {problem.removeprefix('reply').lstrip(': ')}"
    try:
        answer = await tool(arguments)
    except FabricError as error:
        answer = f"error: {error}"
    return answer if len(answer) <= MAX_TOOL_TEXT else f"{answer[:MAX_TOOL_TEXT]}… (cut off)"
