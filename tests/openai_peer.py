"""The other side of an OpenAI-compatible endpoint: real HTTP on a free loopback port, answers and faults by script."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted HTTP response."""

    status: int = 200
    body: bytes = b""
    headers: tuple[str, ...] = ()
    silent: bool = False  #: never answer
    cut: bool = False  #: close before the promised length


def says(text: str, *, usage: dict[str, int] | None = USAGE, finish: str = "stop") -> Answer:
    return _completion({"role": "assistant", "content": text}, usage, finish)


def calls(*tools: tuple[str, dict[str, Any]]) -> Answer:
    made = [
        {"id": f"call-{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(tools)
    ]
    return _completion({"role": "assistant", "content": None, "tool_calls": made}, USAGE, "tool_calls")


def refuses(status: int, message: str = "no") -> Answer:
    return Answer(status=status, body=json.dumps({"error": {"message": message, "type": "error", "code": None}}).encode())


def embeds(*vectors: Sequence[float]) -> Answer:
    data = [{"object": "embedding", "index": place, "embedding": list(vector)} for place, vector in enumerate(vectors)]
    return Answer(body=json.dumps({"object": "list", "model": "m", "data": data, "usage": USAGE}).encode())


def _completion(message: dict[str, Any], usage: dict[str, int] | None, finish: str) -> Answer:
    choice = {"index": 0, "finish_reason": finish, "message": message}
    body = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Answer(body=json.dumps(body | ({"usage": usage} if usage else {})).encode())


@dataclass(slots=True, kw_only=True)
class Peer:
    """What it was asked, and what it will say: `answers` in order, the last one again and again."""

    base_url: str = ""
    answers: list[Answer] = field(default_factory=list)
    by: Callable[[dict[str, Any]], Answer] | None = None  #: answers instead, from the request
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    working: int = 0
    most_at_once: int = 0
    held: asyncio.Event | None = None  #: responses wait for it
    gate: Callable[[dict[str, Any]], asyncio.Event | None] = lambda asked: None  #: the response to this one waits for it
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Any] = field(default_factory=list)  #: closed with the peer

    async def wait_for_requests(self, count: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.asked) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.writers.discard(writer)
        self.left.set()

    def _next(self, asked: dict[str, Any]) -> Answer:
        if self.by is not None:
            return self.by(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        for writer in self.writers:
            writer.close()
        while self.writers:
            self.left.clear()
            await self.left.wait()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
        asked = json.loads(await reader.readexactly(length))
        answer = self._next(asked)
        self.working += 1
        self.most_at_once = max(self.most_at_once, self.working)
        async with self.arrived:
            self.headers.append(head)
            self.asked.append(asked)
            self.arrived.notify_all()
        try:
            if answer.silent:
                await reader.read()
                return False
            for gate in (self.held, self.gate(asked)):
                if gate is not None:
                    await gate.wait()
        finally:
            self.working -= 1
        writer.write(_http(answer))
        await writer.drain()
        return not answer.cut


def _http(answer: Answer) -> bytes:
    promised = len(answer.body) + (10 if answer.cut else 0)
    lines = [f"HTTP/1.1 {answer.status} X", "Content-Type: application/json", f"Content-Length: {promised}", *answer.headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body


@contextlib.asynccontextmanager
async def openai_peer(*answers: Answer, by: Callable[[dict[str, Any]], Answer] | None = None) -> AsyncIterator[Peer]:
    peer = Peer(answers=list(answers), by=by)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    peer.base_url = f"http://{host}:{port}/v1"
    try:
        yield peer
    finally:
        server.close()
        await peer.close()
