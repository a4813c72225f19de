"""The specification of the VCV is what the code does: its test vectors are run."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from foa.errors import BadCapability
from foa.registry.bloom import positions, skill_token
from foa.registry.canonical import canonical
from foa.registry.card import decode_card, encode_card
from foa.registry.keys import load_key, public_key

REFERENCE = Path(__file__).parents[2] / "docs/reference"
PAGE = (REFERENCE / "vcv.md").read_text(encoding="utf-8")
CARDS = json.loads((REFERENCE / "vcv-vectors.json").read_text(encoding="utf-8"))


def test_the_tokens_and_positions_of_the_page_are_ours():
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| ([\d, ]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 7
    for skill, token, listed in rows:
        assert skill_token(skill) == token
        assert positions([skill]) == tuple(int(one) for one in listed.split(","))


def test_the_canonical_form_of_the_page_is_ours():
    found = re.findall(r"canonical form of `(.+?)` is `(.+?)`", PAGE)
    assert len(found) == 2
    for written, form in found:
        assert canonical(json.loads(written)).decode() == form


def test_the_card_of_the_page_is_read_and_written_byte_for_byte():
    found = re.search(r"```json\n(.+)\n```", PAGE)
    digest = re.search(r"SHA-256 is `([0-9a-f]{64})`", PAGE)
    assert found is not None
    assert digest is not None
    payload = found[1].encode()
    assert hashlib.sha256(payload).hexdigest() == digest[1]
    vcv = decode_card(payload)
    assert vcv.c.tolist() == [0.5, -0.5, 0.5, 0.5]
    assert np.array_equal(vcv.e, [0, 0, 1, 0])
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key = load_key(pem)
    assert public_key(key) == vcv.public_key
    assert encode_card(vcv, key) == payload


@pytest.mark.parametrize("vector", CARDS, ids=[vector["why"] for vector in CARDS])
def test_a_card_of_the_list_is_taken_or_refused_as_it_says(vector: dict[str, str]):
    payload = vector["card"].encode()
    if vector["taken"]:
        assert decode_card(payload).public_key
        return
    with pytest.raises(BadCapability):
        decode_card(payload)


def test_the_list_has_cards_of_both_sorts():
    assert sum(bool(vector["taken"]) for vector in CARDS) >= 10
    assert sum(not vector["taken"] for vector in CARDS) >= 50
