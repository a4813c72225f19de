"""Frames of RFC 6455, with its own examples."""

import pytest

from foa.broker.websocket import BINARY, Frames, WebSocketError, accept_key, encode_frame, unmask


def masked(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes = b"\x37\xfa\x21\x3d") -> bytes:
    """A client's frame."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes(((0x80 if fin else 0) | opcode,)) + length + mask + unmask(payload, mask)


def test_the_accept_key_is_the_one_of_the_rfc() -> None:
    """RFC 6455, 1.3"""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_unmasking_gives_the_example_of_the_rfc() -> None:
    """RFC 6455, 5.7: a masked "Hello" """
    assert unmask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


@pytest.mark.parametrize(
    ("size", "head"), [(125, "827d"), (126, "827e007e"), (65_535, "827effff"), (65_536, "827f0000000000010000")]
)
def test_lengths_have_three_forms(size: int, head: str) -> None:
    assert encode_frame(BINARY, b"x" * size).startswith(bytes.fromhex(head))


def test_frames_come_out_whole_however_they_come_in() -> None:
    stream = masked(2, b"one") + masked(2, b"t", fin=False) + masked(9, b"ping") + masked(0, b"wo") + masked(2, b"x" * 300)
    for step in (1, 3, 1_000):
        frames = Frames(limit=1_000)
        found: list[tuple[int, bytes]] = []
        for start in range(0, len(stream), step):
            found.extend(frames.feed(stream[start : start + step]))
        assert found == [(2, b"one"), (2, b"t"), (9, b"ping"), (2, b"wo"), (2, b"x" * 300)]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\x82\x01x", 1002),
        (masked(1, b"text"), 1003),
        (masked(0, b"x"), 1002),
        (masked(2, b"a", fin=False) + masked(2, b"b"), 1002),
        (masked(9, b"x", fin=False), 1002),
        (masked(9, b"x" * 200), 1002),
        (b"\xc2\x81\0\0\0\0x", 1002),
        (masked(2, b"x" * 200), 1009),
    ],
)
def test_frames_against_the_rules_have_their_codes(raw: bytes, code: int) -> None:
    with pytest.raises(WebSocketError) as raised:
        list(Frames(limit=100).feed(raw))
    assert raised.value.code == code
