"""Who works on what (eq. 3): the best teams under team sizes and capacities.

    max Σ x_ij α_ij    team_min ≤ Σ_j x_ij ≤ team_max_i    Σ_i x_ij ≤ capacity_j    x_ij = 0 where α_ij = 0

The bounds form the incidence matrix of a bipartite graph, which is totally unimodular: the linear program has an integral
optimum, so it is solved without branching. Four steps, and each ends only where the optimum is proven, to a billionth of the
highest score for each pair:

1. Everybody's favourites. If no agent is over its capacity, that is the optimum, and most small jobs end here.
2. A greedy choice. Where subtasks agree on who is good, or many scores are equal, it is often the optimum already.
3. A few rounds of exchanges between teams (`assign_exchanges`), which prove it if it is.
4. A linear program over the pairs that matter (`assign_program`), which its prices prove.

Source: arXiv:2509.20175, eq. 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foa.plan.assign_exchanges import exchange
from foa.plan.assign_problem import Floats, Ints, Pairs, Problem, greedy, leading
from foa.plan.assign_program import optimum
from foa.values.vcv import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The teams of eq. 3, by positions in α."""

    teams: tuple[tuple[int, ...], ...]  #: agents of each subtask, best first
    unstaffed: tuple[int, ...]  #: subtasks that could not be given their least team; their teams are empty
    value: float  #: Σ α over all teams


def assign(
    alpha: Matrix,
    *,
    team_max: Sequence[int],
    capacity: Sequence[int],
    team_min: int = 1,
) -> Assignment:
    """Choose the teams of highest total score.

    Staffing one more subtask counts for more than any score. A subtask that cannot have `team_min` members is reported and
    never forced, and its agents are free for the others. For `team_min` over 1 the number of staffed subtasks is not
    promised to be the highest (that problem is NP-hard); for 1 it is.

    Args:
        alpha: α of eq. 2, shape (subtasks, agents), not negative; 0 forbids the pair.
        team_max: most members of each subtask's team, at least `team_min`.
        capacity: most subtasks of each agent, not negative.
        team_min: least members of a team, at least 1.

    Raises:
        ValueError: shapes differ, or a number is out of its range.
    """
    scores = np.asarray(alpha, dtype=np.float64)
    most, room = np.asarray(team_max, dtype=np.int64), np.asarray(capacity, dtype=np.int64)
    _check(scores, most, room, team_min)
    open_rows = np.flatnonzero(((scores > 0) & (room > 0)).sum(axis=1) >= team_min)
    chosen = _solve(scores[open_rows], most[open_rows], room, team_min)
    while (short := (chosen.sum(axis=1) < team_min)).any():
        freed = chosen[short].any()
        open_rows, chosen = open_rows[~short], chosen[~short]
        if freed:  # nobody keeps half a team, and the others may want its members
            chosen = _solve(scores[open_rows], most[open_rows], room, team_min)
    return _assignment(scores, open_rows, chosen)


def _check(scores: Floats, most: Ints, room: Ints, team_min: int) -> None:
    if scores.ndim != 2 or scores.shape != (len(most), len(room)):
        raise ValueError(f"alpha has shape {scores.shape}; {len(most)} team sizes and {len(room)} capacities were given")
    if scores.size and not (np.isfinite(scores).all() and scores.min() >= 0):
        raise ValueError("every score must be finite and not negative")
    if team_min < 1 or (len(most) and most.min() < team_min):
        raise ValueError(f"team sizes must be at least team_min, and that at least 1; got {team_min}")
    if len(room) and room.min() < 0:
        raise ValueError("a capacity is negative")


def _assignment(scores: Floats, rows: Ints, chosen: Pairs) -> Assignment:
    teams: list[tuple[int, ...]] = [()] * len(scores)
    for row, members in zip(rows.tolist(), chosen, strict=True):
        agents = np.flatnonzero(members)
        teams[row] = tuple(agents[np.argsort(-scores[row, agents], kind="stable")].tolist())
    value = sum(float(scores[row, list(team)].sum()) for row, team in enumerate(teams))
    return Assignment(teams=tuple(teams), unstaffed=tuple(row for row, team in enumerate(teams) if not team), value=value)


def _solve(scores: Floats, most: Ints, room: Ints, team_min: int) -> Pairs:
    """The chosen pairs; rows that cannot have `team_min` of them have fewer."""
    problem = Problem.of(scores, most, room, team_min)
    favourites = problem.allowed & leading(np.where(problem.allowed, problem.scores, -1.0), problem.most)
    if (favourites.sum(axis=0) <= problem.room).all():
        return favourites
    chosen, proven = exchange(problem, greedy(problem))
    return chosen if proven else optimum(problem, chosen)
