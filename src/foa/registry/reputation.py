"""Whom to trust for which work: a Beta record per agent and kind, computed again from graded outcomes at every start.

    outcome ──► counted? (not twice, not graded by itself or its owner) ──► decay, add, bound ──► Beta(α, β)

Evidence halves with time, is bounded so that no past makes an agent untouchable, and backs off from "this kind" to "any
kind" to the prior. A grader who is not trusted moves little, however often it speaks.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from foa.errors import BadMessage
from foa.values.draft import Probability
from foa.values.ids import AgentId, WireId
from foa.values.resources import Name

K = TypeVar("K")
V = TypeVar("V")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One graded contribution, as the outcome store keeps it."""

    v: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    agent: WireId
    kind: Name
    job: WireId
    subtask: WireId
    grade: Probability  #: 0 useless or lost, 1 what was asked for
    weight: Probability = 1.0  #: how much of the result was its own
    by: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: who graded; empty: this orchestrator
    by_key: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: the grader's public key
    owner_key: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: the agent's public key when it worked
    at: Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]  #: seconds since the epoch
    text: Annotated[str, msgspec.Meta(max_length=2_000)] = ""  #: the subtask, for learned capability; may be empty


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Outcome)


def encode_outcome(outcome: Outcome) -> bytes:
    """Turn an outcome into the bytes that the store keeps."""
    return _encoder.encode(outcome)


def decode_outcome(record: bytes) -> Outcome:
    """Read a stored outcome.

    Raises:
        BadMessage: it is damaged, or of another version.
    """
    try:
        return _decoder.decode(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not a usable outcome: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ReputationRules:
    """How outcomes become trust."""

    prior_good: float = 4.0  #: α of an agent nobody knows
    prior_bad: float = 1.0  #: β of an agent nobody knows
    backoff: float = 4.0  #: outcomes that "any kind" is worth where "this kind" has few
    half_life_seconds: float = 30 * 86_400.0  #: evidence halves in this time
    most_evidence: float = 100.0  #: α + β never grow past it
    thin: float = 5.0  #: below this much evidence, a candidate is drawn instead of averaged
    stranger_weight: float = 0.2  #: what the grade of an untrusted grader counts
    stranger_most: float = 2.0  #: most that one untrusted grader adds to one agent
    remembered: int = 100_000  #: outcomes, records and grader pairs kept against repetition


@dataclass(slots=True)
class _Record:
    good: float = 0.0
    bad: float = 0.0
    at: float = 0.0  #: seconds since the epoch, of the last outcome

    def at_time(self, now: float, half_life: float) -> "_Record":
        keep = 0.5 ** (max(0.0, now - self.at) / half_life)
        return _Record(self.good * keep, self.bad * keep, max(now, self.at))

    @property
    def evidence(self) -> float:
        return self.good + self.bad


class Reputation:
    """Beta records of every agent. Pure: the same outcomes in the same order give the same numbers."""

    def __init__(self, rules: ReputationRules | None = None, *, trusted: Collection[str] = ()) -> None:
        """Start empty.

        Args:
            trusted: graders (`Outcome.by`) whose grades count in full, beside this orchestrator itself ("").
        """
        self.rules = rules or ReputationRules()
        self._trusted = frozenset(trusted) | {""}
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()
        self._strangers: OrderedDict[tuple[str, str], float] = OrderedDict()

    def replay(self, records: Iterable[bytes]) -> int:
        """Take stored outcomes, oldest first; gives how many counted. A damaged one is passed over."""
        counted = 0
        for record in records:
            try:
                counted += not self.record(decode_outcome(record))
            except BadMessage:
                continue
        return counted

    def record(self, outcome: Outcome) -> str:
        """Take one outcome; gives "" when it counted, else why it did not."""
        if reason := self._refusal(outcome):
            return reason
        weight = outcome.weight * self._grader_weight(outcome)
        for kind in (outcome.kind, ""):
            self._add(outcome.agent, kind, outcome, weight)
        return ""

    def mean(self, agent: AgentId, kind: str, *, now: float | None = None) -> float:
        """Give the posterior mean for this kind of work, 0 to 1 (both excluded).

        Args:
            now: seconds since the epoch; None: as of the last outcome, without further decay.
        """
        good, bad = self._posterior(agent, kind, now)
        return good / (good + bad)

    def evidence(self, agent: AgentId, kind: str, *, now: float | None = None) -> float:
        """Give how many outcomes speak about this agent and kind, decayed."""
        return self._at(agent, kind, now).evidence

    def factors(
        self, agents: Collection[AgentId], kind: str, *, rng: np.random.Generator | None = None, now: float | None = None
    ) -> list[float]:
        """Give each candidate's factor of eq. 2: its mean, or a Thompson draw where its evidence is thin.

        Nobody is drawn while nothing is known of any candidate: chance would then only blur the other factors.
        """
        if not self._records:
            mean = self.rules.prior_good / (self.rules.prior_good + self.rules.prior_bad)
            return [mean] * len(agents)
        known = [self.evidence(agent, kind, now=now) for agent in agents]
        draw = rng if any(known) else None
        return [
            self._factor(agent, kind, draw if evidence < self.rules.thin else None, now)
            for agent, evidence in zip(agents, known, strict=True)
        ]

    def _factor(self, agent: AgentId, kind: str, rng: np.random.Generator | None, now: float | None) -> float:
        good, bad = self._posterior(agent, kind, now)
        return float(rng.beta(good, bad)) if rng is not None else good / (good + bad)

    def _posterior(self, agent: AgentId, kind: str, now: float | None) -> tuple[float, float]:
        rules = self.rules
        overall, own = self._at(agent, "", now), self._at(agent, kind, now)
        good, bad = overall.good + rules.prior_good, overall.bad + rules.prior_bad
        share = good / (good + bad)
        return own.good + rules.backoff * share, own.bad + rules.backoff * (1 - share)

    def _at(self, agent: str, kind: str, now: float | None) -> _Record:
        record = self._records.get((agent, kind))
        if record is None:
            return _Record()
        return record if now is None else record.at_time(now, self.rules.half_life_seconds)

    def _refusal(self, outcome: Outcome) -> str:
        if outcome.by and outcome.by == outcome.agent:
            return "an agent does not grade itself"
        if outcome.by_key and outcome.by_key == outcome.owner_key:
            return "grader and agent have one owner"
        key = (outcome.agent, outcome.job, outcome.subtask, outcome.by)
        if key in self._seen:
            return "this outcome was counted before"
        _remember(self._seen, key, None, self.rules.remembered)
        return ""

    def _grader_weight(self, outcome: Outcome) -> float:
        if outcome.by in self._trusted:
            return 1.0
        pair = (outcome.by_key or outcome.by, outcome.agent)
        spent = self._strangers.get(pair, 0.0)
        weight = min(self.rules.stranger_weight, max(0.0, self.rules.stranger_most - spent))
        _remember(self._strangers, pair, spent + weight, self.rules.remembered)
        return weight

    def _add(self, agent: str, kind: str, outcome: Outcome, weight: float) -> None:
        old = self._records.get((agent, kind), _Record(at=outcome.at)).at_time(outcome.at, self.rules.half_life_seconds)
        good, bad = old.good + weight * outcome.grade, old.bad + weight * (1 - outcome.grade)
        shrink = min(1.0, self.rules.most_evidence / max(good + bad, 1e-9))
        _remember(self._records, (agent, kind), _Record(good * shrink, bad * shrink, old.at), self.rules.remembered)


def _remember(store: "OrderedDict[K, V]", key: K, value: V, most: int) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > most:
        store.popitem(last=False)
