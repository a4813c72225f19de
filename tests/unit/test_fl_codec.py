"""Packed updates as flat values: what they give back, and what is refused before anything is allocated for it."""

import zlib

import numpy as np
import pytest

from foa.errors import BadMessage
from foa.fl.codec import read_packed, write_packed
from foa.fl.compress import Compressor

BASE = {"w": np.zeros((2, 4), np.float32), "b": np.zeros(3, np.float32)}


def packed(share: float = 0.5) -> dict[str, object]:
    change = {"w": np.array([[8.0, 0, 0, -4.0], [0, 2.0, 1.0, 0]]), "b": np.array([0.0, 127.0, 1.0])}
    return {**write_packed(Compressor(share=share).pack(change))}


def test_the_largest_changes_come_back_to_the_nearest_level() -> None:
    found = read_packed(packed(), BASE)
    # w: 4 of 8 values, a level is 8/127: −4, 2 and 1 are 63.5 (even: −64), 31.75 (32) and 15.875 (16) levels
    level = 8 / 127
    assert found["w"] == pytest.approx(np.array([[8.0, 0, 0, -64 * level], [0, 32 * level, 16 * level, 0]]))
    # b: 2 of 3 values (½ · 3, rounded up), a level is 1
    assert found["b"].tolist() == [0.0, 127.0, 1.0]


def test_a_model_that_did_not_move_is_all_zero() -> None:
    flat = write_packed(Compressor(share=1.0).pack({"b": np.zeros(3)}))
    assert read_packed({**flat}, BASE)["b"].tolist() == [0.0, 0.0, 0.0]


BOMB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"format": 2}, "format"),
        ({"names": "w"}, "no list"),
        ({"names": ["w", "w"]}, "twice"),
        ({"names": ["w", "x"]}, "no such array"),
        ({"names": ["w"]}, "more arrays"),
        ({"names": ["w", "b", "w"]}, "more arrays"),
        ({"scales": [1.0, float("nan")]}, "finite"),
        ({"scales": [1.0, -1.0]}, "finite"),
        ({"scales": ["1", 1.0]}, "no list"),
        ({"places": [b"", b""]}, "damaged|does not fit"),
        ({"places": [b"not deflate", b""]}, "damaged"),
        ({"places": [BOMB, BOMB]}, "does not fit"),
        ({"places": [zlib.compress(b"\xff") + b"more", zlib.compress(b"\xe0")]}, "does not fit"),
        ({"levels": [b"", b""]}, "marks"),
        ({"levels": [bytes(10**6), b""]}, "marks"),
    ],
)
def test_a_packet_that_does_not_fit_the_model_is_refused(changed: dict[str, object], why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        read_packed({**packed(), **changed}, BASE)


@pytest.mark.parametrize("key", ["format", "names", "scales", "places", "levels"])
def test_a_packet_that_lacks_a_part_is_refused(key: str) -> None:
    flat = packed()
    del flat[key]
    with pytest.raises(BadMessage):
        read_packed(flat, BASE)
