"""Ten thousand hostile replies: no invalid id, no k outside its bounds, no budget exceeded, every run completes."""

import json
import random
import string
from dataclasses import replace
from typing import Any

import pytest

from foa.fl.guard import Guard, GuardEntry, GuardLimits
from foa.fl.guardian import Condition, Guardian, Limits, Refuse, Terms, TrainAsk
from foa.fl.guardian_model import ModelGuardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds, RoundPlan
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.server import ServerAgent
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId

REPLIES = 12_000  #: asked of the server agent and the guardians together


class StillClock:
    """A clock that stands."""

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


class Hostile:
    """A model whose replies are random: strings, wrong types, huge numbers, and now and then something that fits."""

    drives_tools = False

    def __init__(self, seed: int, *, strings_only: bool = False) -> None:
        self.name = f"hostile-{seed}"
        self.random = random.Random(seed)
        self.strings_only = strings_only
        self.replies = 0

    def _text(self) -> str:
        return "".join(self.random.choices(string.printable + "�\x00é", k=self.random.randint(0, 60)))

    def _anything(self, depth: int = 0) -> Any:
        made = self.random.choice
        return made(
            [
                lambda: self.random.randint(-5, 60),
                lambda: self.random.uniform(-10, 500),
                lambda: made([float("nan"), float("inf"), -float("inf"), 10**400, -(10**30), True, False, None]),
                self._text,
                lambda: made(
                    ["oort", "random", "fedcs", "fedavg", "krum", "train", "less", "refuse", "client-1", "client-99"]
                ),
                lambda: [] if depth > 2 else [self._anything(depth + 1) for _ in range(self.random.randint(0, 3))],
                lambda: {} if depth > 2 else {self._text(): self._anything(depth + 1)},
            ]
        )()

    async def ask(self, request: ModelRequest) -> ModelReply:
        self.replies += 1
        if self.strings_only:
            return ModelReply(text=self._text(), value=None)
        fields = request.schema["properties"] if request.schema else {}
        value: Any = {key: self._anything() for key in fields if self.random.random() < 0.95}
        for key, rule in fields.items():
            # mostly plausible, so that checks of single fields are reached
            if self.random.random() < 0.7 and "enum" in rule:
                value[key] = self.random.choice(rule["enum"])
            elif self.random.random() < 0.6 and rule["type"] in ("integer", "number"):
                value[key] = self.random.randint(0, int(min(rule.get("maximum", 50) * 1.3 + 2, 10**6)))
        if self.random.random() < 0.05:
            value = self._anything()
        return ModelReply(text=repr(value)[:100], value=value, repairs=self.random.choice([0, 0, 1, -3, 99]))

    async def aclose(self) -> None: ...


PATIENT = GuardLimits(failures=10**9)


@pytest.mark.parametrize("strings_only", [False, True])
async def test_no_reply_makes_the_server_agent_break_its_bounds(strings_only: bool) -> None:
    model, log = Hostile(1, strings_only=strings_only), list[GuardEntry]()
    bounds = Bounds(k_min=2, k_max=8, deadline_min_seconds=5, deadline_max_seconds=100, noise_min=0.5, noise_max=4)
    bounds = replace(bounds, groups=("north", "south"))
    agent = ServerAgent(model, StillClock(), bounds=bounds, k=5, rounds=40, limits=PATIENT, log=log.append)
    present = [AgentId(f"client-{i}") for i in range(12)]
    memory, previous = Memory(), None
    for i, client in enumerate(present):
        memory = memory.know(client, samples=9, group=("north", "south", "client-99")[i % 3])
    while model.replies < REPLIES // (4 if strings_only else 2):
        there = present[: model.random.randint(1, 12)]
        choice = await agent.choose(memory, there, previous=previous)
        plan: RoundPlan = choice.plan
        alive = bounds.alive(len(there))
        assert alive.k_min <= plan.k <= alive.k_max
        assert 1 <= len(choice.clients) <= plan.k
        assert set(choice.clients) <= set(there)
        assert len(set(choice.clients)) == len(choice.clients)
        assert 5 <= plan.deadline_seconds <= 100
        assert 0.5 <= plan.noise_floor <= 4
        assert plan.share in bounds.shares
        assert plan.avoid in ("", *bounds.groups)
        assert not any(memory.devices[client].group == plan.avoid for client in choice.clients)
        assert len(choice.clients) >= alive.k_min
        if previous is not None:
            assert plan.noise_floor >= previous.noise_floor * 0.8
        previous = plan
        outcomes = [Outcome(client=client, kind="trained", loss=1.0, seconds=9.0) for client in choice.clients]
        memory = memory.after(outcomes, present=there, k=plan.k)
    verdicts = {entry.verdict for entry in log}
    assert verdicts == {"fallback"} if strings_only else {"accepted", "limited", "fallback"} == verdicts


@pytest.mark.parametrize("noisy", [False, True])
async def test_no_reply_makes_a_client_exceed_its_budget_or_its_limits(noisy: bool) -> None:
    model = Hostile(2)
    condition, limits = Condition(records=200), Limits(epochs_max=3, width_max=0.75, noise_max=6.0)
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.02, steps=100)
    guard = Guard(model, StillClock(), limits=PATIENT)
    while model.replies < REPLIES // 4:
        with PrivacyLedger(":memory:", plan_budget(3.0, 1e-4, plan)) as book:
            site = ModelGuardian(Guardian(limits, book), guard)
            for number in range(1, 30):
                noise = model.random.uniform(0.3, 3.0) if noisy else 0.0
                terms = Terms(
                    epochs=5, steps=model.random.randint(1, 300), width=1.0, batch=4, noise_multiplier=noise, clip=1.0
                )
                ask = TrainAsk(run="r", round=number, purpose=model._text(), terms=terms, deadline_seconds=50.0, cohort=5)
                verdict, _ = await site.consider(ask, condition)
                if isinstance(verdict, Refuse):
                    continue
                allowed = site.rules.consider(ask, condition)
                assert not isinstance(allowed, Refuse)
                assert verdict.terms.epochs <= allowed.terms.epochs <= 3
                assert verdict.terms.width <= allowed.terms.width <= 0.75
                assert verdict.terms.steps <= allowed.terms.steps
                assert verdict.terms.noise_multiplier >= allowed.terms.noise_multiplier >= noise
                assert replace(verdict.terms, batch=4, clip=1.0) == verdict.terms
                site.rules.commit(ask, verdict.terms, condition, at=0.0)
                assert book.epsilon_spent <= 3.0


async def test_fifty_clients_cost_hardly_more_words_than_five() -> None:
    asked = list[str]()

    class Listening(Hostile):
        async def ask(self, request: ModelRequest) -> ModelReply:
            asked.append(request.instructions + request.prompt + json.dumps(request.schema))
            return await super().ask(request)

    for count in (5, 50):
        agent = ServerAgent(
            Listening(3, strings_only=True),
            StillClock(),
            bounds=Bounds(k_max=5),
            k=5,
            rounds=9,
            limits=GuardLimits(failures=1),
        )
        present, memory = [AgentId(f"client-{i}") for i in range(count)], Memory()
        for i, client in enumerate(present):
            memory = memory.know(client, samples=17 * i + 1)
        await agent.choose(memory, present)
    five, fifty = (len(text) for text in (asked[0], asked[-1]))
    assert fifty <= 1.3 * five
    assert not any("client-" in text for text in asked)
