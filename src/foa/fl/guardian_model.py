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
You may lower epochs, steps and width and raise noise_multiplier, never the other way. reason: a few words."""

REASON_CHARACTERS = 80


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
        reason = sentence(value, "reason", REASON_CHARACTERS) or "its guardian says so"
        if verdict == "train":
            return Checked(value=ruled)
        if verdict == "refuse":
            return Checked(value=Refuse(reason=reason))
        allowed = ruled.terms
        if allowed.noise_multiplier == 0 and value.get("noise_multiplier"):
            raise Unfit("noise_multiplier must be 0: this round is trained without differential privacy")
        # a term that the answer leaves out stays as the rules have it
        given = {**msgspec.to_builtins(allowed), **value}
        less = replace(
            allowed,
            epochs=whole(given, "epochs", 1, allowed.epochs),
            steps=whole(given, "steps", 1, allowed.steps),
            width=number(given, "width", min(0.05, allowed.width), allowed.width),
            noise_multiplier=number(given, "noise_multiplier", allowed.noise_multiplier, self._noise_most(allowed)),
        )
        return Checked(value=Counter(terms=less, reasons=(*getattr(ruled, "reasons", ()), reason)))

    def _noise_most(self, allowed: Terms) -> float:
        return max(allowed.noise_multiplier, self.rules.limits.noise_max) if allowed.noise_multiplier else 0.0

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
            schema=_schema(terms, self._noise_most(terms)),
            max_tokens=120,
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


def _schema(terms: Terms, noise_most: float) -> dict[str, Any]:
    """JSON Schema of an answer; where a term can be less, it is one of a few shares of what is allowed.

    Choices rather than ranges, because a small model that is held to a grammar can pick, and can hardly count; what leaves
    no choice is not asked.
    """
    shares = (1.0, 0.75, 0.5, 0.25)
    choices: dict[str, list[float]] = {
        "epochs": sorted({max(1, round(terms.epochs * share)) for share in shares}),
        "steps": sorted({max(1, round(terms.steps * share)) for share in shares}),
        "width": sorted({max(0.05, float(f"{terms.width * share:.3g}")) for share in shares[1:]} | {terms.width}),
        "noise_multiplier": sorted(
            {min(noise_most, float(f"{terms.noise_multiplier / share:.3g}")) for share in shares[1:3]}
            | {terms.noise_multiplier}
        ),
    }
    asked = {name: {"type": "number", "enum": values} for name, values in choices.items() if len(values) > 1}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["verdict", *asked, "reason"],
        "properties": {
            "verdict": {"type": "string", "enum": ["train", "less", "refuse"]},
            **asked,
            "reason": {"type": "string", "maxLength": REASON_CHARACTERS},
        },
    }
