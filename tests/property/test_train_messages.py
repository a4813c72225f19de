"""Messages of a training are bounded whoever wrote them: what decodes is within its limits, all else is a sentence."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.errors import BadMessage
from foa.messages import MAX_PAYLOAD_BYTES, Reply, Request, Trained, TrainProgress, TrainRequest, decode, encode
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.task import Task

BUDGET = Budget(usd=1.0, tokens=1_000, calls=10, seconds=60.0)
REQUEST = TrainRequest(job="job-1", subtask="s1", text="train a model", task=Task(text="train"), budget=BUDGET)
PROGRESS = TrainProgress(
    agent="trainer",
    job="job-1",
    subtask="s1",
    round=3,
    node="credit",
    state="ended",
    said="a brought .1",
    value=msgspec.Raw(b'{"a":0.1}'),
    credits={"a": 0.1},
    spend=Spend(usd=0.5),
)
REPLY = Reply(agent="trainer", body=Trained(draft=Draft(answer="trained"), run="r1", rounds=3, figures={"accuracy": 0.8}))
MESSAGES = [REQUEST, PROGRESS, REPLY]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("message", MESSAGES, ids=["request", "progress", "reply"])
def test_a_message_comes_back_as_it_was(message: TrainRequest | TrainProgress | Reply) -> None:
    assert encode(decode(encode(message), type(message))) == encode(message)


def test_a_train_request_is_one_of_the_requests() -> None:
    assert isinstance(decode(encode(REQUEST), Request), TrainRequest)  # type: ignore[type-var]


@given(st.sampled_from(range(3)), st.data())
def test_a_message_with_any_field_replaced_is_refused_or_within_its_limits(which: int, data: st.DataObject) -> None:
    message = MESSAGES[which]
    fields = json.loads(encode(message))
    field = data.draw(st.sampled_from(sorted(fields)))
    fields[field] = data.draw(json_values)
    try:
        found = decode(json.dumps(fields).encode(), type(message))
    except BadMessage:
        return
    if isinstance(found, TrainProgress):
        assert 1 <= found.round <= 100_000
        assert len(found.said) <= 500
        assert len(found.credits) <= 1_000
        assert found.node.isalpha()
    # what decoded can be sent again
    assert len(encode(found)) <= MAX_PAYLOAD_BYTES


@given(st.binary(max_size=200))
def test_noise_is_refused_with_a_sentence(noise: bytes) -> None:
    for kind in (TrainRequest, TrainProgress):
        with pytest.raises(BadMessage, match="not a usable message"):
            decode(noise, kind)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"node": "train\n"}, "regex"),
        ({"node": "../credit"}, "regex"),
        ({"state": "maybe"}, "state"),
        ({"round": 0}, "round"),
        ({"credits": {"a b": 1.0}}, "credits"),
        ({"credits": {"a": 1e12}}, "credits"),
        ({"credits": {f"s{i}": 0.0 for i in range(1_001)}}, "credits"),
        ({"said": "x" * 501}, "said"),
        ({"spend": {"usd": -1.0}}, "usd"),
    ],
)
def test_progress_out_of_its_bounds_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        decode(json.dumps(json.loads(encode(PROGRESS)) | change).encode(), TrainProgress)


def test_a_value_nested_without_end_is_refused() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    with pytest.raises(BadMessage, match="not a usable message"):
        decode(encode(PROGRESS).replace(b'{"a":0.1},"credits"', deep + b',"credits"'), TrainProgress)
