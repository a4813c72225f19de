"""What a robust rule gives stays among the honest, whatever as many liars as it stands send."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.fl.aggregate import Update, clipped_mean, fltrust, median, multikrum, trimmed_mean
from foa.fl.screen import screen
from foa.values.ids import AgentId

BASE = {"w": np.zeros(3)}
honest = st.lists(st.floats(-1, 1), min_size=3, max_size=3)
lies = st.lists(st.floats(-1e18, 1e18), min_size=3, max_size=3)


def updates(good: list[list[float]], bad: list[list[float]]) -> list[Update]:
    # liars come first by name: ties must not go to them
    named = [*((f"a{i}", row) for i, row in enumerate(bad)), *((f"b{i}", row) for i, row in enumerate(good))]
    return [Update(client=AgentId(name), arrays={"w": np.array(row)}, samples=10**6) for name, row in named]


@settings(max_examples=150, deadline=None)
@given(good=st.lists(honest, min_size=5, max_size=7), bad=st.lists(lies, min_size=0, max_size=4))
def test_the_median_stays_between_honest_values(good: list[list[float]], bad: list[list[float]]) -> None:
    found = median(BASE, updates(good, bad))["w"]
    assert (found >= np.min(good, axis=0) - 1e-12).all()
    assert (found <= np.max(good, axis=0) + 1e-12).all()


@settings(max_examples=150, deadline=None)
@given(good=st.lists(honest, min_size=6, max_size=9), bad=st.lists(lies, min_size=0, max_size=2))
def test_the_trimmed_mean_stays_between_honest_values(good: list[list[float]], bad: list[list[float]]) -> None:
    # a quarter of eight and more is two at each end
    found = trimmed_mean(BASE, updates(good, bad))["w"]
    assert (found >= np.min(good, axis=0) - 1e-9).all()
    assert (found <= np.max(good, axis=0) + 1e-9).all()


far = st.lists(st.one_of(st.floats(1e3, 1e18), st.floats(-1e18, -1e3)), min_size=3, max_size=3)


@pytest.mark.parametrize("keep", [1, None])
@settings(max_examples=150, deadline=None)
@given(good=st.lists(honest, min_size=7, max_size=9), bad=st.lists(far, min_size=0, max_size=3))
def test_krum_takes_no_update_that_is_far_away(keep: int | None, good: list[list[float]], bad: list[list[float]]) -> None:
    found = multikrum(BASE, updates(good, bad), bad=len(bad), keep=keep)["w"]
    assert (np.abs(found) <= 1 + 1e-6).all()


@settings(max_examples=150, deadline=None)
@given(good=st.lists(honest, min_size=1, max_size=5), bad=st.lists(lies, min_size=0, max_size=9))
def test_fltrust_moves_no_further_than_the_server_would(good: list[list[float]], bad: list[list[float]]) -> None:
    own = {"w": np.array([0.3, -0.4, 0.0])}
    assert np.linalg.norm(fltrust(BASE, updates(good, bad), trusted=own)["w"]) <= 0.5 + 1e-9


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(lies, min_size=1, max_size=9), norm=st.floats(0.1, 5))
def test_a_clipped_mean_moves_no_further_than_its_norm(rows: list[list[float]], norm: float) -> None:
    assert np.linalg.norm(clipped_mean(BASE, updates(rows, []), norm=norm)["w"]) <= norm * (1 + 1e-9)


anything = st.lists(st.floats(width=32), min_size=0, max_size=5)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(anything, min_size=0, max_size=9))
def test_screening_loses_nobody(rows: list[list[float]]) -> None:
    given_ = updates(rows, [])
    found = screen(BASE, given_)
    assert {update.client for update in found.kept} | {*found.suspects} == {update.client for update in given_}
    assert not {update.client for update in found.kept} & {*found.suspects}
    assert all(found.suspects.values())
