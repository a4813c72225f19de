"""Eq. 3 on 200 subtasks × 1,000 agents: how long the best teams take, against the whole program and against greed.

Kinds of scores, from easy to hard: every pair for itself (`independent`), with nine of ten pairs forbidden (`sparse`),
agents half as good as their name says (`mixed`), agents wanted by everybody (`popular`); and where all subtasks agree: a
product of what a subtask and an agent are worth (`rank_1`), the same with one place at each agent and teams of five
(`tight`), and rows that differ by 1e-4 only (`near`).
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from foa.plan.assign import assign

#: fame of the agents: how much of a score is the agent's own
KINDS = {"independent": 0.0, "sparse": 0.0, "mixed": 0.5, "popular": 0.9, "rank_1": 0.0, "tight": 0.0, "near": 1 - 1e-4}


def run(quick: bool, subtasks: int = 200, agents: int = 1_000) -> dict[str, object]:
    """Measure.

    Args:
        quick: 5 problems of each kind instead of 30, and the whole program on the first of each only.
        subtasks: rows of α.
        agents: columns of α.
    """
    repetitions = 5 if quick else 30
    measured = {kind: _measure(kind, repetitions, 1 if quick else 3, subtasks, agents) for kind in KINDS}
    return {
        "figures": {
            "ms": max(found["ms_p50"] for found, _ in measured.values()),
            **{kind: found for kind, (found, _) in measured.items()},
        },
        "baseline": {kind: found for kind, (_, found) in measured.items()},
        "repetitions": repetitions,
    }


def _measure(kind: str, repetitions: int, wholes: int, subtasks: int, agents: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ours: list[float] = []
    cpu: list[float] = []
    whole: list[float] = []
    greed: list[float] = []
    lost: list[float] = []
    for seed in range(repetitions):
        alpha, most, room = _problem(kind, seed, subtasks, agents)
        found, took, busy = _timed(lambda a=alpha, m=most, r=room: assign(a, team_max=m, capacity=r))
        ours.append(took)
        cpu.append(busy)
        value, took, _ = _timed(lambda a=alpha, m=most, r=room: _greedy(a, m, r))
        greed.append(took)
        lost.append(1 - value / found.value)
        if seed < wholes:
            best, _, took = _timed(lambda a=alpha, m=most, r=room: _whole(a, m, r))
            whole.append(took)
            if found.unstaffed == () and abs(best - found.value) > 1e-6 * best:
                raise RuntimeError(f"{kind} {seed}: {found.value} is not the optimum {best}")
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


def _problem(kind: str, seed: int, subtasks: int, agents: int) -> tuple[NDArray[np.float32], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    fame = KINDS[kind]
    alpha = (1 - fame) * rng.random((subtasks, agents)) + fame * rng.random(agents)
    if kind in ("rank_1", "tight"):
        alpha = np.outer(rng.random(subtasks), rng.random(agents))
    if kind == "sparse":
        alpha[rng.random((subtasks, agents)) >= 0.1] = 0
    most, room = rng.integers(1, 5, subtasks), rng.integers(1, 5, agents)
    if kind == "tight":
        most, room = np.full(subtasks, 5), np.ones(agents, int)
    return alpha.astype(np.float32), most.tolist(), room.tolist()


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work gives, and what it took by the clock and of the processor, milliseconds."""
    began, busy = time.perf_counter(), time.process_time()
    found = work()
    return found, (time.perf_counter() - began) * 1e3, (time.process_time() - busy) * 1e3


def _whole(alpha: NDArray[np.float32], most: Sequence[int], room: Sequence[int]) -> float:
    """Every allowed pair in one linear program; its optimum is integral, as assign.py says."""
    rows, columns = np.nonzero(alpha)
    pairs = np.arange(len(rows))
    ones = np.ones(len(rows))
    per_subtask = sparse.csr_array((ones, (rows, pairs)), shape=(len(most), len(rows)))
    per_agent = sparse.csr_array((ones, (columns, pairs)), shape=(len(room), len(rows)))
    found = milp(
        -alpha[rows, columns].astype(float),
        constraints=[LinearConstraint(per_subtask, 1, most), LinearConstraint(per_agent, 0, room)],
        bounds=Bounds(0, 1),
    )
    return -found.fun


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
