"""Any OpenAI-compatible endpoint as a Model: OpenAI, Ollama, vLLM, llama.cpp, a gateway.

pydantic-ai drives the loop, the tools, the repairs and the usage limits. The schema goes to the server untouched, as
`response_format`, so that a server which can constrain decoding does; whatever comes back is still looked at here.

    request ─► slot ─► pydantic-ai loop ─► HTTP (429 and 5xx tried again, jittered)
                          │ tool calls ─► Tool (errors go back as text)
                          ▼
                        text ─► fitting_object ─► misfit? ─► asked again, at most twice ─► ModelReplyInvalid
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic_ai import Agent, ModelRetry, TextOutput, capture_run_messages
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.usage import RunUsage, UsageLimits

from foa.errors import ModelReplyInvalid, ModelUnreachable
from foa.models import faults
from foa.models.connection import connect, is_openai
from foa.models.structured import check_bounded, fitting_object
from foa.models.toolbox import ToolLog, wrap_tools
from foa.ports import ModelReply, ModelRequest
from foa.values.budget import Spend

log = logging.getLogger(__name__)

MAX_REPAIRS = 2  #: how often an unusable reply is asked for again
_CHARACTERS_PER_TOKEN = 4  #: for servers that report no usage


class EndpointModel:
    """A language model behind an OpenAI-compatible address. Belongs to one event loop; `async with` it, or `aclose` it."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        name: str | None = None,
        drives_tools: bool = True,
        at_once: int = 4,
        attempts: int = 3,
        seconds: float = 300.0,
        proxied: bool = True,
        with_schema: Mapping[str, object] | None = None,
    ) -> None:
        """Point at an endpoint; nothing is sent yet.

        Args:
            base_url: address of the API, usually ending in `/v1`.
            model: the model's name there.
            api_key: sent as a bearer token; None where none is needed.
            name: for traces and bills; the model's name where none is given.
            drives_tools: whether it can call tools by itself.
            at_once: requests under way at the same time; more wait for their turn, within their own time.
            attempts: how often a request is sent where the server answers 429 or 5xx or cuts the connection.
            seconds: most that one request may take, whatever it asks for.
            proxied: obey the proxy settings of the environment; off for a loopback address.
            with_schema: sent along, in the server's own words, with every request that has a schema.

        Raises:
            ValueError: not an http(s) address, no model name, or a number below 1.
        """
        if not model or at_once < 1:
            raise ValueError("model must be named, and at_once must be at least 1")
        self.base_url = base_url
        self._model_id = model
        self._name = name or model
        self._drives_tools = drives_tools
        self._seconds = seconds
        self._with_schema = dict(with_schema or {})
        self._slots = asyncio.Semaphore(at_once)
        self._provider = connect(base_url, api_key, attempts=attempts, seconds=seconds, proxied=proxied)
        profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=is_openai(base_url))
        self._model = OpenAIChatModel(model, provider=self._provider, profile=profile)

    @property
    def name(self) -> str:
        """For traces and bills."""
        return self._name

    @property
    def drives_tools(self) -> bool:
        """As given: whether it can call tools by itself."""
        return self._drives_tools

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Ask once; see `foa.ports.Model.ask`.

        Raises:
            ModelUnreachable: no answer in time, or the endpoint refused; the sentence says what to do.
            ModelReplyInvalid: unusable after its repairs, or no answer within `request.calls` model calls.
            ValueError: something in the schema has no maximum.
        """
        if request.schema is not None:
            check_bounded(request.schema)
        seconds = min(request.seconds, self._seconds)
        limit = asyncio.timeout(seconds)
        try:
            async with limit, self._slots:
                return await self._converse(request)
        except TimeoutError as error:
            if not limit.expired():
                raise
            why = f"nothing within {seconds:g} s"
            raise ModelUnreachable(faults.unreachable(self.base_url, self._model_id, why=why)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._provider.client.close()

    async def _converse(self, request: ModelRequest) -> ModelReply:
        run = _Run(request=request, began=asyncio.get_running_loop().time())
        agent = Agent(
            self._model,
            output_type=TextOutput(run.judge),
            instructions=request.instructions or None,
            tools=wrap_tools(request.tools, run.tools) if self._drives_tools else (),
            retries={"output": MAX_REPAIRS, "tools": MAX_REPAIRS},
            model_settings=_settings(request, self._with_schema),
            name="foa",
        )
        limits = UsageLimits(request_limit=request.calls, tool_calls_limit=4 * request.calls)
        with capture_run_messages() as run.messages:
            try:
                result = await agent.run(request.prompt, usage=run.usage, usage_limits=limits)
            except ModelAPIError as error:
                raise ModelUnreachable(faults.explain(error, url=self.base_url, model=self._model_id)) from error
            except UsageLimitExceeded as error:
                why = run.problem or f"no answer within {request.calls} calls"
                raise ModelReplyInvalid(why, raw=run.raw, spend=run.spend()) from error
            except AgentRunError as error:
                raise ModelReplyInvalid(run.problem or error.message, raw=run.raw, spend=run.spend()) from error
        if run.estimated:
            log.warning("usage_estimated: %s reports no usage; tokens are guessed from the text's length", self.base_url)
        if run.value is not None and run.responses[-1].finish_reason == "length":
            log.warning("reply_cut: %s stopped at %d tokens; what is whole in it is used", self._name, request.max_tokens)
        return ModelReply(
            text=result.output,
            value=run.value,
            spend=run.spend(),
            estimated=run.estimated,
            repairs=run.repairs,
            tool_calls=tuple(run.tools.names),
        )


@dataclass(slots=True, kw_only=True)
class _Run:
    """What one `ask` gathers while the loop runs."""

    request: ModelRequest
    began: float  #: loop time, seconds
    usage: RunUsage = field(default_factory=RunUsage)
    messages: list[ModelMessage] = field(default_factory=list)
    tools: ToolLog = field(default_factory=ToolLog)
    value: dict[str, Any] | None = None
    problem: str = ""  #: why the last reply was not usable

    async def judge(self, text: str) -> str:
        """Take a usable reply; ask for a better one otherwise."""
        if self.request.schema is None:
            return text
        try:
            self.value = fitting_object(text, self.request.schema)
        except ValueError as error:
            self.problem = str(error)
            raise ModelRetry(
                f"{error}. Answer again with one short JSON object that fits the schema, and nothing else."
            ) from None
        return text

    @property
    def responses(self) -> list[ModelResponse]:
        return [message for message in self.messages if isinstance(message, ModelResponse)]

    @property
    def raw(self) -> str:
        """The last text that came."""
        texts = [part.content for message in self.responses for part in message.parts if isinstance(part, TextPart)]
        return texts[-1] if texts else ""

    @property
    def repairs(self) -> int:
        """Replies that were neither the last nor a round of tools."""
        return min(MAX_REPAIRS, sum(not message.tool_calls for message in self.responses[:-1]))

    @property
    def estimated(self) -> bool:
        return bool(self.responses) and not self.usage.output_tokens and not self.usage.input_tokens

    def spend(self) -> Spend:
        """What it cost, failed replies included."""
        tokens_in, tokens_out = self.usage.input_tokens, self.usage.output_tokens
        if self.estimated:
            asked = len(self.request.instructions) + len(self.request.prompt)
            said = sum(len(str(part)) for message in self.responses for part in message.parts)
            tokens_in = len(self.responses) * asked // _CHARACTERS_PER_TOKEN + 1
            tokens_out = said // _CHARACTERS_PER_TOKEN + 1
        seconds = asyncio.get_running_loop().time() - self.began
        return Spend(tokens_in=tokens_in, tokens_out=tokens_out, calls=self.usage.requests, seconds=seconds)


def _settings(request: ModelRequest, with_schema: Mapping[str, object]) -> OpenAIChatModelSettings:
    settings = OpenAIChatModelSettings(max_tokens=request.max_tokens, temperature=request.temperature)
    if request.schema is not None:
        shape = {"name": "reply", "schema": dict(request.schema), "strict": True}
        settings["extra_body"] = {**with_schema, "response_format": {"type": "json_schema", "json_schema": shape}}
    return settings
