"""Selection rules side by side on a virtual clock: equal mean k, equal local work, paired seeds.

Scenarios. `steady`: nothing changes. `shift`: from round 6 on half of the devices are ten times slower (their owners come
home and use them), and what was remembered of them is wrong. Device speeds: real phone scores where FOA_DATA has them, else
a log-normal draw; which of them is said in the result.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._fl_digits import measure, mnist, shared, start, train
from foa.app.models import open_model
from foa.app.settings import Settings
from foa.fl.aggregate import Update, fedavg
from foa.fl.memory import Memory, Outcome
from foa.fl.plans import Bounds
from foa.fl.selectors import SELECTORS
from foa.fl.server import ServerAgent
from foa.fl.view import RoundRecord
from foa.ports import Model
from foa.values.ids import AgentId

CLIENTS, K, ROUNDS, ALPHA, TARGET = 50, 8, 40, 0.2, 0.80
SHIFT_AFTER = 5  #: rounds
MODEL_BYTES = 4 * (784 * 64 + 64 + 640 + 10)


class Still:
    """A clock for agents that nobody waits for; the virtual clock is the scenario's."""

    def now(self) -> float:
        return time.time_ns() / 1e9

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outing:
    """One run of one rule."""

    seconds_to_80: float  #: virtual; not reached: all the seconds of the run
    reached: bool
    worst10: float
    jain: float
    final: float
    mean_k: float
    decision_seconds: float
    tokens: int
    by_model: int  #: rounds that the model decided


def speeds(data: str, seed: int) -> tuple[np.ndarray, str]:
    """A relative speed a client (median 1), and where it is from."""
    rng, path = np.random.default_rng(seed + 999), Path(data) / "device_speeds" / "flash_scores.json"
    if data and path.exists():
        known = [value for value in json.loads(path.read_text()).values() if isinstance(value, int | float)]
        return rng.choice(known, CLIENTS) / np.median(known), "real phone scores"
    return rng.lognormal(0, 0.8, CLIENTS), "log-normal draw"


async def outing(rule: str, scenario: str, seed: int, *, data: str, model: Model | None = None) -> Outing:
    """Train once under one rule."""
    x, y = mnist()
    parts, test = shared(CLIENTS, ALPHA, seed)
    names = [AgentId(f"client-{i:02}") for i in range(CLIENTS)]
    speed, _ = speeds(data, seed)
    link = np.random.default_rng(seed + 77).lognormal(0, 0.8, CLIENTS)  # MB/s
    sizes = np.array([len(part) for part in parts])
    agent = _agent(rule, seed, model)
    weights, memory, clock, hit = start(seed), Memory(), 0.0, None
    for name, size in zip(names, sizes, strict=True):
        memory = memory.know(name, samples=int(size))
    by_model, previous, records, decided, tokens, chosen_in_all, accuracy = 0, None, list[RoundRecord](), 0.0, 0, 0, 0.0
    for number in range(1, ROUNDS + 1):
        slow = np.where(np.arange(CLIENTS) % 2 == 0, 10.0, 1.0) if scenario == "shift" and number > SHIFT_AFTER else 1.0
        compute = 0.02 * sizes * 2 / speed * slow
        durations = compute + 2 * MODEL_BYTES / 2**20 / link
        if number == 1:
            memory = _told(memory, names, durations, compute)
        choice = await agent.choose(memory, names, previous=previous, records=records)
        previous = choice.plan
        by_model += bool(choice.entry.model) and choice.entry.verdict != "fallback"
        decided, tokens = decided + choice.entry.seconds, tokens + choice.entry.spend.tokens
        picked = [names.index(client) for client in choice.clients]
        chosen_in_all += len(picked)
        updates, outcomes = list[Update](), list[Outcome]()
        for i in picked:
            mine = parts[i]
            loss, served = measure(weights, x[mine], y[mine])
            local = train(weights, x[mine], y[mine], epochs=2, seed=seed * 100_000 + number * 100 + i)
            updates.append(Update(client=names[i], arrays=local, samples=int(sizes[i])))
            outcomes.append(
                Outcome(
                    client=names[i],
                    kind="trained",
                    seconds=float(durations[i]),
                    joules=float(3 * compute[i]),
                    loss=loss,
                    accuracy=served,
                )
            )
        weights = fedavg(weights, updates)
        # a model's thinking is waited for like a slow client
        clock += float(durations[picked].max()) + (choice.entry.seconds if model is not None else 0.0)
        memory = memory.after(outcomes, present=names, k=K, joules_allowed=float(3 * compute.mean() * K / CLIENTS))
        if rule == "deev":
            memory = _served(memory, names, weights, parts)
        loss, accuracy = measure(weights, x[test], y[test])
        records.append(
            RoundRecord(
                round=number,
                selector=choice.plan.selector,
                k=len(picked),
                trained=len(picked),
                refused=0,
                lost=0,
                seconds=float(durations[picked].max()),
                loss=loss,
            )
        )
        if hit is None and accuracy >= TARGET:
            hit = clock
    served = np.sort([measure(weights, x[part], y[part])[1] for part in parts])
    turns = np.array([memory.devices[name].rounds for name in names], float)
    return Outing(
        seconds_to_80=clock if hit is None else hit,
        reached=hit is not None,
        worst10=float(served[: CLIENTS // 10].mean()),
        jain=float(turns.sum() ** 2 / (CLIENTS * (turns**2).sum())),
        final=accuracy,
        mean_k=chosen_in_all / ROUNDS,
        decision_seconds=decided,
        tokens=tokens,
        by_model=by_model,
    )


async def _by_model(scenario: str, seed: int, data: str, settings: Settings) -> Outing:
    async with open_model(settings) as model:
        return await outing("agentic-model", scenario, seed, data=data, model=model)


def _agent(rule: str, seed: int, model: Model | None) -> ServerAgent:
    # equal mean k: everybody chooses exactly K, but for rules whose point is to choose fewer
    agentic = rule.startswith("agentic")
    bounds = Bounds(
        k_min=K,
        k_max=K,
        deadline_max_seconds=1e9,
        selectors=tuple(SELECTORS) if agentic else (rule,),
        aggregations=("fedavg",),
    )
    return ServerAgent(
        model,
        Still(),
        bounds=bounds,
        k=K,
        rounds=ROUNDS,
        seed=seed,
        fairness=agentic,
        policy="Reach 80 % accuracy soon; do not starve anybody.",
    )


def _told(memory: Memory, names: Sequence[AgentId], durations: np.ndarray, compute: np.ndarray) -> Memory:
    """What devices say of themselves before the first round (their VCVs): seconds and joules of a round."""
    known = dict(memory.devices)
    for i, name in enumerate(names):
        device = known[name]
        known[name] = type(device)(
            samples=device.samples,
            seconds=float(durations[i]),
            joules=float(3 * compute[i]),
        )
    return Memory(round=memory.round, devices=known)


def _served(memory: Memory, names: Sequence[AgentId], weights: dict, parts: Sequence[np.ndarray]) -> Memory:
    """DEEV evaluates everybody each round; that costs its clients work which is not charged here, in its favour."""
    x, y = mnist()
    known = dict(memory.devices)
    for name, part in zip(names, parts, strict=True):
        device = known[name]
        values = {field: getattr(device, field) for field in device.__dataclass_fields__}
        known[name] = type(device)(**{**values, "accuracy": measure(weights, x[part], y[part])[1]})
    return Memory(round=memory.round, devices=known, utilities=memory.utilities)


def interval(values: Sequence[float], seed: int = 0) -> list[float]:
    """Mean, and its 95 % bootstrap interval."""
    rng, array = np.random.default_rng(seed), np.asarray(values, float)
    means = rng.choice(array, (2000, len(array))).mean(axis=1)
    return [round(float(value), 4) for value in (array.mean(), *np.percentile(means, (2.5, 97.5)))]


def select(
    seeds: int, *, data: str, scenarios: Sequence[str], rules: Sequence[str], settings: Settings
) -> dict[str, dict[str, object]]:
    """A row for each rule: the figures of the first scenario, and those of each other one under its name.

    Each figure is a mean with its 95 % bootstrap interval beside it; `seconds_less_oort_per_turn` is the paired difference
    to the rule to beat. `agentic-model` asks the model of the settings, whose seconds are charged to the clock; it is slow,
    so it gets three seeds at most.
    """
    found: dict[str, dict[str, object]] = {}
    for place, scenario in enumerate(scenarios):
        runs = {rule: _outings(rule, scenario, seeds, data, settings) for rule in rules}
        for rule, outings in runs.items():
            row = _row(outings, None if rule == "oort-per-turn" else runs.get("oort-per-turn"))
            if place == 0:
                found[rule] = {**row, "speeds": speeds(data, 0)[1]}
            else:
                found[rule][scenario] = row
    return found


def _outings(rule: str, scenario: str, seeds: int, data: str, settings: Settings) -> list[Outing]:
    if rule == "agentic-model":
        return [asyncio.run(_by_model(scenario, seed, data, settings)) for seed in range(min(seeds, 3))]
    return [asyncio.run(outing(rule, scenario, seed, data=data)) for seed in range(seeds)]


def _row(outings: Sequence[Outing], best: Sequence[Outing] | None) -> dict[str, object]:
    row: dict[str, object] = {}
    for name in ("seconds_to_80", "worst10", "jain", "final"):
        mean, *around = interval([getattr(one, name) for one in outings])
        row |= {name: mean, f"{name}_interval": around}
    if best is not None:
        less = [a.seconds_to_80 - b.seconds_to_80 for a, b in zip(outings, best, strict=False)]
        row["seconds_less_oort_per_turn"] = interval(less)
    return row | {
        "seeds": len(outings),
        "reached": sum(one.reached for one in outings),
        "mean_k": round(float(np.mean([one.mean_k for one in outings])), 2),
        "decision_seconds": round(float(np.mean([one.decision_seconds for one in outings])), 3),
        "rounds_by_model": round(float(np.mean([one.by_model for one in outings])), 1),
        "tokens": round(float(np.mean([one.tokens for one in outings]))),
    }
