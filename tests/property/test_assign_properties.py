"""Assignment equals brute force on small cases and keeps every bound on larger ones (eq. 3)."""

from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from foa.plan.assign import Assignment, assign
from foa.plan.assign_exchanges import exchange, positive_cycles
from foa.plan.assign_problem import Problem, greedy
from foa.plan.assign_program import optimum as by_program


def brute_force(alpha: NDArray[np.float64], most: list[int], room: list[int]) -> tuple[int, float]:
    """The most subtasks staffed and, with that many, the highest value."""
    agents = range(alpha.shape[1])
    choices = [
        [team for size in range(most[row] + 1) for team in combinations([a for a in agents if alpha[row, a] > 0], size)]
        for row in range(alpha.shape[0])
    ]
    best = (0, 0.0)
    for teams in product(*choices):
        used = np.bincount([a for team in teams for a in team], minlength=alpha.shape[1])
        if (used <= room).all():
            value = sum(float(alpha[row, list(team)].sum()) for row, team in enumerate(teams))
            best = max(best, (sum(bool(team) for team in teams), round(value, 9)))
    return best


def keeps_bounds(found: Assignment, alpha: NDArray[np.float64], most: list[int], room: list[int], least: int) -> None:
    used = np.bincount([a for team in found.teams for a in team], minlength=alpha.shape[1])
    assert (used <= room).all()
    for row, team in enumerate(found.teams):
        assert len(set(team)) == len(team)
        assert all(alpha[row, agent] > 0 for agent in team)
        assert (len(team) == 0) == (row in found.unstaffed)
        assert len(team) == 0 or least <= len(team) <= most[row]
        assert list(alpha[row, list(team)]) == sorted(alpha[row, list(team)], reverse=True)
    assert np.isclose(found.value, sum(alpha[row, list(team)].sum() for row, team in enumerate(found.teams)))


scores = st.sampled_from([0.0, 0.1, 0.25, 0.25, 0.5, 0.9, 1.0])


@st.composite
def small(draw: st.DrawFn) -> tuple[NDArray[np.float64], list[int], list[int]]:
    rows, agents = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    alpha = np.array(draw(st.lists(st.lists(scores, min_size=agents, max_size=agents), min_size=rows, max_size=rows)))
    return (
        alpha,
        draw(st.lists(st.integers(1, 3), min_size=rows, max_size=rows)),
        draw(st.lists(st.integers(0, 2), min_size=agents, max_size=agents)),
    )


@settings(max_examples=150, deadline=None)
@given(small())
def test_assignment_is_what_brute_force_finds(case: tuple[NDArray[np.float64], list[int], list[int]]) -> None:
    alpha, most, room = case
    found = assign(alpha.astype(np.float32), team_max=most, capacity=room)
    keeps_bounds(found, alpha.astype(np.float32), most, room, 1)
    staffed, value = brute_force(alpha, most, room)
    assert len(alpha) - len(found.unstaffed) == staffed
    assert abs(found.value - value) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 30),
    agents=st.integers(1, 60),
    least=st.integers(1, 3),
    density=st.sampled_from([0.05, 0.3, 1.0]),
    popular=st.sampled_from([0.0, 0.9, 1.0]),
)
def test_every_bound_is_kept(seed: int, rows: int, agents: int, least: int, density: float, popular: float) -> None:
    rng = np.random.default_rng(seed)
    alpha = ((1 - popular) * rng.random((rows, agents)) + popular * rng.random(agents)) * (
        rng.random((rows, agents)) < density
    )
    most, room = rng.integers(least, least + 3, rows).tolist(), rng.integers(0, 4, agents).tolist()
    found = assign(alpha, team_max=most, capacity=room, team_min=least)
    keeps_bounds(found, alpha, most, room, least)
    again = assign(alpha, team_max=most, capacity=room, team_min=least)
    assert again == found


def optimum(alpha: NDArray[np.floating], most: NDArray[np.integer], room: NDArray[np.integer]) -> tuple[int, float]:
    """The most subtasks staffed and, with that many, the highest value: every pair in one program, by branch and bound."""
    rows, agents = alpha.shape
    missing = rows + 1.0  # no chain of exchanges loses so much while scores are 1 at most
    per_row = np.hstack([np.kron(np.eye(rows), np.ones(agents)), np.eye(rows)])
    per_agent = np.hstack([np.kron(np.ones(rows), np.eye(agents)), np.zeros((agents, rows))])
    whole = milp(
        -np.concatenate([alpha.ravel(), np.full(rows, -missing)]),
        constraints=[LinearConstraint(per_row, 1, most), LinearConstraint(per_agent, 0, room)],
        bounds=Bounds(0, np.concatenate([(alpha > 0).ravel(), np.ones(rows)])),
        integrality=np.ones(rows * agents + rows),
        options={"mip_rel_gap": 0},
    )
    unstaffed = round(whole.x[rows * agents :].sum())
    return rows - unstaffed, -whole.fun + missing * unstaffed


Rng = np.random.Generator
HARD: dict[str, Callable[[Rng, int, int], NDArray[np.floating]]] = {
    "independent": lambda rng, rows, agents: rng.random((rows, agents)),
    "popular": lambda rng, rows, agents: 0.1 * rng.random((rows, agents)) + 0.9 * rng.random(agents),
    "near": lambda rng, rows, agents: rng.random(agents) + 1e-4 * rng.random((rows, agents)),
    "product": lambda rng, rows, agents: np.outer(rng.random(rows), rng.random(agents)),
    "same": lambda rng, rows, agents: np.tile(rng.random(agents), (rows, 1)),
    "low rank": lambda rng, rows, agents: rng.random((rows, 3)) @ rng.random((3, agents)),
    "line": lambda rng, rows, agents: 1.001 - np.abs(rng.random((rows, 1)) - rng.random(agents)),
    "equal": lambda _, rows, agents: np.full((rows, agents), 0.5),
    "levels": lambda rng, rows, agents: rng.integers(0, 4, (rows, agents)),
    "few can": lambda rng, rows, agents: rng.random((rows, agents)) * (rng.random((rows, agents)) < 0.06),
    "many orders": lambda rng, rows, agents: 10 ** (-8 * rng.random((rows, agents))),
}


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(HARD)),
    teams=st.sampled_from([(1,), (1, 2, 3, 4), (5,), (1, 10)]),
    places=st.sampled_from([(1,), (1, 2, 3), (0, 1, 12)]),
)
def test_hard_kinds_of_problems_get_the_optimum(
    seed: int, kind: str, teams: tuple[int, ...], places: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    alpha = HARD[kind](rng, 12, 40)
    alpha = alpha / alpha.max()
    most, room = rng.choice(teams, 12), rng.choice(places, 40)
    found = assign(alpha, team_max=most.tolist(), capacity=room.tolist())
    keeps_bounds(found, alpha, most.tolist(), room.tolist(), 1)
    staffed, value = optimum(alpha, most, room)
    assert len(alpha) - len(found.unstaffed) == staffed
    assert abs(found.value - value) < 1e-6


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(sorted(HARD)), least=st.integers(1, 2))
def test_where_exchanges_prove_the_optimum_the_program_finds_no_better(seed: int, kind: str, least: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = HARD[kind](rng, 12, 40).astype(np.float64)
    problem = Problem.of(alpha, rng.integers(2, 5, 12), rng.integers(0, 3, 40), least)
    first = greedy(problem)
    chosen, proven = exchange(problem, first)
    assert worth(problem, chosen) >= worth(problem, first) - 1e-9
    best = worth(problem, by_program(problem, first))
    assert worth(problem, chosen) <= best + 1e-6
    assert not proven or worth(problem, chosen) >= best - 1e-6


def worth(problem: Problem, chosen: NDArray[np.bool_]) -> float:
    """Scores, less the price of the members that are missing."""
    missing = np.maximum(0, problem.team_min - chosen.sum(axis=1)).sum()
    return float(problem.scores[chosen].sum() - problem.price * missing)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.sampled_from([-900, -60, 60, 900]))
def test_the_size_of_the_scores_does_not_matter(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = 0.2 * rng.random((15, 30)) + 0.8 * rng.random(30)
    most, room = rng.integers(1, 4, 15).tolist(), rng.integers(1, 3, 30).tolist()
    found = assign(alpha, team_max=most, capacity=room)
    scaled = assign(np.ldexp(alpha, exponent), team_max=most, capacity=room)
    assert scaled.teams == found.teams


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_no_subtasks_or_no_agents_give_no_teams(shape: tuple[int, int]) -> None:
    found = assign(np.zeros(shape), team_max=[2] * shape[0], capacity=[1] * shape[1])
    assert found == Assignment(teams=((),) * shape[0], unstaffed=tuple(range(shape[0])), value=0)


def test_a_cycle_is_found_where_one_is_positive() -> None:
    none = -np.inf
    # 0 → 1 → 2 → 0 weighs 2 - 1 - 0.5 = 0.5, and 3 leads into it from outside it
    gains = np.array([[none, 2, none, none], [none, none, -1, none], [-0.5, none, none, none], [5, none, none, none]])
    assert positive_cycles(gains) == {1: 0, 2: 1, 0: 2}
    gains[2, 0] = -1  # 2 - 1 - 1 = 0
    assert positive_cycles(gains) is None
