"""What a signature is taken for: one body, one key, one purpose, and only one way to write it."""

import base64
import json

import pytest
from joserfc import jws

from foa.registry.canonical import canonical
from foa.registry.keys import SigningKey, new_key, public_key, sign, verify

BODY: dict[str, object] = {"b": [1.0, "é"], "a": "one"}
KEY = new_key()


def check(signature: str, body: dict[str, object] = BODY, *, key: SigningKey = KEY, typ: str = "test") -> str:
    return verify(body, signature, x=public_key(key), typ=typ)


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_under(header: dict[str, object]) -> str:
    """A signature of BODY that holds as Ed25519 goes, under any header."""
    head = unpadded(json.dumps(header).encode())
    made = KEY.private_key.sign(f"{head}.{unpadded(canonical(BODY))}".encode())  # type: ignore[union-attr]
    return f"{head}..{unpadded(made)}"


def test_what_was_signed_holds_whoever_wrote_it():
    assert check(sign(BODY, KEY, typ="test")) == ""
    assert check(signed_under({"typ": "test", "alg": "Ed25519", "kid": "mine"})) == ""


def test_another_body_another_key_or_another_purpose_does_not_hold():
    signature = sign(BODY, KEY, typ="test")
    assert "does not hold" in check(signature, {"a": "two"})
    assert "does not hold" in check(signature, key=new_key())
    assert "not for 'card'" in check(signature, typ="card")


def test_a_signature_that_brings_its_own_payload_vouches_for_no_other_body():
    header, _, made = sign(BODY, KEY, typ="test").split(".")
    attached = f"{header}.{unpadded(canonical(BODY))}.{made}"
    assert "not detached" in check(attached, {"a": "two"})


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "test"},
        {"typ": "test", "alg": "none"},
        {"typ": "test", "alg": "HS256"},
        {"typ": "test", "alg": "Ed25519", "crit": ["b64"], "b64": False},
        {"typ": "test", "alg": "Ed25519", "crit": ["later"], "later": 1},
        {"typ": "test", "alg": "Ed25519", "later": 1},
    ],
)
def test_a_header_that_asks_for_anything_else_is_refused(header: dict[str, object]):
    assert any(reason in check(signed_under(header)) for reason in ("does not hold", "another algorithm"))


@pytest.mark.parametrize("change", ["{}=", "{}A", "+{}", "é{}", " {}", "{}\n", "{}.x"])
def test_a_signature_has_one_form(change: str):
    header, _, made = sign(BODY, KEY, typ="test").split(".")
    assert check(f"{header}..{change.format(made)}") != ""


def test_a_signature_whose_last_bits_say_nothing_is_refused():
    # 64 bytes are 85 characters and 2 bits: the last of 86 characters has 4 bits that nothing reads
    header, _, made = sign(BODY, KEY, typ="test").split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = made[:-1] + alphabet[alphabet.index(made[-1]) + 1]
    assert "does not hold" in check(f"{header}..{other}")


@pytest.mark.parametrize(
    "x",
    ["", "A", "not a key", public_key(KEY)[:-1], public_key(KEY) + "AA"],
    ids=["empty", "short", "words", "cut", "longer"],  # the key is another one in every worker
)
def test_what_is_no_key_signs_nothing(x: str):
    assert "does not hold" in verify(BODY, sign(BODY, KEY, typ="test"), x=x, typ="test")


def test_a_compact_signature_of_a_library_holds_once_its_payload_is_taken_out():
    whole = jws.serialize_compact({"alg": "Ed25519", "typ": "test"}, canonical(BODY), KEY, algorithms=["Ed25519"])
    assert check(jws.detach_content(whole)) == ""
