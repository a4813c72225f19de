"""What holds for every card, filter and canonical form."""

import contextlib
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.errors import BadCapability, BadMessage
from foa.registry.bloom import bloom, has_skills, positions, set_positions
from foa.registry.canonical import canonical
from foa.registry.card import decode_card, encode_card, rounded
from foa.registry.keys import new_key, public_key
from foa.registry.vitals import decode_vitals, encode_vitals
from foa.values.ids import AgentId
from foa.values.resources import Price, Resources
from foa.values.vcv import Vcv, Vector, Vitals

KEY = new_key()

skills = st.lists(st.text(min_size=1, max_size=64).filter(lambda t: "\x00" not in t), max_size=100).map(tuple)
amounts = st.none() | st.floats(0, 1e18, allow_nan=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@st.composite
def unit_vectors(draw: st.DrawFn, size: int = 16) -> Vector:
    values = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=size).astype(np.float32)
    return rounded(values / np.linalg.norm(values))


@st.composite
def vcvs(draw: st.DrawFn) -> Vcv:
    names = draw(skills)
    return Vcv(
        agent_id=AgentId(draw(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"))),
        version=draw(st.integers(1, 2**53 - 1)),
        name=draw(st.text(min_size=1, max_size=128)),
        description=draw(st.text(max_size=500)),
        skills=names,
        examples=tuple(draw(st.lists(st.text(min_size=1, max_size=100), max_size=4))),
        c=draw(unit_vectors()),
        s=bloom(names),
        r=Resources(
            price=Price(usd_per_call=draw(st.floats(0, 1e18))), latency_seconds=draw(amounts), vram_bytes=draw(amounts)
        ),
        p=frozenset(draw(st.sets(st.sampled_from(["gdpr", "hipaa", "phi", "region:eu"])))),
        e=draw(unit_vectors()),
        embedder="e:1",
        kinds=tuple(draw(st.lists(st.sampled_from(["propose", "draft"]), max_size=2, unique=True))),
        issued_at=draw(st.floats(0, 1e11)),
        public_key=public_key(KEY),
        fl=draw(st.none() | st.dictionaries(st.text(max_size=5), st.integers(0, 100), max_size=3)),
    )


@given(skills, st.data())
def test_a_filter_never_forgets_a_skill(names: tuple[str, ...], data: st.DataObject):
    bits = bloom(names)
    assert has_skills(bits, data.draw(st.lists(st.sampled_from(names), max_size=10)) if names else ())
    assert set(positions(names)) == set(set_positions(bits))


@given(vcvs())
def test_a_card_comes_back_as_it_went(vcv: Vcv):
    payload = encode_card(vcv, KEY)
    again = decode_card(payload)
    for name in Vcv.__slots__:
        assert np.array_equal(getattr(again, name), getattr(vcv, name)), name
    assert encode_card(again, KEY) == payload


@given(st.binary(max_size=2000) | json_values.map(lambda v: json.dumps(v).encode()))
def test_hostile_bytes_are_refused_and_nothing_else(payload: bytes):
    with pytest.raises(BadCapability):
        decode_card(payload)


@given(vcvs(), st.data())
def test_a_flipped_byte_never_yields_another_card(vcv: Vcv, data: st.DataObject):
    payload = bytearray(encode_card(vcv, KEY))
    where = data.draw(st.integers(0, len(payload) - 1))
    payload[where] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadCapability):
        assert encode_card(decode_card(bytes(payload)), KEY) == encode_card(vcv, KEY)


@given(vcvs(), st.sampled_from(sorted(Vcv.__slots__)), json_values)
def test_any_value_in_any_field_is_refused_or_bounded(vcv: Vcv, field: str, value: object):
    document = json.loads(encode_card(vcv, KEY))
    document["vcv"][field] = value
    document["vcv"].pop("public_key")
    with contextlib.suppress(BadCapability):
        decode_card(json.dumps(document | {"jws": ""}).encode(), allow_unsigned=True)


@given(json_values)
def test_canonical_json_means_the_same_and_is_a_fixed_point(value: object):
    once = canonical(value)
    assert canonical(json.loads(once)) == once
    assert _plain(json.loads(once)) == _plain(value)


def _plain(value: object) -> object:
    """Every number is a double: 1.0 and 1, −0.0 and 0 are one."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | str) else float(value) + 0.0  # type: ignore[arg-type]


vitals = st.builds(
    Vitals,
    online=st.booleans(),
    load=st.floats(0, 1),
    queue=st.integers(0, 1000),
    slots=st.integers(0, 100),
    latency_seconds=amounts,
    price_factor=st.floats(0, 1000),
    battery=st.none() | st.floats(0, 1),
)


@given(vitals)
def test_vitals_come_back_as_they_went(value: Vitals):
    assert decode_vitals(encode_vitals(value)) == value


@given(st.binary(max_size=300) | json_values.map(msgspec.json.encode))
def test_hostile_vitals_are_refused_and_nothing_else(payload: bytes):
    with pytest.raises(BadMessage):
        decode_vitals(payload)
