"""One simulated run of federated training under one selection rule, on a virtual clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks._fl_digits import measure, mnist, shared, start, train
from benchmarks._fl_scenarios import ALPHA, CLIENTS, ROUNDS, SCENARIOS, TARGET, K, Scenario, speeds
from foa.fl.aggregate import Arrays, Update, fedavg
from foa.fl.guard import GuardEntry, GuardLimits
from foa.fl.memory import Device, Memory, Outcome
from foa.fl.plans import Bounds, RoundPlan
from foa.fl.selectors import SELECTORS
from foa.fl.server import ServerAgent
from foa.fl.view import RoundRecord
from foa.ports import Model
from foa.values.ids import AgentId

MODEL_BYTES = 4 * (784 * 64 + 64 + 640 + 10)
EPOCHS, WATTS, LATE = 2, 3.0, 5
NAMES = [AgentId(f"client-{i:02}") for i in range(CLIENTS)]


@dataclass(slots=True)
class VirtualClock:
    """Seconds of the scenario; nobody waits for them."""

    seconds: float = 0.0

    def now(self) -> float:
        """Since the beginning."""
        return self.seconds

    def monotonic(self) -> float:
        """Since the beginning."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Pass them."""
        self.seconds += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outing:
    """One run of one rule."""

    seconds_to_80: float  #: virtual; not reached: all the seconds of the run
    reached: bool
    seconds_in_all: float  #: virtual, of all rounds
    worst10: float  #: accuracy of the last model on the worst-served tenth of clients
    worst10_late: float  #: the same, mean of the last five rounds: one round's model says little
    jain: float
    final: float
    mean_k: float
    records: int  #: that clients went through, epochs counted: the local work
    decision_seconds: float
    tokens: int
    by_model: int  #: rounds that the model decided
    night_broken: float  #: share of night rounds that broke the first wish
    weekday_broken: float  #: share of weekday rounds that broke the second wish


@dataclass(slots=True)
class _World:
    """The devices and the model so far."""

    scenario: Scenario
    seed: int
    speed: NDArray[np.float64]
    link: NDArray[np.float64]  #: MB/s
    parts: Sequence[NDArray[np.int64]]
    test: NDArray[np.int64]
    weights: Arrays
    memory: Memory = field(default_factory=Memory)
    clock: VirtualClock = field(default_factory=VirtualClock)
    records: list[RoundRecord] = field(default_factory=list[RoundRecord])
    entries: list[GuardEntry] = field(default_factory=list[GuardEntry])
    broken: list[tuple[bool | None, bool | None]] = field(default_factory=list[tuple[bool | None, bool | None]])
    worst: list[float] = field(default_factory=list[float])  #: `worst10` of each late round
    worked: int = 0

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([len(part) for part in self.parts])

    def durations(self, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Seconds of a round for each client: all of it, and computing alone."""
        compute = 0.02 * self.sizes * EPOCHS / self.speed * self.scenario.slowdown(number)
        return compute + 2 * MODEL_BYTES / 2**20 / self.link, compute


def _world(scenario: Scenario, seed: int, data: str) -> _World:
    parts, test = shared(CLIENTS, ALPHA, seed)
    link = np.random.default_rng(seed + 77).lognormal(0, 0.8, CLIENTS)
    world = _World(scenario, seed, speeds(data, seed)[0], link, parts, test, start(seed))
    durations, compute = world.durations(1)
    # what devices say of themselves before the first round, in their VCVs
    known = {
        name: Device(
            samples=len(parts[i]), seconds=float(durations[i]), joules=float(WATTS * compute[i]), group=scenario.group(i)
        )
        for i, name in enumerate(NAMES)
    }
    world.memory = Memory(devices=known)
    return world


async def outing(rule: str, scenario: str, seed: int, *, data: str, model: Model | None = None) -> Outing:
    """Train once under one rule; with a model, the server agent asks it every round."""
    world = _world(SCENARIOS[scenario], seed, data)
    agent = _agent(rule, world, model)
    previous, hit, accuracy, chosen_in_all = None, None, 0.0, 0
    for number in range(1, ROUNDS + 1):
        moment = world.scenario.moment(number)
        choice = await agent.choose(
            world.memory, NAMES, previous=previous, records=world.records, hour=moment.hour, weekday=moment.weekday
        )
        previous, picked = choice.plan, [NAMES.index(client) for client in choice.clients]
        world.entries.append(choice.entry)
        broken = world.scenario.broken(moment, picked)
        world.broken.append((broken[0] if moment.night else None, None if moment.weekend else broken[1]))
        chosen_in_all += len(picked)
        accuracy = _round(world, number, picked, choice.plan, evaluates=rule == "deev")
        if number > ROUNDS - LATE:
            world.worst.append(_worst10(world))
        # a model's thinking is waited for like a slow client
        world.clock.seconds += choice.entry.spend.seconds
        if hit is None and accuracy >= TARGET:
            hit = world.clock.seconds
    return _ended(world, hit, accuracy, chosen_in_all)


def _round(world: _World, number: int, picked: Sequence[int], plan: RoundPlan, *, evaluates: bool) -> float:
    """Train the picked, learn of them; accuracy on the held-out records."""
    x, y = mnist()
    durations, compute = world.durations(number)
    updates, outcomes = list[Update](), list[Outcome]()
    for i in picked:
        mine = world.parts[i]
        loss, served = measure(world.weights, x[mine], y[mine])
        local = train(world.weights, x[mine], y[mine], epochs=EPOCHS, seed=world.seed * 100_000 + number * 100 + i)
        updates.append(Update(client=NAMES[i], arrays=local, samples=len(mine)))
        seen = Outcome(client=NAMES[i], kind="trained", seconds=float(durations[i]), loss=loss, accuracy=served)
        outcomes.append(replace(seen, joules=float(WATTS * compute[i])))
        world.worked += EPOCHS * len(mine)
    world.weights = fedavg(world.weights, updates)
    lasted = float(durations[list(picked)].max())
    world.clock.seconds += lasted
    allowed = float(WATTS * compute.mean() * K / CLIENTS)
    world.memory = world.memory.after(outcomes, present=NAMES, k=len(picked), joules_allowed=allowed)
    if evaluates:
        world.memory = _served(world)
    loss, accuracy = measure(world.weights, x[world.test], y[world.test])
    world.records.append(
        RoundRecord(
            round=number,
            selector=plan.selector,
            k=len(picked),
            trained=len(picked),
            refused=0,
            lost=0,
            seconds=lasted,
            loss=loss,
        )
    )
    return accuracy


def _served(world: _World) -> Memory:
    """DEEV evaluates everybody each round; that costs its clients work which is not charged here, in its favour."""
    x, y = mnist()
    devices = {
        name: replace(world.memory.devices[name], accuracy=measure(world.weights, x[part], y[part])[1])
        for name, part in zip(NAMES, world.parts, strict=True)
    }
    return replace(world.memory, devices=devices)


def _ended(world: _World, hit: float | None, accuracy: float, chosen_in_all: int) -> Outing:
    turns = np.array([world.memory.devices[name].rounds for name in NAMES], float)
    asked = [entry for entry in world.entries if entry.model]
    return Outing(
        seconds_to_80=world.clock.seconds if hit is None else hit,
        reached=hit is not None,
        seconds_in_all=world.clock.seconds,
        worst10=world.worst[-1],
        worst10_late=float(np.mean(world.worst)),
        jain=float(turns.sum() ** 2 / (CLIENTS * (turns**2).sum())),
        final=accuracy,
        mean_k=chosen_in_all / ROUNDS,
        records=world.worked,
        decision_seconds=sum(entry.spend.seconds for entry in asked),
        tokens=sum(entry.spend.tokens for entry in asked),
        by_model=sum(entry.verdict != "fallback" for entry in asked),
        night_broken=_share([night for night, _ in world.broken]),
        weekday_broken=_share([day for _, day in world.broken]),
    )


def _worst10(world: _World) -> float:
    x, y = mnist()
    served = np.sort([measure(world.weights, x[part], y[part])[1] for part in world.parts])
    return float(served[: CLIENTS // 10].mean())


def _share(values: Sequence[bool | None]) -> float:
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else 0.0


def _agent(rule: str, world: _World, model: Model | None) -> ServerAgent:
    agentic = rule.startswith("agent")
    bounds = Bounds(
        # rules whose point is to choose fewer than K may
        k_min=world.scenario.k_min if agentic else 1,
        k_max=K,
        deadline_max_seconds=3_600,
        noise_max=0.0,
        selectors=tuple(SELECTORS) if agentic else (rule,),
        aggregations=("fedavg",),
        shares=(1.0,),
        groups=world.scenario.groups,
    )
    return ServerAgent(
        model,
        world.clock,
        bounds=bounds,
        k=K,
        rounds=ROUNDS,
        seed=world.seed,
        fairness=agentic,
        policy=world.scenario.policy,
        limits=GuardLimits(seconds=300.0),
    )
