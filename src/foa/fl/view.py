"""What the server agent sees of its clients: aggregates of bounded size, however many clients there are.

No client is described and none is named, so that a client's own words cannot steer the choice and fifty clients cost hardly
more tokens than five.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from foa.errors import BadInput
from foa.fl.memory import Candidate, Memory
from foa.ports import Tool

_POINTS = (10, 50, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """How one round went, as later decisions see it."""

    round: int
    selector: str
    k: int
    trained: int
    refused: int
    lost: int
    seconds: float
    loss: float | None  #: on the server's held-out data
    worst: float | None = None  #: mean accuracy of the worst-served tenth of clients, 0 to 1
    suspects: int = 0  #: updates screened out


def fleet(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The clients that are there, as counts and percentiles (10th, 50th, 90th)."""
    turns = np.array([candidate.rounds for candidate in candidates], dtype=float)
    jain = float(turns.sum() ** 2 / (len(turns) * (turns**2).sum())) if turns.any() else 1.0
    return {
        "clients": len(candidates),
        "never_trained": int((turns == 0).sum()),
        "round_seconds": _points([candidate.seconds for candidate in candidates]),
        "samples": _points([candidate.samples for candidate in candidates]),
        "loss": _points([candidate.loss for candidate in candidates if candidate.loss is not None]),
        "accuracy": _points([candidate.accuracy for candidate in candidates if candidate.accuracy is not None]),
        "fairness_jain": round(jain, 2),
        "full_width": sum(candidate.width >= 1 for candidate in candidates),
    }


def history(records: Sequence[RoundRecord], last: int = 3) -> list[dict[str, Any]]:
    """The last few rounds, newest last."""
    shown = list[dict[str, Any]]()
    for record in records[-last:]:
        row = msgspec.to_builtins(record)
        shown.append(
            {key: round(item, 3) if isinstance(item, float) else item for key, item in row.items() if item is not None}
        )
    return shown


def _points(values: Sequence[float | int]) -> list[float]:
    return [float(f"{value:.3g}") for value in np.percentile(values, _POINTS)] if values else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A tool without side effects that answers from what is known this round."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    facts: Mapping[str, Any]  #: answer by the value of the one argument `of`

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The fact, as JSON.

        Raises:
            BadInput: there is no such fact.
        """
        found = self.facts.get(str(arguments.get("of", ""))[:64])
        if found is None:
            raise BadInput(f"`of` must be one of: {', '.join(self.facts)}")
        return msgspec.json.encode(found).decode()


def tools(memory: Memory, candidates: Sequence[Candidate], records: Sequence[RoundRecord]) -> tuple[Tool, ...]:
    """What a model that can call tools may look up."""
    facts = {
        "fleet": fleet(candidates),
        "history": history(records, last=10),
        "trouble": {
            "refusals": sum(device.refusals for device in memory.devices.values()),
            "losses": sum(device.losses for device in memory.devices.values()),
            "quarantined": sum(memory.is_quarantined(client) for client in memory.devices),
        },
        "night": {"round_seconds": _points(_at_night(memory))},
    }
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["of"],
        "properties": {"of": {"type": "string", "enum": list(facts)}},
    }
    return (Question(name="look", description="Facts about clients and past rounds", parameters=schema, facts=facts),)


def _at_night(memory: Memory) -> list[float]:
    parts = [device.by_part_of_day[0] for device in memory.devices.values()]
    return [part for part in parts if part is not None]
