"""Secure aggregation under any drop-outs and any records: the exact sum, or no sum; a refusal, or nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.errors import BadMessage
from foa.fl.secagg import wire
from foa.fl.secagg.assembly import Assembly, Revealed, Shared
from foa.fl.secagg.levels import Scale, from_levels, to_levels
from foa.fl.secagg.member import LEAST, Keys, Member
from foa.fl.secagg.shares import join, split

steps = st.sampled_from(["stays", "stays", "stays", "share", "hide", "reveal"])


@settings(max_examples=60, deadline=None)
@given(leaves=st.lists(steps, min_size=3, max_size=9), seed=st.integers(0, 1000), neighbours=st.sampled_from([4, 64]))
def test_whoever_drops_out_the_sum_is_exact_or_there_is_none(leaves: list[str], seed: int, neighbours: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = {node: rng.integers(0, 2**32, 3, dtype=np.uint32) for node in range(1, len(leaves) + 1)}
    leaving = dict(zip(vectors, leaves, strict=True))
    members = {node: Member(node=node, about="r") for node in vectors}
    server = Assembly({node: member.keys() for node, member in members.items()}, "r", neighbours=neighbours)
    try:
        shared = dict[int, Shared]()
        for node, keys in server.introduce().items():
            if leaving[node] != "share":
                sealed = members[node].share(keys, server.threshold)
                shared[node] = Shared(sealed=sealed, seed_sha256=members[node].seed_sha256)
        masked = dict[int, np.ndarray]()
        for node, sealed in server.pass_on(shared).items():
            if leaving[node] != "hide":
                masked[node] = members[node].hide(sealed, vectors[node])
        revealed = dict[int, Revealed]()
        for node, (there, gone) in server.add(masked).items():
            if leaving[node] != "reveal":
                seeds, privates = members[node].reveal(there, gone)
                revealed[node] = Revealed(seeds=seeds, privates=privates)
        total = server.total(revealed)
    except BadMessage:
        # with all neighbours of one another, only more than a third gone may end a round, or two that are left to share:
        # of two, each would know the other's update
        gone, sharing = sum(leave != "stays" for leave in leaves), sum(leave != "share" for leave in leaves)
        assert neighbours == 4 or gone > len(leaves) - server.threshold or sharing < LEAST
        return
    expected = sum(vectors[node].astype(np.uint64) for node in vectors if leaving[node] in ("stays", "reveal")) % 2**32
    assert total.tolist() == [int(value) for value in expected]


@settings(max_examples=100, deadline=None)
@given(secret=st.binary(min_size=32, max_size=32), count=st.integers(2, 12), data=st.data())
def test_any_threshold_of_shares_gives_the_secret_back(secret: bytes, count: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(2, count))
    shares = split(secret, range(1, count + 1), least)
    chosen = data.draw(st.permutations(range(1, count + 1)))[:least]
    assert join({place: shares[place] for place in chosen}) == secret


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.floats(-30, 30), min_size=4, max_size=4), st.integers(1, 24)), min_size=1, max_size=9
    )
)
def test_the_mean_is_within_the_levels_of_the_plain_mean(rows: list[tuple[list[float], int]]) -> None:
    scale = Scale(members=len(rows), weight_max=24)
    total = np.zeros(5, np.uint32)
    for change, weight in rows:
        total += to_levels(np.array(change), weight, scale)
    weights = np.array([weight for _, weight in rows])
    plain = weights @ np.array([change for change, _ in rows]) / weights.sum()
    # each member rounds by half a level at most, over the weights' share of the largest
    assert from_levels(total, len(rows), scale) == pytest.approx(
        plain, abs=scale.error * len(rows) * 24 / weights.sum() + 1e-9
    )


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=90),
    st.lists(st.one_of(st.integers(), st.binary(max_size=90), st.text(max_size=3)), max_size=70),
)  # fmt: skip
KEYS = {1: Keys(bytes(32), bytes([1]) * 32), 2: Keys(bytes([2]) * 32, bytes([3]) * 32)}
RECORDS = {
    "keys": (wire.write_keys(KEYS[1]), wire.read_keys),
    "share": (wire.write_share(KEYS, 2, Scale(members=2, weight_max=9)), wire.read_share),
    "shared": (wire.write_shared(Shared(sealed={1: bytes(82), 2: bytes(82)}, seed_sha256=bytes(32))), wire.read_shared),
    "train": (wire.write_train({1: bytes(82)}), wire.read_sealed),
    "masked": (wire.write_masked(np.zeros(5, np.uint32)), lambda values: wire.read_masked(values, 5)),
    "reveal": (wire.write_reveal([1, 2], [3]), wire.read_reveal),
    "revealed": (wire.write_revealed(Revealed(seeds={1: bytes(33)}, privates={2: bytes(33)})), wire.read_revealed),
}


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_is_read_as_it_was_written(name: str) -> None:
    flat, read = RECORDS[name]
    read(flat)


@pytest.mark.parametrize("name", RECORDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_record_does_more_than_be_refused(name: str, data: st.DataObject) -> None:
    flat, read = RECORDS[name]
    changed: dict[str, object] = {**flat}
    for key in data.draw(st.sets(st.sampled_from([*flat]), min_size=1, max_size=3)):
        changed[key] = data.draw(anything)
    try:
        read(changed)
    except BadMessage:
        return
