"""Assignment equals brute force on small cases and keeps every bound on larger ones (eq. 3)."""

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from foa.plan.assign import Assignment, assign


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


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), popular=st.sampled_from([0.0, 0.5, 0.95]))
def test_letting_pairs_in_by_their_price_loses_nothing(seed: int, popular: float) -> None:
    """Against the whole program solved by branch and bound, where every subtask can be staffed."""
    rng = np.random.default_rng(seed)
    rows, agents = 20, 80
    alpha = (1 - popular) * rng.random((rows, agents)) + popular * rng.random(agents)
    most, room = rng.integers(1, 5, rows), rng.integers(1, 2, agents)
    per_row = np.kron(np.eye(rows), np.ones(agents))
    per_agent = np.kron(np.ones(rows), np.eye(agents))
    whole = milp(
        -alpha.ravel(),
        constraints=[LinearConstraint(per_row, 1, most), LinearConstraint(per_agent, 0, room)],
        bounds=Bounds(0, 1),
        integrality=np.ones(rows * agents),
    )
    found = assign(alpha, team_max=most.tolist(), capacity=room.tolist())
    assert found.unstaffed == ()
    assert abs(found.value + whole.fun) < 1e-6


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["product", "near", "same", "low rank"]),
    places=st.integers(1, 3),
)
def test_subtasks_that_agree_on_who_is_good_get_the_optimum(seed: int, kind: str, places: int) -> None:
    """Where favourites say nothing, the program starts from likely prices: against branch and bound."""
    rng = np.random.default_rng(seed)
    rows, agents = 12, 40
    alpha = {
        "product": np.outer(rng.random(rows), rng.random(agents)),
        "near": rng.random(agents) + 1e-4 * rng.random((rows, agents)),
        "same": np.tile(rng.random(agents), (rows, 1)),
        "low rank": rng.random((rows, 3)) @ rng.random((3, agents)),
    }[kind]
    most, room = rng.integers(1, 5, rows), rng.integers(1, places + 1, agents)
    whole = milp(
        -alpha.ravel(),
        constraints=[
            LinearConstraint(np.kron(np.eye(rows), np.ones(agents)), 1, most),
            LinearConstraint(np.kron(np.ones(rows), np.eye(agents)), 0, room),
        ],
        bounds=Bounds(0, 1),
        integrality=np.ones(rows * agents),
        options={"mip_rel_gap": 0},
    )
    found = assign(alpha, team_max=most.tolist(), capacity=room.tolist())
    keeps_bounds(found, alpha, most.tolist(), room.tolist(), 1)
    assert abs(found.value + whole.fun) < 1e-6
