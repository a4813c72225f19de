"""An aggregate ignores the order in which updates come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.fl.aggregate import AGGREGATIONS, Update, fltrust, heterofl
from foa.values.ids import AgentId

RULES = {
    **AGGREGATIONS,
    "heterofl": heterofl,
    "fltrust": lambda base, updates: fltrust(base, updates, trusted={"w": np.ones(3), "b": np.ones((2, 1))}),
}
numbers = st.floats(-100, 100, width=32)
rows = st.tuples(st.lists(numbers, min_size=5, max_size=5), st.integers(1, 500))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None)
@given(data=st.lists(rows, min_size=1, max_size=9), seed=st.integers(0, 1000))
def test_order_does_not_matter(rule: str, data: list[tuple[list[float], int]], seed: int) -> None:
    base = {"w": np.zeros(3), "b": np.full((2, 1), 0.5)}
    updates = [
        Update(
            client=AgentId(f"c{i}"),
            arrays={"w": np.array(values[:3]), "b": np.array(values[3:]).reshape(2, 1)},
            samples=samples,
        )
        for i, (values, samples) in enumerate(data)
    ]
    shuffled = [updates[i] for i in np.random.default_rng(seed).permutation(len(updates))]
    one, other = RULES[rule](base, updates), RULES[rule](base, shuffled)
    assert {name: array.tolist() for name, array in one.items()} == {name: array.tolist() for name, array in other.items()}
    assert all(one[name].shape == base[name].shape for name in base)
