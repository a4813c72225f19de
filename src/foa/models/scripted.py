"""A model that is a function: instant agents for tests and benchmarks, rules where no language model is wanted."""

from collections.abc import Callable, Mapping
from typing import Any

from foa.errors import ModelReplyInvalid
from foa.models.structured import canonical, check_bounded, misfit
from foa.ports import ModelReply, ModelRequest
from foa.values.budget import Spend

#: Free text, an object where a schema was given, or a whole reply; may raise what a model raises.
Script = Callable[[ModelRequest], "str | Mapping[str, Any] | ModelReply"]


class ScriptedModel:
    """Answers each request by calling a function; keeps the requests in `asked`, the last `remember` of them."""

    def __init__(self, script: Script, *, name: str = "scripted", drives_tools: bool = False, remember: int = 1000) -> None:
        """Take the function that answers."""
        self._script = script
        self._name = name
        self._drives_tools = drives_tools
        self._remember = remember
        self.asked: list[ModelRequest] = []

    @property
    def name(self) -> str:
        """For traces."""
        return self._name

    @property
    def drives_tools(self) -> bool:
        """As given."""
        return self._drives_tools

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Answer; held to the request's schema as every model is.

        Raises:
            ModelReplyInvalid: the function's object does not fit the schema.
            ValueError: something in the schema has no maximum.
        """
        if request.schema is not None:
            check_bounded(request.schema)
        self.asked = [*self.asked[1 - self._remember :], request] if self._remember else []
        said = self._script(request)
        reply = said if isinstance(said, ModelReply) else _reply(said, request)
        problem = misfit(reply.value or {}, request.schema) if request.schema is not None else ""
        if problem:
            raise ModelReplyInvalid(problem, raw=reply.text, spend=reply.spend)
        return reply

    async def aclose(self) -> None:
        """Nothing to let go of."""


def _reply(said: str | Mapping[str, Any], request: ModelRequest) -> ModelReply:
    text = said if isinstance(said, str) else canonical(said)
    tokens_in = (len(request.instructions) + len(request.prompt)) // 4 + 1
    spend = Spend(tokens_in=tokens_in, tokens_out=len(text) // 4 + 1, calls=1)
    return ModelReply(text=text, value=None if isinstance(said, str) else said, spend=spend, estimated=True)
