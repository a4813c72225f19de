"""What a selection rule is asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foa.fl.memory import Candidate
from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The question that every rule answers."""

    k: int  #: clients wanted, ≥ 1
    round: int = 1  #: counted from 1
    rounds: int = 100  #: planned in all
    deadline_seconds: float = math.inf  #: of the round
    utilities: tuple[float, ...] = ()  #: total utility of each past round, newest last


class Selector(Protocol):
    """A selection rule."""

    def __call__(self, candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        """Choose at most `ask.k` of them, the most wanted first."""
        ...


def drawn(
    candidates: Sequence[Candidate], count: int, rng: np.random.Generator, weights: Sequence[float] | None = None
) -> list[Candidate]:
    """So many of them at random without repeats, by weight where weights are given (all above 0)."""
    count = min(count, len(candidates))
    if count <= 0:
        return []
    p = None if weights is None else np.asarray(weights) / np.sum(weights)
    return [candidates[i] for i in rng.choice(len(candidates), size=count, replace=False, p=p)]


def best(candidates: Sequence[Candidate], scores: Sequence[float], count: int) -> list[Candidate]:
    """The highest scores; ties keep the order of the candidates."""
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    return [candidates[i] for i in order[:count]]
