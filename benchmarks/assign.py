"""Eq. 3 on 200 subtasks × 1,000 agents: how long the best teams take, against the whole program and against greed.

Each of `KINDS` is a way in which scores, team sizes and capacities may be easy or hard. Where a kind does not say otherwise,
teams have one to four members and agents one to four places.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, milp

from foa.plan.assign import assign

Numbers = NDArray[Any]


def _famous(rng: np.random.Generator, subtasks: int, agents: int, *, fame: float) -> Numbers:
    """Scores of which so much is the agent's own, the same for every subtask."""
    return (1 - fame) * rng.random((subtasks, agents)) + fame * rng.random(agents)


def _sparse(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    return rng.random((subtasks, agents)) * (rng.random((subtasks, agents)) < 0.1)


def _rank_1(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    return np.outer(rng.random(subtasks), rng.random(agents))


def _cosines(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    """Of subtasks that are much alike, to agents of all kinds."""
    topics, skills = 1 + 0.3 * rng.normal(size=(subtasks, 16)), rng.normal(size=(agents, 16))
    return np.maximum(0, topics @ skills.T) / np.outer(np.linalg.norm(topics, axis=1), np.linalg.norm(skills, axis=1))


def _line(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    """How near two points of a line are: an exchange pulls many others after it."""
    return 1.001 - np.abs(rng.random((subtasks, 1)) - rng.random(agents))


def _levels(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    """Whole numbers."""
    return rng.integers(1, 4, (subtasks, agents))


def _equal(_: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    return np.full((subtasks, agents), 0.5)


def _unstaffable(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    """A fifth of the subtasks without any agent, and two fifths that have only the same few."""
    alpha = _famous(rng, subtasks, agents, fame=0.9)
    alpha[: subtasks // 5] = 0
    alpha[subtasks // 5 : 3 * subtasks // 5, agents // 50 :] = 0
    return alpha


def _star(rng: np.random.Generator, subtasks: int, agents: int) -> Numbers:
    """Everybody wants the first agent, who has room for all."""
    alpha = _famous(rng, subtasks, agents, fame=0.9)
    alpha[:, 0] = 1
    return alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of problem."""

    scores: Callable[..., Numbers]  #: from a source of chance, the number of subtasks and that of agents
    teams: Sequence[int] = (1, 2, 3, 4)  #: drawn from, for each subtask
    places: Sequence[int] = (1, 2, 3, 4)  #: drawn from, for each agent
    first: int | None = None  #: places of the first agent


_popular = partial(_famous, fame=0.9)
_near = partial(_famous, fame=1 - 1e-4)

KINDS = {
    "independent": Kind(scores=partial(_famous, fame=0.0)),
    "sparse": Kind(scores=_sparse),
    "cosines": Kind(scores=_cosines),
    "mixed": Kind(scores=partial(_famous, fame=0.5)),
    "popular": Kind(scores=_popular),
    "near": Kind(scores=_near),
    "rank_1": Kind(scores=_rank_1),
    "equal": Kind(scores=_equal),
    "levels": Kind(scores=_levels),
    "star": Kind(scores=_star, first=1_000_000),
    "unstaffable": Kind(scores=_unstaffable, places=(1,)),
    # as many places as members, or half as many
    "tight": Kind(scores=_rank_1, teams=(5,), places=(1,)),
    "tight_popular": Kind(scores=_popular, teams=(5,), places=(1,)),
    "tight_levels": Kind(scores=_levels, teams=(5,), places=(1,)),
    "tight_line": Kind(scores=_line, teams=(5,), places=(1,)),
    "short": Kind(scores=_popular, teams=(10,), places=(1,)),
    "short_rank_1": Kind(scores=_rank_1, teams=(10,), places=(1,)),
    "short_equal": Kind(scores=_equal, teams=(10,), places=(1,)),
    # small and large teams together
    "teams": Kind(scores=_popular, teams=(1, 10)),
    "teams_near": Kind(scores=_near, teams=(1, 10)),
}


def run(quick: bool, subtasks: int = 200, agents: int = 1_000) -> dict[str, object]:
    """Measure.

    Args:
        quick: 5 problems of each kind instead of 30; the whole program is solved for the first of each only.
        subtasks: rows of α.
        agents: columns of α.
    """
    repetitions = 5 if quick else 30
    measured = {kind: _measure(kind, repetitions, subtasks, agents) for kind in KINDS}
    return {
        "figures": {
            "ms": max(found["ms_p50"] for found, _ in measured.values()),
            **{kind: found for kind, (found, _) in measured.items()},
        },
        "baseline": {kind: found for kind, (_, found) in measured.items()},
        "repetitions": repetitions,
    }


def _measure(kind: str, repetitions: int, subtasks: int, agents: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ours: list[float] = []
    cpu: list[float] = []
    whole: list[float] = []
    greed: list[float] = []
    lost: list[float] = []
    for seed in range(repetitions):
        alpha, most, room = _problem(KINDS[kind], seed, subtasks, agents)
        found, took, busy = _timed(lambda a=alpha, m=most, r=room: assign(a, team_max=m, capacity=r))
        ours.append(took)
        cpu.append(busy)
        value, took, _ = _timed(lambda a=alpha, m=most, r=room: _greedy(a, m, r))
        greed.append(took)
        lost.append(1 - value / found.value)
        if seed == 0:
            best, _, took = _timed(lambda a=alpha, m=most, r=room: _whole(a, m, r))
            whole.append(took)
            reached = found.value - _price(alpha) * len(found.unstaffed)
            if abs(best - reached) > 1e-6 * abs(best):
                raise RuntimeError(f"{kind} {seed}: {reached} is not the optimum {best}")
    return (
        {
            "ms_p50": round(median(ours), 1),
            "ms_p99": round(float(np.percentile(ours, 99)), 1),
            "ms_max": round(max(ours), 1),
            "cpu_ms_p50": round(median(cpu), 1),
            "cpu_ms_p99": round(float(np.percentile(cpu, 99)), 1),
        },
        {
            "whole_program_cpu_ms_p50": round(median(whole), 1),
            "greedy_ms_p50": round(median(greed), 1),
            "greedy_value_lost_percent": round(100 * median(lost), 2),
        },
    )


def _problem(kind: Kind, seed: int, subtasks: int, agents: int) -> tuple[NDArray[np.float32], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    alpha = kind.scores(rng, subtasks, agents).astype(np.float32)
    most, room = rng.choice(kind.teams, subtasks), rng.choice(kind.places, agents)
    if kind.first is not None:
        room[0] = kind.first
    return alpha, most.tolist(), room.tolist()


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work gives, and what it took by the clock and of the processor, milliseconds."""
    began, busy = time.perf_counter(), time.process_time()
    found = work()
    return found, (time.perf_counter() - began) * 1e3, (time.process_time() - busy) * 1e3


def _whole(alpha: NDArray[np.float32], most: Sequence[int], room: Sequence[int]) -> float:
    """Every allowed pair in one linear program; its optimum is integral, as assign.py says. Less `_price` a missing team."""
    rows, columns = np.nonzero(alpha)
    subtasks = np.arange(len(most))
    everything = (np.ones(len(rows) + len(most)), (np.concatenate([rows, subtasks]), np.arange(len(rows) + len(most))))
    per_subtask = sparse.csr_array(everything, shape=(len(most), len(rows) + len(most)))
    pairs = (np.ones(len(rows)), (columns, np.arange(len(rows))))
    per_agent = sparse.csr_array(pairs, shape=(len(room), len(rows) + len(most)))
    found = milp(
        -np.concatenate([alpha[rows, columns].astype(float), np.full(len(most), -_price(alpha))]),
        constraints=[(per_subtask, 1, np.array(most)), (per_agent, 0, np.array(room))],
        bounds=Bounds(0, 1),
    )
    return -found.fun


def _price(alpha: NDArray[np.float32]) -> float:
    """What a team that is missing costs: more than any chain of exchanges."""
    return float(alpha.max()) * (1 + len(alpha))


def _greedy(alpha: NDArray[np.float32], most: Sequence[int], room: Sequence[int]) -> float:
    """The best pair that still fits, again and again; the lower bound is not looked at."""
    places, left, value = list(most), list(room), 0.0
    for pair in np.argsort(-alpha, axis=None):
        row, column = divmod(int(pair), alpha.shape[1])
        if alpha[row, column] <= 0 or not any(places):
            break
        if places[row] and left[column]:
            places[row] -= 1
            left[column] -= 1
            value += float(alpha[row, column])
    return value
