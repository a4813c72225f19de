"""A codec gives back what it got, and no packet does more than be refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foa.errors import BadMessage
from foa.fl.codec import read_packed, write_packed
from foa.fl.compress import Compressor, unpack

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
changes = st.dictionaries(
    st.text(min_size=1, max_size=5), shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=st.floats(-9, 9))),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(change=changes, share=st.floats(0.01, 1.0))
def test_what_is_written_is_read_and_sent_plus_left_is_the_change(change: dict[str, np.ndarray], share: float) -> None:
    compressor = Compressor(share=share)
    packed = compressor.pack(change)
    found = read_packed({**write_packed(packed)}, change)
    for name, array in change.items():
        assert found[name].shape == array.shape
        assert found[name].tolist() == unpack(packed[name]).tolist()
        assert found[name] + compressor.left[name] == pytest.approx(array, abs=1e-12)
        assert np.count_nonzero(found[name]) <= max(1, int(np.ceil(share * array.size)))


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=30),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=30)), max_size=4),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_no_packet_does_more_than_be_refused(data: st.DataObject) -> None:
    base = {"w": np.zeros((3, 2)), "b": np.zeros(2)}
    rng = np.random.default_rng(0)
    flat: dict[str, object] = {**write_packed(Compressor(share=0.5).pack({"w": rng.normal(size=(3, 2)), "b": np.ones(2)}))}
    keys = st.sampled_from([*flat])
    for key in data.draw(st.sets(keys, min_size=1, max_size=3)):
        flat[key] = data.draw(anything)
    try:
        found = read_packed(flat, base)
    except BadMessage:
        return
    assert all(array.shape == base[name].shape and np.isfinite(array).all() for name, array in found.items())
