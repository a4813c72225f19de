"""An MCP server's tool list (`tools/list`) as an agent, and an agent as an MCP tool."""

from collections.abc import Mapping
from typing import cast

from foa.agents.profile import AgentProfile
from foa.interop.profiles import Found, items_of, one_line, profile, read_object, text_of
from foa.values.vcv import Vcv


def from_mcp_tools(document: bytes, *, server: str, description: str = "") -> AgentProfile:
    """Give the profile of an MCP server: a skill a tool, its description from theirs and their parameters'.

    Args:
        document: the result of `tools/list`, or the whole JSON-RPC response.
        server: its name.
        description: what its author says of it.

    Raises:
        BadInput: it is no tool list, or an empty one without a description.
    """
    whole = read_object(document, what="MCP tool list")
    inner = whole.get("result")
    tools = items_of(cast("Mapping[str, object]", inner) if isinstance(inner, dict) else whole, "tools")
    lines = [f"{text_of(tool, 'title', 'name')}: {text_of(tool, 'description')}{_parameters(tool)}" for tool in tools]
    found = Found(name=one_line(server), description=one_line(" ".join([description, *lines])))
    found.skills = [text_of(tool, "name") for tool in tools]
    return profile(found, what="MCP tool list")


def to_mcp_tool(vcv: Vcv) -> dict[str, object]:
    """Give an agent as one entry of `tools/list`: a text in, a text out."""
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 100_000, "description": "what is asked of the agent"}},
        "required": ["text"],
        "additionalProperties": False,
    }
    skilled = f" Skills: {', '.join(vcv.skills)}." if vcv.skills else ""
    return {
        "name": vcv.agent_id,
        "title": vcv.name,
        "description": f"{vcv.description or vcv.name}{skilled}",
        "inputSchema": schema,
    }


def _parameters(tool: Mapping[str, object]) -> str:
    schema = tool.get("inputSchema", tool.get("input_schema"))
    properties = cast("Mapping[str, object]", schema).get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return ""
    described: list[str] = []
    for name, facts in list(cast("Mapping[str, object]", properties).items())[:32]:
        said = text_of(cast("Mapping[str, object]", facts), "description") if isinstance(facts, dict) else ""
        described.append(f"{name} {said}".strip())
    return f" ({'; '.join(described)})" if described else ""
