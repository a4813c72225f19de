"""Worked examples of Alg. 3 and of assignment."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from foa.plan.assign import assign
from foa.plan.cluster import form_clusters, similarity
from foa.plan.linkage import agglomerate

ROWS = np.array([[1, 0], [1, 0], [0, 2], [0, 0]], dtype=np.float32)


def symmetric(*pairs: tuple[int, int, float], agents: int) -> NDArray[np.float32]:
    found = np.eye(agents, dtype=np.float32)
    for first, second, value in pairs:
        found[first, second] = found[second, first] = value
    return found


# ── similarity ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_similarity_is_the_weighted_sum_of_four_cosines() -> None:
    ones = np.ones((4, 2), dtype=np.float32)
    found = similarity(ROWS, np.zeros((4, 0), dtype=np.float32), ones, ones)
    # .3 · cos(c) + .5 · 1 + .2 · 1
    assert found[0] == pytest.approx([1.0, 1.0, 0.7, 0.7])
    assert found.dtype == np.float32
    assert (found == found.T).all()


def test_a_zero_row_is_like_nobody() -> None:
    assert similarity(ROWS, ROWS, ROWS, ROWS, (1, 0, 0, 0))[3] == pytest.approx([0, 0, 0, 0])


def test_rows_and_weights_must_fit() -> None:
    with pytest.raises(ValueError, match="row counts differ"):
        similarity(ROWS, ROWS, ROWS[:2], ROWS)
    with pytest.raises(ValueError, match="four weights"):
        similarity(ROWS, ROWS, ROWS, ROWS, (1, 0, 0))
    with pytest.raises(ValueError, match="four weights"):
        similarity(ROWS, ROWS, ROWS, ROWS, (1, 0, 0, -1))


# ── clusters ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_camps_are_two_clusters() -> None:
    alike = symmetric((0, 2, 0.9), (1, 3, 0.8), (0, 1, 0.1), agents=4)
    assert form_clusters(alike) == ((0, 2), (1, 3))


def test_the_cut_is_at_the_average_similarity() -> None:
    # 2 joins {0, 1} at (0.1 + 0.3) / 2 = 0.2
    alike = symmetric((0, 1, 0.9), (0, 2, 0.125), (1, 2, 0.275), agents=3)
    assert form_clusters(alike, threshold=0.2) == ((0, 1, 2),)
    assert form_clusters(alike, threshold=0.21) == ((0, 1), (2,))


def test_a_cluster_over_the_maximum_is_split_where_it_last_joined() -> None:
    alike = symmetric((0, 1, 0.9), (2, 3, 0.8), (3, 4, 0.8), (2, 4, 0.8), agents=5)
    alike = np.maximum(alike, 0.5).astype(np.float32)
    assert form_clusters(alike, members_max=4) == ((0, 1), (2, 3, 4))
    assert form_clusters(alike, members_max=5) == ((0, 1, 2, 3, 4),)
    assert form_clusters(alike, members_max=1) == ((0,), (1,), (2,), (3,), (4,))


def test_a_small_cluster_joins_or_takes_a_member_where_somebody_is_near_enough() -> None:
    alike = np.full((5, 5), 0.9, dtype=np.float32)
    alike[4], alike[:, 4] = 0.5, 0.5
    alike[4, 2] = alike[2, 4] = 0.6
    assert form_clusters(alike, members_max=4) == ((0, 1, 2, 3), (4,))
    assert form_clusters(alike, members_max=4, members_min=2) == ((0, 1, 3), (2, 4))
    assert form_clusters(alike[1:, 1:], members_max=3, members_min=2, threshold=0.55) == ((0, 2), (1, 3))
    alike[4], alike[:, 4] = 0.0, 0.0
    assert form_clusters(alike, members_max=4, members_min=2) == ((0, 1, 2, 3), (4,))


def test_an_agent_may_be_in_several_clusters() -> None:
    alike = symmetric((0, 1, 0.9), (2, 3, 0.9), (1, 2, 0.8), (1, 3, 0.6), agents=4)
    assert form_clusters(alike, members_max=3, threshold=0.5) == ((0, 1), (2, 3))
    assert form_clusters(alike, members_max=3, threshold=0.5, also_at=0.7) == ((0, 1), (1, 2, 3))
    assert form_clusters(alike, members_max=2, threshold=0.5, also_at=0.7) == ((0, 1), (2, 3))


def test_nobody_and_one_are_clusters_too() -> None:
    assert form_clusters(np.zeros((0, 0), dtype=np.float32)) == ()
    assert form_clusters(np.ones((1, 1), dtype=np.float32)) == ((0,),)


def test_what_is_no_similarity_is_refused() -> None:
    for wrong in (np.ones((2, 3)), np.array([[1, 0.5], [0.1, 1]]), np.array([[1, np.nan], [np.nan, 1]])):
        with pytest.raises(ValueError, match="square, symmetric and finite"):
            form_clusters(wrong.astype(np.float32))
    with pytest.raises(ValueError, match="no range"):
        form_clusters(np.eye(2, dtype=np.float32), members_min=3, members_max=2)


def test_the_tree_is_scipys() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        rows = rng.normal(size=(12, 4))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        alike = rows @ rows.T
        tree = linkage(squareform(np.clip(1 - alike, 0, None), checks=False), method="average")
        for threshold in (0.6, 0.2, -0.2):
            labels = fcluster(tree, 1 - threshold, criterion="distance")
            theirs = {tuple(np.flatnonzero(labels == label)) for label in set(labels)}
            assert {branch.members for branch in agglomerate(alike, threshold=threshold)} == theirs


# ── assignment ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_wanted_agent_goes_where_the_loss_is_least() -> None:
    # both want agent 0; giving it to subtask 1 costs 0.9 − 0.8, the other way 0.85 − 0.1
    found = assign(np.array([[0.9, 0.8], [0.85, 0.1]]), team_max=[1, 1], capacity=[1, 1])
    assert found.teams == ((1,), (0,))
    assert found.value == pytest.approx(1.65)


def test_an_unstaffable_subtask_is_reported_and_the_rest_stay_best() -> None:
    found = assign(np.array([[0.0, 0.0], [0.5, 0.9]]), team_max=[2, 2], capacity=[1, 1])
    assert found.teams == ((), (1, 0))
    assert found.unstaffed == (0,)


def test_staffing_one_more_counts_for_more_than_any_score() -> None:
    # without the bound subtask 0 would take both agents
    found = assign(np.array([[0.9, 0.9], [0.0, 0.01]]), team_max=[2, 1], capacity=[1, 1])
    assert found.teams == ((0,), (1,))


def test_nobody_keeps_half_a_team() -> None:
    found = assign(np.array([[0.9, 0.0, 0.0], [0.8, 0.7, 0.6]]), team_max=[2, 3], capacity=[1, 1, 1], team_min=2)
    assert found.teams == ((), (0, 1, 2))


def test_no_agents_or_no_subtasks_staff_nothing() -> None:
    assert assign(np.zeros((2, 0)), team_max=[1, 1], capacity=[]).unstaffed == (0, 1)
    assert assign(np.zeros((0, 2)), team_max=[], capacity=[1, 1]).teams == ()


@pytest.mark.parametrize(
    ("alpha", "team_max", "capacity", "team_min", "fault"),
    [
        ([[0.5]], [1, 1], [1], 1, "2 team sizes"),
        ([[-0.5]], [1], [1], 1, "finite and not negative"),
        ([[np.nan]], [1], [1], 1, "finite and not negative"),
        ([[0.5]], [1], [1], 2, "at least team_min"),
        ([[0.5]], [1], [1], 0, "at least team_min"),
        ([[0.5]], [1], [-1], 1, "capacity is negative"),
    ],
)
def test_numbers_out_of_range_are_refused(
    alpha: list[list[float]], team_max: list[int], capacity: list[int], team_min: int, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        assign(np.array(alpha), team_max=team_max, capacity=capacity, team_min=team_min)
