"""Teams made better by exchanges, until no exchange is left: then they are the optimum of eq. 3.

The residual network of a choice of teams, without its agents: its nodes are the subtasks and one node, *outside*, for the
places that nobody took. An edge from one subtask to another is the agent that gains the most by leaving the one and
joining the other, and weighs that gain; from outside comes an agent with room, and to outside one leaves.

    outside ──joins──► subtask ──moves──► subtask ──leaves──► outside

A cycle of positive weight is an exchange that raises the value: every team in it loses one member and gets one. Where none
is left, the teams are a flow of highest value. Many equal scores, among which a simplex method takes many steps that change
nothing, leave only a few exchanges, and short ones.

Source: Klein, A primal method for minimal cost flows (1967); cycles found as Bellman and Ford find them.
"""

import numpy as np

from foa.plan.assign_problem import Floats, Ints, Pairs, Problem

_ROUNDS = 3  #: where more are needed, the linear program is quicker
_ROUNDS_TIED = 50  #: among equal scores it is slow
_TIED = 0.1  #: scores count as equal where this share of all moves gain exactly nothing
_GAIN = 1e-12  #: of the highest score; a step of a cycle below this is rounding
_LOOKS = 4  #: steps between two looks for a cycle; the first steps are all looked at


def exchange(problem: Problem, chosen: Pairs) -> tuple[Pairs, bool]:
    """Make exchanges, for a few rounds; in each round all that were found at once.

    Returns:
        the teams, and whether they are the optimum.
    """
    teams = _Teams(problem, chosen)
    for done in range(_ROUNDS_TIED):
        gains = teams.gains()
        if done == _ROUNDS and (gains == 0).mean() < _TIED:
            break
        into = positive_cycles(gains)
        if into is None:
            return teams.chosen, True
        if not into:
            break
        teams.move(into)
    return teams.chosen, False


def positive_cycles(gains: Floats) -> dict[int, int] | None:
    """Cycles of positive weight that share no node, as a map from each node to the one before it.

    Args:
        gains: weight of the edge from each node (row) to each other (column); minus infinity where there is none.

    Returns:
        None where no cycle is positive; empty where rounding hides which one is.
    """
    nodes = len(gains)
    best, before = np.zeros(nodes), np.full(nodes + 1, nodes)  # one node more: where paths begin
    for step in range(nodes + 1):
        through = best[:, None] + gains
        last = through.argmax(axis=0)
        found = through[last, np.arange(nodes)]
        better = found > best + _GAIN
        if not better.any():
            return None
        best[better], before[:-1][better] = found[better], last[better]
        if step < _LOOKS or step % _LOOKS == 0 or step == nodes:
            on_cycles = _far_back(before)
            if len(on_cycles):
                return dict(zip(on_cycles.tolist(), before[on_cycles].tolist(), strict=True))
    return {}


def _far_back(before: Ints) -> Ints:
    """Nodes that are reached however far one goes back: those of the cycles."""
    back = before
    for _ in range(len(before).bit_length()):
        back = back[back]
    reached = np.unique(back)
    return reached[reached < len(before) - 1]


class _Teams:
    """Teams that change; everything is kept by agent and subtask, because that is how it is read."""

    def __init__(self, problem: Problem, chosen: Pairs) -> None:
        self._problem = problem
        self._outside = len(problem.scores)
        self._scores = np.ascontiguousarray(problem.scores.T)
        self._taken = np.ascontiguousarray(chosen.T)
        # what an agent would bring to a team that it is not in
        self._offers = np.where(problem.allowed.T & ~self._taken, self._scores, -np.inf)

    @property
    def chosen(self) -> Pairs:
        return self._taken.T

    def gains(self) -> Floats:
        """Weights of the residual network; its last node is outside."""
        out, taken = self._outside, self._taken.T.nonzero()
        self._rows, self._members = taken
        sizes = np.bincount(self._rows, minlength=out)
        self._with_room = np.flatnonzero(self._taken.sum(axis=1) < self._problem.room)
        gains = np.full((out + 1, out + 1), -np.inf)
        gains[:out, out], gains[out, :out] = self._sizes_may_change(sizes)
        self._grows, self._shrinks = gains[:out, out].copy(), gains[out, :out].copy()
        if len(self._rows):
            own = self._scores[self._members, self._rows]
            first = np.flatnonzero(np.diff(self._rows, prepend=-1))
            staffed = self._rows[first]
            gains[staffed, :out] = np.maximum.reduceat(self._offers[self._members] - own[:, None], first)
            gains[staffed, out] = np.maximum(gains[staffed, out], np.maximum.reduceat(-own, first))
        joining = self._offers[self._with_room].max(axis=0, initial=-np.inf)
        gains[out, :out] = np.maximum(gains[out, :out], joining)
        return gains

    def _sizes_may_change(self, sizes: Ints) -> tuple[Floats, Floats]:
        """What is gained where a team keeps one member more, and where one leaves and nobody follows."""
        problem = self._problem
        grows = np.where(sizes < problem.most, 0.0, -np.inf)
        shrinks = np.where(sizes > 0, 0.0, -np.inf)
        grows[sizes < problem.team_min] = problem.price
        shrinks[(sizes > 0) & (sizes <= problem.team_min)] = -problem.price
        return grows, shrinks

    def move(self, into: dict[int, int]) -> None:
        """Make the exchanges: into each node of the map from the one before it."""
        moves = [(self._mover(source, target), source, target) for target, source in into.items()]
        for agent, source, target in moves:
            if agent >= 0 and source != self._outside:
                self._put(agent, source, taken=False)
            if agent >= 0 and target != self._outside:
                self._put(agent, target, taken=True)

    def _mover(self, source: int, target: int) -> int:
        """Whom the edge stands for; -1 where nobody moves and a team changes its size."""
        if source == self._outside:
            agents, nobody = self._with_room, self._shrinks[target]
            brought = self._offers[agents, target]
        else:
            agents = self._members[self._rows == source]
            joins = target != self._outside
            nobody = -np.inf if joins else self._grows[source]
            brought = (self._offers[agents, target] if joins else 0.0) - self._scores[agents, source]
        if brought.max(initial=-np.inf) <= nobody:
            return -1
        return int(agents[brought.argmax()])

    def _put(self, agent: int, subtask: int, *, taken: bool) -> None:
        self._taken[agent, subtask] = taken
        self._offers[agent, subtask] = -np.inf if taken else self._scores[agent, subtask]
