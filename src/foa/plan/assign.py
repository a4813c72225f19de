"""Who works on what (eq. 3): the best teams under team sizes and capacities.

    max Σ x_ij α_ij    team_min ≤ Σ_j x_ij ≤ team_max_i    Σ_i x_ij ≤ capacity_j    x_ij = 0 where α_ij = 0

The bounds form the incidence matrix of a bipartite graph, which is totally unimodular: the linear program has an integral
optimum, so it is solved without branching. Three steps, each exact:

1. Everybody's favourites. If no agent is over its capacity, that is the optimum, and most small jobs end here.
2. A program over the most promising pairs, with a slack at a price above any α where a lower bound cannot be met.
3. Its prices tell which of the other pairs would raise the value; they join and the program goes on, until none does.

Which pairs are promising is a guess and changes only the time: where all subtasks want the same agents, in one order, their
favourites say nothing, and prices from a greedy choice say who may expect whom.

Source: arXiv:2509.20175, eq. 3; column generation after Dantzig and Wolfe (1960).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from foa.values.vcv import Matrix

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

# how many pairs start, and how many join in a round: the best of each subtask and of each agent (tried on 200 × 1,000)
_START = 8  #: of each subtask, and at most of each agent that somebody wants
_START_AGENTS = 2_000  #: all agents together, two for each at least
_START_NEAR = 2  #: and those this near, in popularity, to an agent that the greedy choice took
_JOIN = (8, 4)
_JOIN_ALL = 2_000  #: fewer join at once
_TOLERANCE = 1e-7  #: HiGHS's own
_TIES = 1e-4  #: of the highest score: among equals, each subtask starts with other agents


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


def _check(scores: _Floats, most: _Ints, room: _Ints, team_min: int) -> None:
    if scores.ndim != 2 or scores.shape != (len(most), len(room)):
        raise ValueError(f"alpha has shape {scores.shape}; {len(most)} team sizes and {len(room)} capacities were given")
    if scores.size and not (np.isfinite(scores).all() and scores.min() >= 0):
        raise ValueError("every score must be finite and not negative")
    if team_min < 1 or (len(most) and most.min() < team_min):
        raise ValueError(f"team sizes must be at least team_min, and that at least 1; got {team_min}")
    if len(room) and room.min() < 0:
        raise ValueError("a capacity is negative")


def _assignment(scores: _Floats, rows: _Ints, chosen: NDArray[np.bool_]) -> Assignment:
    teams: list[tuple[int, ...]] = [()] * len(scores)
    for row, members in zip(rows.tolist(), chosen, strict=True):
        agents = np.flatnonzero(members)
        teams[row] = tuple(agents[np.argsort(-scores[row, agents], kind="stable")].tolist())
    value = sum(float(scores[row, list(team)].sum()) for row, team in enumerate(teams))
    return Assignment(teams=tuple(teams), unstaffed=tuple(row for row, team in enumerate(teams) if not team), value=value)


def _solve(scores: _Floats, most: _Ints, room: _Ints, team_min: int) -> NDArray[np.bool_]:
    """The chosen pairs; rows that cannot have `team_min` of them have fewer."""
    allowed = (scores > 0) & (room > 0)
    ranked = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
    favourites = np.zeros_like(allowed)
    np.put_along_axis(favourites, ranked, np.arange(ranked.shape[1])[None, :] < most[:, None], axis=1)
    favourites &= allowed
    if (favourites.sum(axis=0) <= room).all():
        return favourites
    return _Program(scores, allowed, most, room, team_min).optimum()


def _best(values: _Floats, many: int, *, axis: int) -> NDArray[np.bool_]:
    """The highest so many of each row (axis 1) or column (axis 0)."""
    taken = np.zeros(values.shape, dtype=bool)
    many = min(many, values.shape[axis])
    if many:
        places = np.argpartition(-values, many - 1, axis=axis)
        np.put_along_axis(taken, np.take(places, range(many), axis=axis), True, axis=axis)
    return taken


def _greedy(scores: _Floats, most: _Ints, room: _Ints) -> NDArray[np.bool_]:
    """The best agents with room for each subtask, one after another, the subtasks with the highest scores first."""
    left = room.copy()
    taken = np.zeros(scores.shape, dtype=bool)
    for row in np.argsort(-scores.mean(axis=1), kind="stable"):
        open_scores = np.where(left > 0, scores[row], 0.0)
        many = min(int(most[row]), scores.shape[1])
        agents = np.argpartition(-open_scores, many - 1)[:many]
        agents = agents[open_scores[agents] > 0]
        taken[row, agents] = True
        left[agents] -= 1
    return taken


def _promising(scores: _Floats, ties: _Floats, most: _Ints, room: _Ints) -> NDArray[np.bool_]:
    """Pairs with which the program starts: a greedy choice, agents as popular as those, and the best at likely prices.

    An agent's likely price is how much more popular it is than the most popular one that the greedy choice left room at; a
    subtask's is the gain it may expect at these prices.
    """
    greedy = _greedy(scores, most, room)
    fame = scores.mean(axis=0)
    with_room = fame[greedy.sum(axis=0) < room]
    gains = scores + ties - np.maximum(0.0, fame - with_room.max(initial=0.0))
    at_least = np.partition(-gains, typical := min(int(most.mean()), gains.shape[1] - 1), axis=1)[:, typical]
    wanted = np.flatnonzero(greedy.any(axis=0))
    found = greedy | _best(gains, _START, axis=1)
    each = min(_START, max(2, _START_AGENTS // max(1, len(wanted))))
    found[:, wanted] |= _best((gains + at_least[:, None])[:, wanted], each, axis=0)
    by_fame = np.argsort(-fame, kind="stable")
    place = np.argsort(by_fame)
    rows, columns = np.nonzero(greedy)
    for step in range(-_START_NEAR, _START_NEAR + 1):
        found[rows, by_fame[np.clip(place[columns] + step, 0, len(fame) - 1)]] = True
    return found


class _Program:
    """The linear program over the pairs that have joined so far."""

    def __init__(self, scores: _Floats, allowed: NDArray[np.bool_], most: _Ints, room: _Ints, team_min: int) -> None:
        self._scores = scores
        self._most, self._room = most, room
        self._outside = allowed.copy()  # pairs that may join and have not
        # always the same numbers, so that the same question has the same answer
        self._nudge = _TIES * float(scores.max(initial=0.0)) * np.random.default_rng(0).random(scores.shape)
        self._subtasks, self._agents = scores.shape
        self._rows: list[_Ints] = []
        self._columns: list[_Ints] = []
        # no chain of exchanges loses this much, so a slack is used only where nobody can be had
        price = 1.0 + float(scores.max(initial=0.0)) * float(most.sum())
        self._solver = highspy.Highs()
        self._solver.setOptionValue("output_flag", False)
        self._solver.setOptionValue("threads", 1)
        self._solver.setOptionValue("presolve", "off")
        self._solver.passModel(self._empty(most, room, team_min, price))

    def _empty(self, most: _Ints, room: _Ints, team_min: int, price: float) -> highspy.HighsLp:
        program = highspy.HighsLp()
        program.sense_ = highspy.ObjSense.kMaximize
        program.num_col_ = self._subtasks
        program.num_row_ = self._subtasks + self._agents
        program.col_cost_ = np.full(self._subtasks, -price)
        program.col_lower_ = np.zeros(self._subtasks)
        program.col_upper_ = np.full(self._subtasks, float(team_min))
        program.row_lower_ = np.concatenate([np.full(self._subtasks, float(team_min)), np.zeros(self._agents)])
        program.row_upper_ = np.concatenate([most, room]).astype(np.float64)
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = np.arange(self._subtasks + 1, dtype=np.int32)
        program.a_matrix_.index_ = np.arange(self._subtasks, dtype=np.int32)
        program.a_matrix_.value_ = np.ones(self._subtasks)
        return program

    def optimum(self) -> NDArray[np.bool_]:
        """Solve, let in the pairs that would raise the value, and go on until there are none."""
        joining = self._outside & _promising(self._scores, self._nudge, self._most, self._room)
        while joining.any():
            self._join(joining)
            self._solver.run()
            status = self._solver.getModelStatus()
            if status != highspy.HighsModelStatus.kOptimal:  # the slacks make every program solvable
                raise ArithmeticError(f"HiGHS ended with {status}")
            joining = self._worthwhile(np.asarray(self._solver.getSolution().row_dual))
        values = np.asarray(self._solver.getSolution().col_value)[self._subtasks :]
        chosen = np.zeros_like(self._outside)
        taken = values > 0.5
        chosen[np.concatenate(self._rows)[taken], np.concatenate(self._columns)[taken]] = True
        return chosen

    def _join(self, pairs: NDArray[np.bool_]) -> None:
        rows, columns = np.nonzero(pairs)
        self._rows.append(rows)
        self._columns.append(columns)
        self._outside &= ~pairs
        many = len(rows)
        ends = np.stack([rows, self._subtasks + columns], axis=1).ravel().astype(np.int32)
        self._solver.addCols(
            many,
            self._scores[rows, columns],
            np.zeros(many),
            np.ones(many),
            2 * many,
            np.arange(0, 2 * many, 2, dtype=np.int32),
            ends,
            np.ones(2 * many),
        )

    def _worthwhile(self, prices: _Floats) -> NDArray[np.bool_]:
        """Pairs outside that would raise the value at these prices, the best of them if they are many."""
        gains = self._scores - prices[: self._subtasks, None] - prices[None, self._subtasks :]
        worth = self._outside & (gains > _TOLERANCE)
        if int(worth.sum()) > _JOIN_ALL:
            gains = np.where(worth, gains + self._nudge, -np.inf)
            worth &= _best(gains, _JOIN[0], axis=1) | _best(gains, _JOIN[1], axis=0)
        return worth
