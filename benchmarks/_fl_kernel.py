"""The kernel's promises counted: hostile replies, random markets."""

import asyncio
import random
import string
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks._fl_bargains import bargain
from benchmarks._fl_outing import VirtualClock
from foa.fl.auction import Bid, auction
from foa.fl.guard import GuardEntry, GuardLimits
from foa.fl.guardian import Condition, Guardian, Limits, Refuse, Terms, TrainAsk
from foa.fl.guardian_model import Guard, ModelGuardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.server import ServerAgent
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId


class Hostile:
    """A model that answers with random strings, wrong types, huge numbers, and now and then something that fits."""

    name, drives_tools = "hostile", False

    def __init__(self, seed: int, *, strings_only: bool = False) -> None:
        self.random = random.Random(seed)
        self.strings_only = strings_only
        self.replies = 0

    def _anything(self) -> Any:
        return self.random.choice(
            [
                self.random.randint(-9, 99),
                self.random.uniform(-9, 900),
                float("nan"),
                float("inf"),
                10**400,
                None,
                True,
                "".join(self.random.choices(string.printable, k=20)),
                ["client-99"],
                {"k": 9},
            ]
        )

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Something."""
        self.replies += 1
        if self.strings_only:
            return ModelReply(text="".join(self.random.choices(string.printable, k=60)), value=None)
        value: Any = {}
        for key, rule in (request.schema or {})["properties"].items():
            plausible = self.random.random() < 0.7
            if plausible and "enum" in rule:
                value[key] = self.random.choice(rule["enum"])
            elif plausible and rule["type"] in ("integer", "number"):
                value[key] = self.random.randint(0, int(min(rule.get("maximum", 20) * 1.3 + 2, 10**6)))
            else:
                value[key] = self._anything()
        if self.random.random() < 0.1:
            value = self._anything()
        return ModelReply(text=repr(type(value)), value=value)

    async def aclose(self) -> None:
        """Nothing to let go of."""


def guard(replies: int) -> dict[str, object]:
    """Ask hostile models until so many replies came; count everything that got past the kernel.

    A tenth of the replies comes from a model that writes random strings and nothing else. Half as many answers of hostile
    clients in negotiations come on top.
    """
    return asyncio.run(_guard(replies))


async def _guard(replies: int) -> dict[str, object]:
    log = list[GuardEntry]()
    model, babbling = Hostile(1), Hostile(2, strings_only=True)
    violations = await _lead(model, log, until=replies * 45 // 100)
    violations += await _lead(babbling, log, until=replies // 20)
    keeper, other = (Guard(asked, VirtualClock(), limits=_PATIENT, log=log.append) for asked in (model, babbling))
    while model.replies < replies * 9 // 10:
        violations += await _one_budget(model, keeper)
    while babbling.replies < replies // 10:
        violations += await _one_budget(babbling, other)
    answers, broken, agreements = bargain(replies // 2, seed=3)
    verdicts = [entry.verdict for entry in log]
    counted = {verdict: verdicts.count(verdict) for verdict in ("accepted", "limited", "fallback")}
    return {
        "replies": model.replies + babbling.replies + answers,
        "of_random_strings": babbling.replies,
        "of_negotiations": answers,
        "agreements": agreements,
        "violations": violations + broken,
        "decisions": len(log),
        **counted,
    }


_PATIENT = GuardLimits(failures=10**9)


async def _lead(model: Hostile, log: list[GuardEntry], *, until: int) -> int:
    """Rounds led by a hostile model until it gave so many replies; what got past the bounds of the run."""
    bounds = Bounds(k_min=2, k_max=8, deadline_min_seconds=5, deadline_max_seconds=100, noise_min=0.5, noise_max=4)
    bounds = replace(bounds, groups=("north", "south"))
    agent = ServerAgent(model, VirtualClock(), bounds=bounds, k=5, rounds=40, limits=_PATIENT, log=log.append)
    everybody, memory, previous, found = [AgentId(f"client-{i}") for i in range(12)], Memory(), None, 0
    for i, client in enumerate(everybody):
        memory = memory.know(client, samples=9, group=("north", "south", "client-99")[i % 3])
    while model.replies < until:
        there = everybody[: model.random.randint(3, 12)]
        choice = await agent.choose(memory, there, previous=previous)
        plan, alive = choice.plan, bounds.alive(len(there))
        found += not alive.k_min <= plan.k <= alive.k_max
        found += not {*choice.clients} <= {*there} or not alive.k_min <= len({*choice.clients}) <= plan.k
        found += not (5 <= plan.deadline_seconds <= 100 and 0.5 <= plan.noise_floor <= 4)
        found += plan.share not in bounds.shares or plan.avoid not in ("", *bounds.groups)
        found += any(memory.devices[client].group == plan.avoid for client in choice.clients)
        previous = plan
        outcomes = [Outcome(client=client, kind="trained", loss=1.0, seconds=9.0) for client in choice.clients]
        memory = memory.after(outcomes, present=there, k=plan.k)
    return found


async def _one_budget(model: Hostile, keeper: Guard) -> int:
    """Thirty rounds of one site behind a hostile model; violations of its budget and limits."""
    found, condition = 0, Condition(records=200)
    plan = NoisyTraining(noise_multiplier=1.5, sample_rate=0.02, steps=100)
    with PrivacyLedger(":memory:", plan_budget(3.0, 1e-4, plan)) as book:
        site = ModelGuardian(Guardian(Limits(epochs_max=3, width_max=0.75, noise_max=6.0), book), keeper)
        for number in range(30):
            noise = model.random.uniform(0.3, 3.0)
            terms = Terms(epochs=5, steps=model.random.randint(1, 300), width=1.0, batch=4, noise_multiplier=noise, clip=1.0)
            ask = TrainAsk(run="r", round=number, purpose="x", terms=terms, deadline_seconds=50.0, cohort=5)
            verdict, _ = await site.consider(ask, condition)
            if isinstance(verdict, Refuse):
                continue
            found += verdict.terms.epochs > 3 or verdict.terms.width > 0.75 or verdict.terms.noise_multiplier < noise
            site.rules.commit(ask, verdict.terms, condition, at=0.0)
            found += book.epsilon_spent > 3.0
    return found


LIES = (0.0, 0.3, 0.7, 0.95, 1.05, 1.4, 2.0, 4.0)


def auctions(markets: int) -> dict[str, object]:
    """Random markets in which each client in turn misreports its cost eight ways."""
    rng, profitable, overspent, tried = np.random.default_rng(0), 0, 0, 0
    for _ in range(markets):
        count, budget = int(rng.integers(1, 12)), float(rng.uniform(1, 20))
        bids = [
            Bid(client=AgentId(f"c{i}"), usd=float(rng.uniform(0.05, 5)), value=float(rng.uniform(0.2, 3)))
            for i in range(count)
        ]
        award = auction(bids, budget_usd=budget)
        overspent += award.usd > budget + 1e-9
        for i, honest in enumerate(bids):
            earned = award.payments.get(honest.client, honest.usd) - honest.usd
            for lie in LIES:
                told = Bid(client=honest.client, usd=honest.usd * lie, value=honest.value)
                paid = auction([*bids[:i], told, *bids[i + 1 :]], budget_usd=budget).payments.get(honest.client)
                profitable += paid is not None and paid - honest.usd > earned + 1e-9
                tried += 1
    return {"markets": markets, "profitable_lies": profitable, "lies": tried, "overspent": overspent}
