"""What eq. 3 asks, in the form its two solvers share, and a first choice of teams for them to start from."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pairs = NDArray[np.bool_]  #: shape (subtasks, agents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Eq. 3 with scores of 1 at most, so that every tolerance is a share of the highest score."""

    scores: Floats  #: shape (subtasks, agents), from 0 to 1
    allowed: Pairs  #: the agent may and can work on the subtask
    most: Ints  #: members of each team, at most
    room: Ints  #: subtasks of each agent, at most
    team_min: int  #: members of each team, at least

    @classmethod
    def of(cls, scores: Floats, most: Ints, room: Ints, team_min: int) -> Self:
        """The problem for scores of any size; sizes and capacities no larger than can be used."""
        subtasks, agents = scores.shape
        _, exponent = np.frexp(scores.max(initial=0.0))
        return cls(
            scores=np.ldexp(scores, -exponent),  # by a power of two, which loses no digit
            allowed=(scores > 0) & (room > 0),
            most=np.minimum(most, agents),
            room=np.minimum(room, subtasks),
            team_min=team_min,
        )

    @property
    def price(self) -> float:
        """Of a missing member: more than any chain of exchanges can lose, as each subtask loses less than 1 in it."""
        return 1.0 + len(self.scores)


def by_spread(scores: Floats) -> Ints:
    """The subtasks, first those to which it makes the largest difference who works on them."""
    return np.argsort(-scores.std(axis=1), kind="stable")


def greedy(problem: Problem) -> Pairs:
    """The best agents with room for one subtask after another, in the order `by_spread`.

    A team takes no place that a later one needs for its least members, as far as places can be counted.
    """
    scores = np.where(problem.allowed, problem.scores, -1.0)
    left = problem.room.copy()
    spare = int(np.minimum(left, problem.allowed.sum(axis=0)).sum()) - problem.team_min * len(scores)
    chosen = np.zeros(scores.shape, dtype=bool)
    for row in by_spread(problem.scores):
        many = min(int(problem.most[row]), problem.team_min + max(0, spare))
        agents = highest(np.where(left > 0, scores[row], -1.0), many)
        agents = agents[(scores[row, agents] >= 0) & (left[agents] > 0)]
        chosen[row, agents] = True
        left[agents] -= 1
        spare -= len(agents) - problem.team_min
    return chosen


def highest(values: Floats, many: int) -> Ints:
    """Places of the highest so many along the last axis, in no order."""
    many = min(many, values.shape[-1])
    return np.argpartition(-values, max(0, many - 1), axis=-1)[..., :many]


def leading(values: Floats, many: Ints) -> Pairs:
    """The highest of each row, so many as `many` says for it."""
    places = highest(values, int(many.max(initial=0)))
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    found = np.zeros(values.shape, dtype=bool)
    in_order = np.take_along_axis(places, order, axis=1)
    np.put_along_axis(found, in_order, np.arange(places.shape[1]) < many[:, None], axis=1)
    return found
