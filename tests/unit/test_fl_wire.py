"""What goes over the wire besides Flower's own messages: blocks, terms, claims."""

from pathlib import Path

import msgspec
import pytest

from foa.errors import BadMessage
from foa.fl.blobs import BlobClaim, FolderBlobs
from foa.fl.block import FlBlock, block_of, bucketed_samples, fl_of, node_id
from foa.fl.grids.parcel import opened
from foa.fl.guardian import Terms, TrainAsk
from foa.fl.terms import Told, read_ask, read_told, write_ask, write_told
from foa.fl.wish_wire import decode_told
from foa.values.ids import AgentId

ASK = TrainAsk(
    run="r1",
    round=3,
    purpose="heart disease",
    terms=Terms(epochs=2, steps=100, width=0.5, batch=4, noise_multiplier=1.5, clip=1.0),
    deadline_seconds=30.0,
    cohort=4,
)


def test_an_ask_comes_back_from_its_flat_values() -> None:
    assert read_ask(write_ask(ASK)) == ASK


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", "2"), ("epochs", True), ("steps", 10**12), ("clip", None), ("purpose", "x" * 501)]
)
def test_terms_of_another_type_are_refused(key: str, value: object) -> None:
    with pytest.raises(BadMessage, match=key):
        read_ask({**write_ask(ASK), key: value})


def test_missing_terms_are_named() -> None:
    values: dict[str, object] = {**write_ask(ASK)}
    del values["noise-multiplier"]
    with pytest.raises(BadMessage, match="noise-multiplier"):
        read_ask(values)


def test_what_a_site_tells_comes_back_and_nonsense_is_nothing() -> None:
    told = Told(
        countered=True,
        reasons="slow",
        seconds=1.0,
        noise_multiplier=0.0,
        steps=5,
        epochs=1,
        width=1.0,
        epsilon_budget=-1.0,
        epsilon_left=-1.0,
    )
    assert read_told(write_told(told)) == told
    assert read_told({"countered": "perhaps"}) is None


@pytest.mark.parametrize(
    ("key", "value"), [("seconds", float("inf")), ("epsilon-left", float("nan")), ("reasons", "x" * 501), ("by", "x" * 501)]
)
def test_what_a_run_could_not_keep_is_nothing_either(key: str, value: object) -> None:
    numbers = {"seconds": 1.0, "noise-multiplier": 0.0, "width": 1.0, "epsilon-budget": -1.0, "epsilon-left": -1.0}
    told = {"countered": False, "reasons": "", "steps": 5, "epochs": 1, **numbers}
    assert read_told(told) is not None
    assert read_told({**told, key: value}) is None


@pytest.mark.parametrize("payload", [b'\x03{"code":1,"reason":"\xff"}', b'\x02{"sha256":"\xff","size":1}', b"\x09", b""])
def test_bytes_that_are_no_text_are_refused_and_end_nobody(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        opened(payload, lambda: None)


def test_an_answer_to_a_wish_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadMessage):
        decode_told(b'{"wish":"a","state":"kept","text":"\xff"}')


def test_a_block_comes_back_from_its_card() -> None:
    block = FlBlock(agent="site-1", project="hearts", samples=128, width=0.5, epsilon=4.0, epsilon_left=3.5)
    assert block_of(block.id, fl_of(block)) == block
    assert block_of(block.id, fl_of(FlBlock(agent="site-1"))) == FlBlock(agent="site-1")


@pytest.mark.parametrize("fl", [{"samples": 0}, {"width": 2}, {"epsilon": "much"}, {"project": "x" * 65}])
def test_a_block_out_of_bounds_is_none(fl: dict[str, object]) -> None:
    assert block_of(AgentId("a7"), fl) is None


def test_the_block_of_a_vcv_speaks_for_its_agent_only() -> None:
    found = block_of(AgentId("a7"), {"samples": 9, "agent": "somebody-else"})
    assert found is not None
    assert found.agent == "a7"
    assert block_of(AgentId("a7"), {"samples": "many"}) is None
    assert block_of(AgentId("a7"), None) is None


def test_node_numbers_are_stable_positive_and_fit_flower() -> None:
    numbers = {node_id(AgentId(f"site-{i}")) for i in range(1000)}
    assert len(numbers) == 1000
    assert all(0 < number < 2**63 for number in numbers)


def test_told_sample_counts_are_within_a_fifth() -> None:
    for count in range(1, 3000, 7):
        assert count / 1.25 <= bucketed_samples(count) <= count * 1.25 + 1


def test_a_blob_is_read_back_by_its_claim(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    claim = blobs.put(b"model")
    assert blobs.get(claim) == b"model"
    blobs.clear()
    with pytest.raises(BadMessage, match="cannot be read"):
        blobs.get(claim)


def test_a_blob_that_was_changed_is_refused(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    claim = blobs.put(b"model")
    (tmp_path / claim.sha256).write_bytes(b"evil!")
    with pytest.raises(BadMessage, match="not what its name says"):
        blobs.get(claim)


def test_a_claim_is_no_path() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"sha256": "../../etc/passwd", "size": 3}', type=BlobClaim)
