"""Tokens of one decision over 5 and over 50 clients, as the model's own server counts them."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks._fl_outing import VirtualClock
from foa.app.models import open_model
from foa.app.settings import Settings
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds
from foa.fl.server import INSTRUCTIONS, ServerAgent
from foa.ports import Model, ModelReply, ModelRequest
from foa.values.ids import AgentId

COUNTS = (5, 50)


class Listening:
    """Takes down what it is sent, what every tool would answer, and passes the question on."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner
        self.asked: ModelRequest | None = None
        self.looked_up = ""

    @property
    def name(self) -> str:
        """As the inner model's."""
        return self._inner.name

    @property
    def drives_tools(self) -> bool:
        """As the inner model's."""
        return self._inner.drives_tools

    async def ask(self, request: ModelRequest) -> ModelReply:
        """The inner model's reply."""
        self.asked = request
        answers = [await tool({"of": of}) for tool in request.tools for of in tool.parameters["properties"]["of"]["enum"]]
        self.looked_up = "\n".join(answers)
        return await self._inner.ask(request)

    async def aclose(self) -> None:
        """The inner model belongs to somebody else."""


async def tokens(settings: Settings) -> dict[str, object]:
    """Tokens by the usage that the model of the settings reports: of the decision, with every tool's answer, and raw.

    `raw` describes every client in one line, as a prompt without aggregates would.
    """
    decision, tools, raw = dict[int, int](), dict[int, int](), dict[int, int]()
    async with open_model(settings) as model:
        for count in COUNTS:
            memory, everybody = _fleet(count)
            listening = Listening(model)
            # k is bounded alike, so that only the number of clients differs
            agent = ServerAgent(listening, VirtualClock(), bounds=Bounds(k_max=5), k=4, rounds=20)
            entry = (await agent.choose(memory, everybody)).entry
            asked = listening.asked
            assert asked is not None
            decision[count] = entry.spend.tokens // max(1, entry.spend.calls)
            tools[count] = await _prompt_tokens(model, asked, f"{asked.prompt}\n{listening.looked_up}")
            described = "\n".join(json.dumps({"id": client, **_facts(memory, client)}) for client in everybody)
            raw[count] = await _prompt_tokens(model, asked, described)
        name = model.name
    few, many = COUNTS
    return {
        "ratio_5_to_50": round(decision[many] / decision[few], 3),
        "ratio_5_to_50_with_tools": round(tools[many] / tools[few], 3),
        "ratio_5_to_50_raw": round(raw[many] / raw[few], 2),
        "tokens": decision,
        "tokens_with_tools": tools,
        "tokens_raw": raw,
        "counted_by": f"usage that {name} reported",
    }


def _fleet(count: int) -> tuple[Memory, list[AgentId]]:
    rng, memory = np.random.default_rng(count), Memory()
    everybody = [AgentId(f"client-{i:02}") for i in range(count)]
    for number in range(8):
        outcomes = [
            Outcome(client=client, kind="trained", loss=float(rng.uniform(0.1, 2)), seconds=float(rng.uniform(1, 60)))
            for client in everybody[:: number + 1]
        ]
        memory = memory.after(outcomes, present=everybody, k=4)
    return memory, everybody


async def _prompt_tokens(model: Model, like: ModelRequest, prompt: str) -> int:
    """Of instructions and prompt; the reply is cut to a few words and not counted."""
    asked = replace(like, instructions=INSTRUCTIONS, prompt=prompt, schema=None, tools=(), max_tokens=4)
    return (await model.ask(asked)).spend.tokens_in


def _facts(memory: Memory, client: AgentId) -> Mapping[str, object]:
    seen = memory.candidate(client)
    return {"samples": seen.samples, "seconds": round(seen.seconds, 1), "loss": seen.loss, "rounds": seen.rounds}
