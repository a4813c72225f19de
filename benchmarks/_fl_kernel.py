"""The kernel's promises counted: hostile replies, random markets, poisoned rounds, words for a decision."""

import asyncio
import json
import random
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._fl_digits import measure, mnist, shared, start, train
from benchmarks._fl_selection import Still
from foa.fl.aggregate import Update, clipped_mean, fedavg, fltrust, median, multikrum, trimmed_mean
from foa.fl.auction import Bid, auction
from foa.fl.guard import GuardEntry, GuardLimits
from foa.fl.guardian import Condition, Guardian, Limits, Refuse, Terms, TrainAsk
from foa.fl.guardian_model import Guard, ModelGuardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.server import INSTRUCTIONS, ServerAgent
from foa.fl.sift import sift
from foa.ports import ModelReply, ModelRequest
from foa.values.ids import AgentId


class Hostile:
    """A model that answers with random strings, wrong types, huge numbers, and now and then something that fits."""

    name, drives_tools = "hostile", False

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
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
    """Ask hostile models until so many replies came; count everything that got past the kernel."""
    return asyncio.run(_guard(replies))


async def _guard(replies: int) -> dict[str, object]:
    model, log, violations = Hostile(1), list[GuardEntry](), 0
    bounds = Bounds(k_min=2, k_max=8, deadline_min_seconds=5, deadline_max_seconds=100, noise_min=0.5, noise_max=4)
    patient = GuardLimits(failures=10**9)
    agent = ServerAgent(model, Still(), bounds=bounds, k=5, rounds=40, limits=patient, log=log.append)
    everybody, memory, previous, runs = [AgentId(f"client-{i}") for i in range(12)], Memory(), None, 0
    while model.replies < replies // 2:
        there = everybody[: model.random.randint(3, 12)]
        choice = await agent.choose(memory, there, previous=previous)
        plan, alive = choice.plan, bounds.alive(len(there))
        violations += not alive.k_min <= plan.k <= alive.k_max
        violations += not {*choice.clients} <= {*there} or not 1 <= len({*choice.clients}) <= plan.k
        violations += not (5 <= plan.deadline_seconds <= 100 and 0.5 <= plan.noise_floor <= 4)
        previous, runs = plan, runs + 1
        outcomes = [Outcome(client=client, kind="trained", loss=1.0, seconds=9.0) for client in choice.clients]
        memory = memory.after(outcomes, present=there, k=plan.k)
    keeper = Guard(model, Still(), limits=patient, log=log.append)
    while model.replies < replies:
        violations += await _one_budget(model, keeper)
        runs += 1
    verdicts = [entry.verdict for entry in log]
    counted = {verdict: verdicts.count(verdict) for verdict in ("accepted", "limited", "fallback")}
    return {"replies": model.replies, "violations": violations, "decisions": len(log), **counted}


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


CLIENTS, ROUNDS = 20, 15
ATTACKS = ("weights × −20", "step × −5")


def robust(seeds: int, *, shares: Sequence[float]) -> dict[str, object]:
    """A row for each rule: accuracy without poison, and with each share of poisoned clients under the worse of two attacks.

    All clients train in every round.
    """
    rows: dict[str, object] = {}
    for rule in ("fedavg", "clipped", "median", "trimmed-mean", "multikrum", "fltrust", "screen+fedavg", "screen+multikrum"):
        row: dict[str, object] = {"clean": _mean(rule, 0.0, ATTACKS[0], seeds)}
        for share in shares:
            by_attack = {attack: _mean(rule, share, attack, seeds) for attack in ATTACKS}
            row[f"poisoned_{share:.0%}".rstrip("%")] = min(by_attack.values())
            row[f"poisoned_{share:.0%}".rstrip("%") + "_by_attack"] = by_attack
        rows[rule] = row
    return rows


def _mean(rule: str, share: float, attack: str, seeds: int) -> float:
    return round(float(np.mean([_poisoned(rule, share, attack, seed) for seed in range(seeds)])), 4)


def _poisoned(rule: str, share: float, attack: str, seed: int) -> float:
    x, y = mnist()
    parts, test = shared(CLIENTS, 0.5, seed)
    clean, test = test[:100], test[100:]  # the server's own records, for FLTrust alone
    bad, weights = round(share * CLIENTS), start(seed)
    for number in range(ROUNDS):
        updates = list[Update]()
        for i, part in enumerate(parts):
            local = train(weights, x[part], y[part], epochs=2, seed=seed * 10_000 + number * 100 + i)
            if i < bad:
                local = {
                    name: -20 * array if attack == ATTACKS[0] else weights[name] - 5 * (array - weights[name])
                    for name, array in local.items()
                }
            updates.append(Update(client=AgentId(f"c{i:02}"), arrays=local, samples=len(part)))
        if rule == "fltrust":
            own = train(weights, x[clean], y[clean], epochs=2, seed=number)
            weights = fltrust(weights, updates, trusted=own)
        elif rule.startswith("screen+"):
            named = rule.removeprefix("screen+")
            weights = sift(weights, updates, rule=named, validate=None, losses=()).model  # type: ignore[assignment]
        else:
            rules = {
                "fedavg": fedavg,
                "clipped": clipped_mean,
                "median": median,
                "trimmed-mean": lambda base, rows: trimmed_mean(base, rows, share=0.45),
                "multikrum": multikrum,
            }
            weights = rules[rule](weights, updates)  # type: ignore[assignment]
    return measure(weights, x[test], y[test])[1]


class Listening:
    """Takes down what a model would be sent, and answers nothing usable."""

    name, drives_tools = "listening", False

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Nothing."""
        self.heard.append(request.instructions + request.prompt)
        return ModelReply(text="", value=None)

    async def aclose(self) -> None:
        """Nothing to let go of."""


async def tokens() -> dict[str, object]:
    """Characters of one decision's question over 5 and over 50 clients; a model's tokens grow with them.

    The baseline describes every client in one line, as a prompt without aggregates would.
    """
    sizes, raw = dict[int, int](), dict[int, int]()
    for count in (5, 50):
        rng, memory = np.random.default_rng(count), Memory()
        everybody = [AgentId(f"client-{i:02}") for i in range(count)]
        for number in range(8):
            outcomes = [
                Outcome(client=client, kind="trained", loss=float(rng.uniform(0.1, 2)), seconds=float(rng.uniform(1, 60)))
                for client in everybody[:: number + 1]
            ]
            memory = memory.after(outcomes, present=everybody, k=4)
        listening = Listening()
        agent = ServerAgent(listening, Still(), bounds=Bounds(k_max=5), k=4, rounds=20)
        await agent.choose(memory, everybody)
        sizes[count] = len(listening.heard[0])
        described = "\n".join(json.dumps({"id": client, **_facts(memory, client)}) for client in everybody)
        raw[count] = len(INSTRUCTIONS) + len(described)
    return {
        "ratio_5_to_50": round(sizes[50] / sizes[5], 3),
        "counted_in": "characters of instructions and prompt",
        "at_5": sizes[5],
        "at_50": sizes[50],
        "ratio_with_every_client_described": round(raw[50] / raw[5], 2),
    }


def _facts(memory: Memory, client: AgentId) -> dict[str, object]:
    seen = memory.candidate(client)
    return {"samples": seen.samples, "seconds": round(seen.seconds, 1), "loss": seen.loss, "rounds": seen.rounds}
