"""Clusters partition the agents, keep the sizes and do not depend on chance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foa.plan.cluster import form_clusters


@st.composite
def similarities(draw: st.DrawFn) -> NDArray[np.float32]:
    agents = draw(st.integers(0, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.normal(size=(agents, draw(st.integers(1, 4))))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.round(rows @ rows.T, draw(st.sampled_from([1, 6]))).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(similarities(), st.floats(-0.5, 0.9), st.integers(1, 6), st.integers(1, 6))
def test_clusters_partition_the_agents_and_keep_the_sizes(
    alike: NDArray[np.float32], threshold: float, one: int, other: int
) -> None:
    least, most = sorted((one, other))
    clusters = form_clusters(alike, threshold=threshold, members_max=most, members_min=least)
    assert sorted(agent for cluster in clusters for agent in cluster) == list(range(len(alike)))
    assert all(1 <= len(cluster) <= most for cluster in clusters)
    assert list(clusters) == sorted(tuple(sorted(cluster)) for cluster in clusters)
    assert clusters == form_clusters(alike, threshold=threshold, members_max=most, members_min=least)


@settings(max_examples=150, deadline=None)
@given(similarities(), st.floats(-0.5, 0.9), st.integers(1, 6), st.floats(-1, 1))
def test_sharing_adds_members_and_takes_none(alike: NDArray[np.float32], threshold: float, most: int, also: float) -> None:
    parted = form_clusters(alike, threshold=threshold, members_max=most)
    shared = form_clusters(alike, threshold=threshold, members_max=most, also_at=also)
    assert len(shared) == len(parted)
    assert all(any(set(cluster) <= set(grown) for grown in shared) for cluster in parted)
    assert all(len(cluster) <= most for cluster in shared)
