"""Eq. 3 as a linear program over the pairs that matter, each of which joins by its price.

Which pairs are promising is a guess and changes only the time. The program over them has prices, which tell which of the
other pairs would raise the value; they join and the program goes on, until none does.

Source: column generation after Dantzig and Wolfe (1960).
"""

import highspy
import numpy as np

from foa.plan.assign_problem import Floats, Ints, Pairs, Problem, by_spread, highest, leading

# how many pairs start, and how many join in a round: the best of each subtask and of each agent (tried on 200 × 1,000)
_START = 5  #: of each subtask, over the members of its team
_START_AGENT = 8  #: of each agent that somebody wants, at most
_START_AGENTS = 3_000  #: all these agents together, two for each at least
_JOIN = (8, 4)
_JOIN_ALL = 2_000  #: fewer join at once
# the scores are 1 at most
_TOLERANCE = 1e-9  #: of the gain of a pair
_TIES = 1e-9  #: among equals, each subtask starts with other agents

_OPTIONS = {
    "output_flag": False,
    "threads": 1,
    "presolve": "off",
    # teams that nearly agree make most steps of the simplex method change nothing: these two make them few, and cheap
    "simplex_dual_edge_weight_strategy": 1,  # Devex
    "dual_simplex_cost_perturbation_multiplier": 0.0,
    "user_objective_scale": 10,  # by 2 to the tenth: HiGHS's tolerance of 1e-7 is then below ours
}


def optimum(problem: Problem, near: Pairs) -> Pairs:
    """The optimum, from teams that are near it; subtasks that cannot have `team_min` members have fewer.

    Raises:
        ArithmeticError: HiGHS gave up.
    """
    # always the same numbers, so that the same question has the same answer
    ties = _TIES * np.random.default_rng(0).random(problem.scores.shape)
    program = _Program(problem)
    joining = problem.allowed & _promising(problem, near, ties)
    while joining.any():
        program.join(joining)
        joining = program.worthwhile(program.solve(), ties)
    return program.chosen()


def _best(values: Floats, many: int, *, axis: int) -> Pairs:
    """The highest so many of each row (axis 1) or column (axis 0)."""
    taken = np.zeros(values.shape, dtype=bool)
    lines, view = (values, taken) if axis else (values.T, taken.T)
    np.put_along_axis(view, highest(lines, many), True, axis=1)
    return taken


def _promising(problem: Problem, near: Pairs, ties: Floats) -> Pairs:
    """Pairs with which the program starts: the teams, their neighbours', and the best at likely prices.

    A team's neighbours are those before and after it in the order of the greedy choice. An agent's likely price is how much
    more popular it is than the last one needed, if the most popular work first; a subtask's is the gain that it may expect
    at these prices.
    """
    fame = problem.scores.mean(axis=0)
    famous = np.argsort(-fame, kind="stable")
    last = min(int(np.searchsorted(problem.room[famous].cumsum(), problem.most.sum())), len(famous) - 1)
    gains = problem.scores + ties - np.maximum(0.0, fame - fame[famous[last]])
    at_least = np.where(leading(gains, problem.most), gains, np.inf).min(axis=1)
    wanted = np.flatnonzero(near.any(axis=0))
    found = near | leading(gains, problem.most + _START)
    each = min(_START_AGENT, max(2, _START_AGENTS // max(1, len(wanted))))
    found[:, wanted] |= _best((gains - at_least[:, None])[:, wanted], each, axis=0)
    order = by_spread(problem.scores)
    found[order[1:]] |= near[order[:-1]]
    found[order[:-1]] |= near[order[1:]]
    return found


class _Program:
    """The linear program over the pairs that have joined so far, with a slack where a least team cannot be met."""

    def __init__(self, problem: Problem) -> None:
        self._scores = problem.scores
        self._outside = problem.allowed.copy()  # pairs that may join and have not
        self._subtasks, self._agents = problem.scores.shape
        self._rows: list[Ints] = []
        self._columns: list[Ints] = []
        self._solver = highspy.Highs()
        for name, value in _OPTIONS.items():
            self._solver.setOptionValue(name, value)
        self._solver.passModel(self._empty(problem))

    def _empty(self, problem: Problem) -> highspy.HighsLp:
        program = highspy.HighsLp()
        program.sense_ = highspy.ObjSense.kMaximize
        program.num_col_ = self._subtasks
        program.num_row_ = self._subtasks + self._agents
        least = np.full(self._subtasks, float(problem.team_min))
        program.col_cost_ = np.full(self._subtasks, -problem.price)
        program.col_lower_ = np.zeros(self._subtasks)
        program.col_upper_ = least
        program.row_lower_ = np.concatenate([least, np.zeros(self._agents)])
        program.row_upper_ = np.concatenate([problem.most, problem.room]).astype(np.float64)
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = np.arange(self._subtasks + 1, dtype=np.int32)
        program.a_matrix_.index_ = np.arange(self._subtasks, dtype=np.int32)
        program.a_matrix_.value_ = np.ones(self._subtasks)
        return program

    def solve(self) -> Floats:
        """The prices, of the subtasks and then of the agents."""
        self._solver.run()
        status = self._solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:  # the slacks make every program solvable
            raise ArithmeticError(f"HiGHS ended with {status}")
        return np.asarray(self._solver.getSolution().row_dual)

    def chosen(self) -> Pairs:
        values = np.asarray(self._solver.getSolution().col_value)[self._subtasks :]
        chosen = np.zeros_like(self._outside)
        taken = values > 0.5
        chosen[np.concatenate(self._rows)[taken], np.concatenate(self._columns)[taken]] = True
        return chosen

    def join(self, pairs: Pairs) -> None:
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

    def worthwhile(self, prices: Floats, ties: Floats) -> Pairs:
        """Pairs outside that would raise the value at these prices, the best of them if they are many."""
        gains = self._scores - prices[: self._subtasks, None] - prices[None, self._subtasks :]
        worth = self._outside & (gains > _TOLERANCE)
        if int(worth.sum()) > _JOIN_ALL:
            gains = np.where(worth, gains + ties, -np.inf)
            worth &= _best(gains, _JOIN[0], axis=1) | _best(gains, _JOIN[1], axis=0)
        return worth
