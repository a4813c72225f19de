"""A small federation's worth of agents in memory, shared by the tests of the other end of the wire."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from foa.agents.brain import Agent
from foa.agents.host import AgentHost
from foa.errors import FabricError
from foa.messages import DraftRequest, Propose, Reply, decode, encode
from foa.ports import Clock, Delivery, ModelReply, ModelRequest, Transport
from foa.state.memory import MemoryReplies
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.budget import Budget, Spend
from foa.values.publication import Filter, Publication
from foa.values.task import Task
from foa.values.topics import Topics
from foa.values.vcv import Matrix
from tests.fakes import HandClock

PLENTY = Budget(usd=1.0, tokens=100_000, calls=100, seconds=30.0)
REPLIES = "foa/orchestrators/agent-0/replies"


class WordEmbedder:
    """Embeds by hashing words: the same words give the same direction, in every process."""

    id = "words-64:1"
    dimension = 64

    async def embed(self, texts: Sequence[str]) -> Matrix:
        rows = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[sum(word.encode()) % self.dimension] += 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class CannedModel:
    """Gives its replies in order, the last one again and again; remembers what it was asked."""

    name = "canned"

    def __init__(self, *replies: str | Mapping[str, Any] | FabricError, drives_tools: bool = False) -> None:
        self._replies = list(replies)
        self.drives_tools = drives_tools
        self.asked: list[ModelRequest] = []
        self.gate: asyncio.Event | None = None  #: when there is one, replies wait for it

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, FabricError):
            raise reply
        spend = Spend(tokens_in=100, tokens_out=20, calls=1)
        return (
            ModelReply(text=reply, spend=spend) if isinstance(reply, str) else ModelReply(text="", value=reply, spend=spend)
        )

    async def aclose(self) -> None:
        pass


class Asker:
    """Agent-0's end: sends requests, collects replies."""

    def __init__(self, transport: Transport, inbox: Any) -> None:
        self._transport = transport
        self._inbox = inbox
        self.topics = Topics()

    async def send(
        self, agent: str, message: object, *, key: str = "", correlation: bytes = b"1", topic: str = REPLIES
    ) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        await self._transport.publish(
            Publication(
                topic=self.topics.tasks(agent),  # type: ignore[arg-type]
                payload=payload,
                response_topic=topic or None,
                correlation_data=correlation,
                user_properties=(("foa-key", key),) if key else (),
            )
        )

    async def reply(self) -> tuple[bytes, Reply]:
        async with asyncio.timeout(5):
            delivery: Delivery = await anext(self._inbox)
        await delivery.acknowledge()
        return delivery.publication.correlation_data or b"", decode(delivery.publication.payload, Reply)

    async def ask(self, agent: str, message: object, *, key: str = "") -> Reply:
        await self.send(agent, message, key=key)
        return (await self.reply())[1]


@asynccontextmanager
async def asking(hub: MemoryHub) -> AsyncGenerator[Asker]:
    async with (
        MemoryTransport(hub, client_id="agent-0") as transport,
        transport.subscribe(Filter(topic_filter=REPLIES)) as inbox,
    ):
        yield Asker(transport, inbox)


@asynccontextmanager
async def hosting(hub: MemoryHub, *agents: Agent, clock: Clock | None = None, **more: Any) -> AsyncGenerator[AgentHost]:
    clock = clock or HandClock()
    more.setdefault("replies", MemoryReplies(clock))
    async with MemoryTransport(hub, client_id="host-" + agents[0].profile.agent_id) as transport:
        host = AgentHost(transport, agents, embedder=WordEmbedder(), clock=clock, drain_seconds=0.2, **more)
        async with host.serve():
            yield host


def propose(text: str, **changes: Any) -> Propose:
    return Propose(
        **{"job": "job-1", "task": Task(text=text), "subtasks_min": 2, "subtasks_max": 4, "budget": PLENTY} | changes
    )


def drafting(text: str, **changes: Any) -> DraftRequest:
    task = changes.pop("task", Task(text=text))
    return DraftRequest(**{"job": "job-1", "subtask": "s1", "text": text, "task": task, "budget": PLENTY} | changes)
