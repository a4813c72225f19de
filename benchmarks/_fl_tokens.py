"""Tokens of one decision's question over 5 and over 50 clients, counted by the embedded model's own tokenizer."""

import json
from collections.abc import Mapping

import httpx
import numpy as np

from benchmarks._fl_outing import VirtualClock
from foa.app.settings import Settings
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds
from foa.fl.server import INSTRUCTIONS, ServerAgent
from foa.models.embedded import EmbeddedModel
from foa.models.llama_server import EmbeddedServer
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId

COUNTS = (5, 50)


class Listening:
    """Takes down what a model would be sent and what every tool would answer, and gives no usable reply."""

    name, drives_tools = "listening", True

    def __init__(self) -> None:
        self.asked = ""
        self.looked_up = ""

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Nothing; the rule decides."""
        self.asked = f"{request.instructions}\n{request.prompt}"
        answers = [await tool({"of": of}) for tool in request.tools for of in tool.parameters["properties"]["of"]["enum"]]
        self.looked_up = "\n".join(answers)
        return ModelReply(text="", value=None, repairs=2)

    async def aclose(self) -> None:
        """Nothing to let go of."""


async def tokens(settings: Settings) -> dict[str, object]:
    """Tokens of instructions and prompt; the same with every answer of its tools; and raw.

    `raw` describes every client in one line, as a prompt without aggregates would. What a decision takes in all, reply
    included, is in the rows of the selection, by the usage that the model reported.
    """
    found: dict[str, dict[int, int]] = {"question": {}, "with_tools": {}, "raw": {}}
    async with EmbeddedModel(settings.cache_dir) as model:
        server = await model.start()
        async with httpx.AsyncClient(trust_env=False, timeout=60.0) as client:
            for clients in COUNTS:
                for what, text in (await _texts(clients)).items():
                    found[what][clients] = await _count(client, server, text)
        name = model.name
    few, many = COUNTS
    ratios = {what: round(counted[many] / counted[few], 3) for what, counted in found.items()}
    return {
        "ratio_5_to_50": ratios["question"],
        "ratio_5_to_50_with_tools": ratios["with_tools"],
        "ratio_5_to_50_raw": ratios["raw"],
        "tokens": found,
        "counted_by": f"the tokenizer of {name}",
    }


async def _texts(clients: int) -> Mapping[str, str]:
    memory, everybody = _fleet(clients)
    listening = Listening()
    # k is bounded alike, so that only the number of clients differs
    await ServerAgent(listening, VirtualClock(), bounds=Bounds(k_max=5), k=4, rounds=20).choose(memory, everybody)
    described = "\n".join(json.dumps({"id": client, **_facts(memory, client)}) for client in everybody)
    return {
        "question": listening.asked,
        "with_tools": f"{listening.asked}\n{listening.looked_up}",
        "raw": f"{INSTRUCTIONS}\n{described}",
    }


async def _count(client: httpx.AsyncClient, server: EmbeddedServer, text: str) -> int:
    reply = await client.post(
        f"{server.base_url.removesuffix('/v1')}/tokenize",
        json={"content": text},
        headers={"Authorization": f"Bearer {server.api_key}"},
    )
    reply.raise_for_status()
    return len(reply.json()["tokens"])


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


def _facts(memory: Memory, client: AgentId) -> Mapping[str, object]:
    seen = memory.candidate(client)
    return {"samples": seen.samples, "seconds": round(seen.seconds, 1), "loss": seen.loss, "rounds": seen.rounds}
