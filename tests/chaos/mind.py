"""A language model that says what a test lets it say: fitted to the schema it is asked for, counted by agent and subtask."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.openai_peer import Answer, Peer, openai_peer, says

TASK = "How does the fabric route a task to agents?"
SUBTASKS = ["Find the code that routes a task to agents", "Explain the history of how agents are scored for a task"]
#: No two agents say the same, so that there is something to refine.
WORDS = {
    "alpha": "The router compares capability vectors and multiplies four factors.",
    "beta": "Everything goes through an index whose neighbours pass policy gates first.",
    "gamma": "A threshold keeps weak candidates away before teams are staffed exactly.",
}

_WHO = re.compile(r"You are agent (\w+)\.")
_ABOUT = re.compile(r"Question: (.*)")


class Mind:
    """Answers for every agent; `hold(kind)` keeps answers of one kind back until `release(kind)`.

    Kinds: propose, draft, revise, synthesise.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.calls: Counter[tuple[str, str, str]] = Counter()  #: (kind, agent, subtask) → model calls
        self.heard = asyncio.Event()
        self.edges: list[list[int]] = []  #: of the plans it proposes; without any, no answer becomes evidence for another
        self._gates: dict[str, asyncio.Event] = {}

    def hold(self, *kinds: str) -> None:
        for kind in kinds:
            self._gates[kind] = asyncio.Event()

    def release(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    @property
    def working(self) -> int:
        """Questions that are not answered yet."""
        return self._peer.working

    def asked(self, kind: str) -> int:
        """How often it was asked for this."""
        return sum(count for (of, _, _), count in self.calls.items() if of == kind)

    async def busy(self, kind: str, count: int = 1) -> None:
        """Wait until it was asked for this so often."""
        async with asyncio.timeout(30):
            while self.asked(kind) < count:
                self.heard.clear()
                await self.heard.wait()

    def gate(self, asked: dict[str, Any]) -> asyncio.Event | None:
        return self._gates.get(_kind(asked))

    def answer(self, asked: dict[str, Any]) -> Answer:
        kind, system, prompt = _kind(asked), _text(asked, "system"), _text(asked, "user")
        who = found[1] if (found := _WHO.search(system)) else "agent-0"
        about = found[1].strip() if (found := _ABOUT.search(prompt)) else ""
        self.calls[kind, who, about] += 1
        self.heard.set()
        if kind == "propose":
            return says(json.dumps({"subtasks": SUBTASKS, "edges": self.edges}))
        if kind == "revise":
            return says(json.dumps({"critique": f"{who} sees no source", "answer": WORDS[who]}))
        if kind == "draft":
            return says(f"{WORDS[who]} ({about})")
        return says("All of it in one answer.")


def _kind(asked: dict[str, Any]) -> str:
    shape = asked.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    if "subtasks" in shape:
        return "propose"
    if "critique" in shape:
        return "revise"
    return "draft" if _WHO.search(_text(asked, "system")) else "synthesise"


def _text(asked: dict[str, Any], role: str) -> str:
    return "\n".join(str(message.get("content", "")) for message in asked["messages"] if message["role"] == role)


@asynccontextmanager
async def thinking() -> AsyncIterator[tuple[Mind, str]]:
    """A mind behind an OpenAI-compatible address, while the block lasts."""
    async with openai_peer(says("")) as peer:
        mind = Mind(peer)
        peer.by, peer.gate = mind.answer, mind.gate
        try:
            yield mind, peer.base_url
        finally:
            mind.release()
