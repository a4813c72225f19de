"""The server agent: a model proposes a round, the kernel checks it, a selection rule names the clients.

memory ─► view (aggregates) ─► model ─► guard ─► RoundPlan ─► selector ─► client ids
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from foa.fl.guard import Guard, GuardEntry, GuardLimits
from foa.fl.memory import Candidate, Memory
from foa.fl.plans import Bounds, RoundPlan, check_plan, rule_plan
from foa.fl.selectors import SELECTORS, Ask, covering, phased
from foa.fl.view import RoundRecord, fleet, history, tools
from foa.ports import Clock, Model, ModelRequest
from foa.values.ids import AgentId

INSTRUCTIONS = """You lead federated training. Choose how the next round is run and answer with one JSON object.
selector: random = fair; fedcs = quickest only; power-of-choice = highest loss; oort = useful and quick;
oort-per-turn = oort, but fair; deev = worst served, fewer each round; ocean = saves energy; bandit = explores by loss.
k: clients. A larger k learns more a round and costs more. deadline_seconds: late clients are dropped.
aggregation: fedavg = plain; clipped, median, trimmed-mean, krum, multikrum = against poisoned updates.
noise_floor: least privacy noise asked of clients. share: of each update that is sent; less is quicker on thin lines.
avoid: a group that sits this round out, where the owner asks for it. reason: one short sentence."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RECENT = 5  #: rounds over which suspects are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who trains this round, and how that was decided."""

    plan: RoundPlan
    clients: tuple[AgentId, ...]
    entry: GuardEntry  #: the guard's record of the decision
    shares: tuple[float, ...] = (1.0,)  #: what the owner allows where a client's line is too thin for the plan's share


class ServerAgent:
    """Leads one training run. All that it learns is in `Memory` and `RoundRecord`s, which the caller keeps."""

    def __init__(
        self,
        model: Model | None,
        clock: Clock,
        *,
        bounds: Bounds,
        k: int,
        rounds: int,
        policy: str = "",
        fairness: bool = True,
        seed: int = 0,
        limits: GuardLimits | None = None,
        log: Callable[[GuardEntry], None] | None = None,
    ) -> None:
        """Make the agent.

        Args:
            model: proposes; None: the rule decides every round.
            clock: for deadlines, and the day of the week.
            bounds: what no proposal can cross.
            k: clients a round that the run was planned with; the rule keeps to it.
            rounds: planned in all.
            policy: the owner's wishes in plain words, shown to the model; at most 1,000 characters are.
            fairness: quick clients in most rounds, and a turn for everybody; off for a plain baseline.
            seed: of every draw; one seed and one memory give one choice.
            limits: patience with the model.
            log: gets every decision's record.
        """
        self._clock = clock
        self._guard = Guard(model, clock, limits=limits, log=log)
        self.bounds = bounds
        self._k = k
        self._rounds = rounds
        self._policy = policy[:1_000]
        self._fairness = fairness
        self._seed = seed

    async def choose(
        self,
        memory: Memory,
        present: Sequence[AgentId],
        *,
        previous: RoundPlan | None = None,
        records: Sequence[RoundRecord] = (),
        hour: int = 12,
        weekday: int | None = None,
    ) -> Choice:
        """Decide the next round.

        Args:
            memory: after the last round.
            present: clients that are there and not screened out; at least one.
            previous: the last round's plan, which the next may not depart from too suddenly.
            records: past rounds, oldest first.
            hour: of the day at the server, 0 to 23.
            weekday: 0 for Monday to 6; None: by the server's clock, UTC.
        """
        if not present:
            raise ValueError("nobody is there to choose from: wait for clients first")
        # order must say nothing, to a rule that breaks ties by it or to a model
        shuffled = self._rng(memory, 1).permutation(sorted(present))
        candidates = [memory.candidate(AgentId(str(client)), hour=hour) for client in shuffled]
        members = _members(candidates, self.bounds.groups)
        bounds = self.bounds.alive(len(candidates), members)
        known = {"hour": hour, "day": DAYS[self._weekday() if weekday is None else weekday], "groups": members}
        decided = await self._guard.decide(
            self._request(memory, candidates, records, bounds, previous, known),
            who=f"server/round-{memory.round + 1}",
            check=lambda value: check_plan(value, bounds, previous),
            rule=lambda: self._rule(bounds, previous, candidates, records),
        )
        clients = self._clients(decided.value, memory, candidates)
        return Choice(plan=decided.value, clients=clients, entry=decided.entry, shares=bounds.shares)

    def _weekday(self) -> int:
        # the first of January 1970 was a Thursday
        return (int(self._clock.now() // 86_400) + 3) % 7

    def _rng(self, memory: Memory, stream: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, memory.round + 1, stream))

    def _rule(
        self, bounds: Bounds, previous: RoundPlan | None, candidates: Sequence[Candidate], records: Sequence[RoundRecord]
    ) -> RoundPlan:
        recent = records[-RECENT:]
        trained = sum(record.trained for record in recent)
        durations = [candidate.seconds for candidate in candidates if candidate.rounds]
        suspects = sum(record.suspects for record in recent) / trained if trained else 0.0
        lasted = [record.seconds for record in recent]
        return rule_plan(bounds, previous, k=self._k, durations=durations, lasted=lasted, suspects=suspects)

    def _clients(self, plan: RoundPlan, memory: Memory, candidates: Sequence[Candidate]) -> tuple[AgentId, ...]:
        if plan.avoid:
            # the bounds offer no group without which too few are left
            candidates = [candidate for candidate in candidates if candidate.group != plan.avoid]
        rule = SELECTORS[plan.selector]
        if self._fairness:
            rule = phased(rule)
            rule = covering(rule) if _mixed(candidates) else rule
        ask = Ask(
            k=plan.k,
            round=memory.round + 1,
            rounds=self._rounds,
            deadline_seconds=plan.deadline_seconds,
            utilities=memory.utilities,
        )
        chosen = rule(candidates, ask, self._rng(memory, 2))
        # some rules give fewer than they may; a Strategy would wait for the rest for ever
        spare = [candidate.id for candidate in candidates if candidate.id not in chosen]
        return (*chosen, *spare[: max(0, min(self.bounds.k_min, plan.k) - len(chosen))])

    def _request(
        self,
        memory: Memory,
        candidates: Sequence[Candidate],
        records: Sequence[RoundRecord],
        bounds: Bounds,
        previous: RoundPlan | None,
        known: Mapping[str, Any],
    ) -> ModelRequest:
        around = previous or self._rule(bounds, None, candidates, records)
        facts = {
            "round": memory.round + 1,
            "rounds": self._rounds,
            **known,
            "planned_k": self._k,
            "k": [bounds.k_min, bounds.k_max],
            "fleet": fleet(candidates),
            "history": history(records),
        }
        wishes = f"The owner asks: {self._policy}\n" if self._policy else ""
        return ModelRequest(
            instructions=INSTRUCTIONS,
            prompt=f"{wishes}{msgspec.json.encode(facts).decode()}",
            schema=bounds.schema(around),
            tools=tools(memory, candidates, records),
            max_tokens=200,
            seconds=60.0,
        )


def _members(candidates: Sequence[Candidate], groups: Sequence[str]) -> dict[str, int]:
    """How many there are of each group that the owner named; what else clients call themselves reaches no model."""
    return {group: sum(candidate.group == group for candidate in candidates) for group in groups}


def _mixed(candidates: Sequence[Candidate]) -> bool:
    return len({candidate.width for candidate in candidates}) > 1


def should_roll_back(losses: Sequence[float], newest: float, *, jump: float = 0.5) -> bool:
    """Whether the newest validation loss is so much worse that the last good model is to be taken up again.

    Args:
        losses: of the models that were kept, oldest first.
        newest: of the candidate model; not finite: always worse.
        jump: share by which it may exceed the best of the last five kept ones.
    """
    if not np.isfinite(newest):
        return True
    return bool(losses) and newest > min(losses[-5:]) * (1 + jump) + 1e-3
