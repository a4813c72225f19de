"""A guardian that asks a model, within the rules: the model may refuse or ask for less, never allow more.

The rules answer first. If they refuse, no model is asked. Otherwise the model may keep their terms, tighten them, or refuse.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import msgspec

from foa.fl.bidder import Consider
from foa.fl.guard import Checked, Guard, Guarded, GuardEntry, Unfit
from foa.fl.guardian import Accept, Condition, Counter, Guardian, Refuse, Terms, TrainAsk, Verdict
from foa.fl.replies import choice, number, sentence, whole
from foa.ports import ModelRequest

INSTRUCTIONS = """You guard one site's data in federated training. The site's rules already allow the terms shown.
Answer with one JSON object. verdict: train = on these terms; less = on the smaller terms you give; refuse = not this round.
You may lower epochs, steps and width and raise noise_multiplier, never the other way. reason: one short sentence."""


class ModelGuardian:
    """Rules and a model: the stricter wins."""

    def __init__(self, rules: Guardian, guard: Guard, *, spec: str = "") -> None:
        """Make it; `spec` is the owner's wishes in plain words, of which 1,000 characters are shown to the model."""
        self.rules = rules
        self._guard = guard
        self._spec = spec[:1_000]

    async def consider(self, ask: TrainAsk, condition: Condition) -> tuple[Verdict, GuardEntry | None]:
        """Answer an ask without changing anything; the record is None where the rules refused by themselves."""
        ruled = self.rules.consider(ask, condition)
        if isinstance(ruled, Refuse):
            return ruled, None
        decided: Guarded[Verdict] = await self._guard.decide(
            self._request(ask, ruled.terms, condition),
            who=f"guardian/{ask.key}",
            check=lambda value: self._check(value, ask, ruled),
            rule=lambda: ruled,
        )
        return decided.value, decided.entry

    def _check(self, value: Mapping[str, Any], ask: TrainAsk, ruled: Accept | Counter) -> Checked[Verdict]:
        verdict = choice(value, "verdict", ("train", "less", "refuse"))
        reason = sentence(value, "reason", 200) or "its guardian says so"
        if verdict == "train":
            return Checked(value=ruled)
        if verdict == "refuse":
            return Checked(value=Refuse(reason=reason))
        allowed = ruled.terms
        most = max(allowed.noise_multiplier, self.rules.limits.noise_max)
        if allowed.noise_multiplier == 0 and value.get("noise_multiplier"):
            raise Unfit("noise_multiplier must be 0: this round is trained without differential privacy")
        less = replace(
            allowed,
            epochs=whole(value, "epochs", 1, allowed.epochs),
            steps=whole(value, "steps", 1, allowed.steps),
            width=number(value, "width", 0.05, allowed.width),
            noise_multiplier=number(
                value, "noise_multiplier", allowed.noise_multiplier, most if allowed.noise_multiplier else 0.0
            ),
        )
        return Checked(value=Counter(terms=less, reasons=(*getattr(ruled, "reasons", ()), reason)))

    def _request(self, ask: TrainAsk, terms: Terms, condition: Condition) -> ModelRequest:
        told = self.rules.epsilon_told()
        facts = {
            "purpose": ask.purpose[:200],
            "round": ask.round,
            "deadline_seconds": ask.deadline_seconds,
            "pay_usd": ask.usd,
            "terms": {key: item for key, item in msgspec.to_builtins(terms).items() if key not in ("batch", "clip")},
            "battery": condition.battery,
            "plugged": condition.plugged,
            "hour": condition.hour,
            "load": condition.load,
            "privacy": None if told is None else {"budget": told[0], "left": told[1]},
        }
        wishes = f"The owner asks: {self._spec}\n" if self._spec else ""
        return ModelRequest(
            instructions=INSTRUCTIONS,
            prompt=f"{wishes}{msgspec.json.encode(facts).decode()}",
            schema=_schema(terms),
            max_tokens=150,
        )


def on_loop(guardian: ModelGuardian, loop: asyncio.AbstractEventLoop, *, seconds: float = 60.0) -> Consider:
    """The guardian for a client app's thread: it is asked on the loop where its model lives.

    Args:
        guardian: rules and a model.
        loop: must run in another thread; from its own it would wait for itself.
        seconds: after which, or where the loop has ended, the rules decide alone. The guard's own patience is shorter.
    """

    def consider(ask: TrainAsk, condition: Condition) -> tuple[Verdict, GuardEntry | None]:
        if loop.is_closed():
            return guardian.rules.consider(ask, condition), None
        asked = asyncio.run_coroutine_threadsafe(guardian.consider(ask, condition), loop)
        try:
            return asked.result(seconds)
        except (TimeoutError, CancelledError):
            asked.cancel()
            return guardian.rules.consider(ask, condition), None

    return consider


def _schema(terms: Terms) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["verdict", "epochs", "steps", "width", "noise_multiplier", "reason"],
        "properties": {
            "verdict": {"type": "string", "enum": ["train", "less", "refuse"]},
            "epochs": {"type": "integer", "minimum": 1, "maximum": terms.epochs},
            "steps": {"type": "integer", "minimum": 1, "maximum": terms.steps},
            "width": {"type": "number", "minimum": 0.05, "maximum": terms.width},
            "noise_multiplier": {"type": "number", "minimum": terms.noise_multiplier},
            "reason": {"type": "string", "maxLength": 200},
        },
    }
