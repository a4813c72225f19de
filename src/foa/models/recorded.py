"""Real exchanges with a model, kept in a file and replayed by the hash of the request: tests without a model.

One JSON object a line: `{"key": …, "request": {…}, "reply": {…}}`. The request is there for people; the key decides.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from foa.errors import BadInput
from foa.models.structured import canonical
from foa.ports import Model, ModelReply, ModelRequest
from foa.values.budget import Spend

_MAX_LINE = 1_000_000


class UnknownPrompt(LookupError):
    """A recorded model was asked what nobody recorded. Not a FabricError: no fallback may hide it in a test."""


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    value: dict[str, Any] | None = None
    spend: Spend = Spend()
    estimated: bool = False
    repairs: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    tool_calls: tuple[str, ...] = ()


class _Exchange(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    request: dict[str, Any]
    reply: _Reply


class RecordedModel:
    """Replays a file of exchanges; with `inner`, asks it what is not there and records that."""

    def __init__(self, path: Path, *, inner: Model | None = None, name: str = "recorded", drives_tools: bool = True) -> None:
        """Read the file.

        Args:
            path: JSON lines; need not exist when `inner` is given.
            inner: answers what is not recorded.
            name: for traces, where there is no `inner`.
            drives_tools: as the recorded model did, where there is no `inner`.

        Raises:
            BadInput: no file, or a line of it is not usable; the message has the line's number.
        """
        self._path = path
        self._inner = inner
        self._name = name
        self._drives_tools = drives_tools
        self._replies = _read(path) if path.exists() or inner is None else {}

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self._inner.name if self._inner else self._name

    @property
    def drives_tools(self) -> bool:
        """As the inner model's."""
        return self._inner.drives_tools if self._inner else self._drives_tools

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Give the recorded reply.

        Raises:
            UnknownPrompt: it is not recorded, and there is nobody to ask.
            ModelUnreachable: the inner model does not answer.
            ModelReplyInvalid: the inner model's reply is unusable; nothing is recorded.
        """
        key = request_key(request)
        if key not in self._replies:
            if self._inner is None:
                shown = request.prompt[:200].replace("\n", " ")
                raise UnknownPrompt(
                    f"{self._path} has no reply to {key[:12]} ({shown!r}): record it again with a real model"
                )
            self._append(key, request, await self._inner.ask(request))
        return self._replies[key]

    async def aclose(self) -> None:
        """Let go of the inner model."""
        if self._inner is not None:
            await self._inner.aclose()

    def _append(self, key: str, request: ModelRequest, reply: ModelReply) -> None:
        self._replies[key] = reply
        line = msgspec.json.encode({"key": key, "request": _described(request), "reply": reply})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line + b"\n")


def request_key(request: ModelRequest) -> str:
    """SHA-256 over what a model sees of a request: not its time or its number of calls."""
    return hashlib.sha256(canonical(_described(request)).encode()).hexdigest()


def _described(request: ModelRequest) -> dict[str, Any]:
    return {
        "instructions": request.instructions,
        "prompt": request.prompt,
        "schema": request.schema,
        "tools": [tool.name for tool in request.tools],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }


def _read(path: Path) -> dict[str, ModelReply]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"recorded replies {path} cannot be read: {error.strerror}") from error
    replies: dict[str, ModelReply] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(line) > _MAX_LINE:
            raise BadInput(f"{path}:{number}: the line is over {_MAX_LINE:,} bytes")
        try:
            exchange = msgspec.json.decode(line, type=_Exchange)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not a recorded exchange: {error}") from error
        replies[exchange.key] = _reply(exchange.reply)
    return replies


def _reply(read: _Reply) -> ModelReply:
    fields: Mapping[str, Any] = {name: getattr(read, name) for name in read.__struct_fields__}
    return ModelReply(**fields)
