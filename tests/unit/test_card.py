"""The wire form of a VCV."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from foa.errors import BadCapability, BadMessage, FalseClaim
from foa.registry.bloom import BITS, bloom, has_skills, positions, set_positions, skill_token
from foa.registry.canonical import canonical
from foa.registry.card import build_vcv, decode_card, encode_card
from foa.registry.keys import load_key, new_key, public_key, save_key, sign
from foa.registry.vitals import GONE, decode_vitals, encode_vitals
from foa.values.resources import Price, Resources
from foa.values.vcv import Matrix, Vcv, Vitals


class HashEmbedder:
    """Unit vectors from a hash of the text: enough where nearness does not matter."""

    id = "hash-256:0"
    dimension = 256

    async def embed(self, texts: Sequence[str]) -> Matrix:
        rows = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")).normal(size=256)
            for text in texts
        ]
        matrix = np.array(rows, np.float32)
        return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


async def make(**fields: object) -> Vcv:
    defaults: dict[str, object] = {
        "agent_id": "coder-1",
        "version": 3,
        "name": "Coder",
        "description": "Reads source code.",
        "skills": ["python", "code review"],
        "spec": "Cite the line.",
        "resources": Resources(price=Price(usd_per_call=0.01), latency_seconds=1.5, tools=("grep",)),
        "policies": {"gdpr"},
        "issued_at": 1_700_000_000.25,
    }
    return await build_vcv(embedder=HashEmbedder(), **(defaults | fields))  # type: ignore[arg-type]


def fields(vcv: Vcv) -> dict[str, object]:
    return {name: getattr(vcv, name) for name in Vcv.__slots__ if name not in ("c", "e")}


async def test_a_card_gives_back_the_vcv_it_was_made_from():
    key = new_key()
    vcv = await make(public_key=public_key(key), fl={"samples": 920, "task": "heart"})
    again = decode_card(encode_card(vcv, key))
    assert fields(again) == fields(vcv)
    assert np.array_equal(again.c, vcv.c)
    assert np.array_equal(again.e, vcv.e)


async def test_a_card_is_canonical_bytes():
    payload = encode_card(await make(), new_key())
    assert payload == canonical(json.loads(payload))


async def test_a_card_survives_being_written_again_by_another_json_library():
    key = new_key()
    payload = json.dumps(json.loads(encode_card(await make(), key)), indent=3, sort_keys=False).encode()
    assert decode_card(payload).public_key == public_key(key)


async def test_an_unknown_field_is_kept_by_the_signature_and_otherwise_ignored():
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"] | {"colour": "green"}
    signed = canonical({"vcv": body, "jws": sign(body, key, typ="foa-vcv")})
    assert decode_card(signed).agent_id == "coder-1"
    with pytest.raises(BadCapability, match="signature"):
        decode_card(signed.replace(b"green", b"black"))


async def test_a_card_with_a_hundred_skills_of_ordinary_length_is_under_16_kib():
    skills = [f"natural-language-processing-{i}" for i in range(100)]
    payload = encode_card(await make(skills=skills, description="x" * 1000, examples=["y" * 200] * 8), new_key())
    assert len(payload) < 16_384


async def test_an_unsigned_card_is_taken_only_when_told():
    payload = encode_card(await make(), None)
    with pytest.raises(BadCapability, match="not signed"):
        decode_card(payload)
    assert decode_card(payload, allow_unsigned=True).public_key == ""


async def test_a_key_without_its_signature_is_refused_even_where_unsigned_cards_are_taken():
    document = json.loads(encode_card(await make(), new_key()))
    with pytest.raises(BadCapability, match="signature"):
        decode_card(canonical(document | {"jws": ""}), allow_unsigned=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "Other"), ("version", 4), ("agent_id", "other"), ("p", ["hipaa"]), ("embedder", "x"), ("issued_at", 0)],
)
async def test_a_changed_field_breaks_the_signature(field: str, value: object):
    document = json.loads(encode_card(await make(), new_key()))
    document["vcv"][field] = value
    with pytest.raises(BadCapability, match="signature"):
        decode_card(canonical(document))


async def test_a_signature_for_another_purpose_is_refused():
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"]
    with pytest.raises(BadCapability, match="made for 'gossip'"):
        decode_card(canonical({"vcv": body, "jws": sign(body, key, typ="gossip")}))


async def test_a_signature_of_another_algorithm_is_refused_and_says_which_to_use():
    document = json.loads(encode_card(await make(), new_key()))
    signature = document["jws"].partition(".")[2]
    for algorithm in ("none", "HS256", "EdDSA", "ES256"):
        header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "foa-vcv"}).encode()).decode().rstrip("=")
        with pytest.raises(BadCapability, match='write "alg":"Ed25519" into the header'):
            decode_card(canonical(document | {"jws": f"{header}.{signature}"}))


async def rewritten(old: str, new: str, **fields: object) -> bytes:
    """A card whose JSON was changed after it was signed."""
    text = encode_card(await make(**fields), new_key()).decode()
    assert old in text
    return text.replace(old, new).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"agent_id":', '"agent_id":"evil","agent_id":'),
        ('"agent_id":', '"agent_\\u0069d":"evil","agent_id":'),
        ('"usd_per_call":', '"usd_per_call":0,"usd_per_call":'),
        ('{"jws":', '{"vcv":{"schema":"foa.vcv/1"},"jws":'),
    ],
)
async def test_a_member_that_is_there_twice_is_refused_because_readers_take_different_ones(old: str, new: str):
    with pytest.raises(BadCapability, match="is there twice"):
        decode_card(await rewritten(old, new))


async def test_numbers_are_read_as_they_were_signed_however_they_are_written():
    # 2^53 + 1 is no double: it and 2^53 have one canonical form, and so one signature
    card = await rewritten('"samples":9007199254740992', '"samples":9007199254740993', fl={"samples": 2**53})
    assert decode_card(card).fl == {"samples": 2**53}
    for written in ("3.0", "3e0", "30E-1"):
        assert decode_card(await rewritten('"version":3', f'"version":{written}')).version == 3
    zero = decode_card(await rewritten('"issued_at":0', '"issued_at":-0.0', issued_at=0.0)).issued_at
    assert str(zero) == "0.0"


@pytest.mark.parametrize(
    ("number", "reason"),
    [("1e400", "out of range"), ("9" * 5_000, "out of range"), ("NaN", "malformed"), ("-Infinity", "malformed")],
)
async def test_what_is_no_double_is_refused(number: str, reason: str):
    for old in ('"issued_at":0', '"samples":0'):
        with pytest.raises(BadCapability, match=reason):
            decode_card(await rewritten(old, old[:-1] + number, issued_at=0.0, fl={"samples": 0}))


@pytest.mark.parametrize("name", [b'"\\ud800"', b'"\\udc00x"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xff"'], ids=range(5))
async def test_what_is_no_unicode_is_refused(name: bytes):
    card = encode_card(await make(), new_key()).replace(b'"Coder"', name)
    with pytest.raises(BadCapability, match="not a usable card"):
        decode_card(card)


@pytest.mark.parametrize(
    "agent", ["\u0430gent", "agent\u202e", "agent\u200b", "agent\x00", "agent\n", "\uff41gent", "-a", "a/b", "+"]
)
async def test_an_id_is_plain_ascii(agent: str):
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"] | {"agent_id": agent}
    with pytest.raises(BadCapability, match="agent_id"):
        decode_card(canonical({"vcv": body, "jws": sign(body, key, typ="foa-vcv")}))


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth > 1 else []


async def test_a_body_is_eight_deep_at_most():
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"]
    for deep, taken in ((nested(7), True), (nested(8), False)):  # the body itself is the first
        whole = body | {"later": deep}
        card = canonical({"vcv": whole, "jws": sign(whole, key, typ="foa-vcv")})
        if taken:
            assert decode_card(card).agent_id == "coder-1"
            continue
        with pytest.raises(BadCapability, match="within one another"):
            decode_card(card)


async def test_a_card_has_no_third_member():
    document = json.loads(encode_card(await make(), new_key()))
    with pytest.raises(BadCapability, match="more"):
        decode_card(canonical(document | {"more": nested(12)}))


async def test_a_card_that_grows_beyond_the_limit_when_it_is_written_again_is_refused():
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"] | {"later": [1e20] * 10_000}
    card = json.dumps({"vcv": body, "jws": sign(body, key, typ="foa-vcv")}, separators=(",", ":")).encode()
    with pytest.raises(BadCapability, match="over the limit of 65,536"):
        decode_card(card.replace(b"1e+20", b"1e20"))


def vector(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"c": vector(*[0.0] * 256)}, "length 0"),
        ({"c": vector(float("nan"), *[0.0] * 255)}, "NaN"),
        ({"c": vector(float("inf"), *[0.0] * 255)}, "NaN or infinity"),
        ({"c": vector(2.0)}, "length 2"),
        ({"c": vector(1.0)}, "different dimensions"),
        # base64 of 766 and of 768 bytes is 1,024 characters long
        ({"c": vector(1.0, *[0.0] * 383), "e": vector(1.0, *[0.0] * 382)}, "different dimensions"),
        ({"c": "%%%"}, "base64"),
        ({"e": "AAAA"}, "float16"),
        ({"c": ""}, "float16"),
        ({"s": base64.b64encode(b"\xff" * 128).decode()}, "Bloom filter of its 2 skills"),
        ({"fl": {"x": "y" * 5000}}, "fl block"),
    ],
)
async def test_a_signed_untruth_is_a_false_claim(change: dict[str, object], reason: str):
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"] | change
    with pytest.raises(FalseClaim, match=reason):
        decode_card(canonical({"vcv": body, "jws": sign(body, key, typ="foa-vcv")}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "foa.vcv/2"}, "schema 'foa.vcv/2' is not known"),
        ({"agent_id": "a/b"}, "agent_id"),
        ({"version": 0}, "version"),
        ({"skills": [f"s{i}" for i in range(200)]}, "skills"),
        ({"description": "x" * 3000}, "description"),
        ({"p": ["NOT A LABEL"]}, r"\.p"),
        ({"r": {"latency_seconds": -1}}, "latency_seconds"),
        ({"r": {"price": {"usd_per_call": 1e300}}}, "usd_per_call"),
    ],
)
async def test_a_field_out_of_its_bounds_is_refused_by_name(change: dict[str, object], reason: str):
    key = new_key()
    body = json.loads(encode_card(await make(), key))["vcv"] | change
    with pytest.raises(BadCapability, match=reason):
        decode_card(canonical({"vcv": body, "jws": sign(body, key, typ="foa-vcv")}))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"vcv":3}', b'{"vcv":' + b"[" * 50_000])
def test_what_is_no_card_is_refused(payload: bytes):
    with pytest.raises(BadCapability):
        decode_card(payload)


def test_ten_megabytes_are_refused_before_they_are_parsed():
    with pytest.raises(BadCapability, match="10,000,000 bytes is over the limit of 65,536"):
        decode_card(b"x" * 10_000_000)


async def test_an_author_learns_of_a_broken_bound_before_publishing():
    with pytest.raises(BadCapability, match="description"):
        encode_card(await make(description="x" * 5000), new_key())
    with pytest.raises(BadCapability, match="another public key"):
        encode_card(replace(await make(), public_key="abc"), new_key())
    with pytest.raises(BadCapability, match="agent id"):
        await make(agent_id="a b")


def test_a_key_survives_its_file():
    key = new_key()
    assert public_key(load_key(save_key(key))) == public_key(key)


def test_spellings_of_one_skill_are_one_token():
    assert {skill_token(s) for s in ("Code Review", "code_review", " code-review ", "CODE  REVIEW")} == {"code-review"}


def test_positions_are_those_of_the_specification():
    # SHA-256("python")[:14] as 7 little-endian 16-bit words, modulo 1,024
    digest = hashlib.sha256(b"python").digest()
    assert set(positions(["Python"])) == {(digest[i] + 256 * digest[i + 1]) % BITS for i in range(0, 14, 2)}


def test_a_filter_of_100_skills_says_yes_wrongly_about_once_in_a_hundred():
    bits = bloom([f"skill-{i}" for i in range(100)])
    wrong = sum(has_skills(bits, [f"other-{i}"]) for i in range(5000))
    # p = (1 − e^(−7·100/1024))^7 = 0.0073: 36 expected of 5,000, standard deviation 6
    assert 15 < wrong < 65
    assert len(set_positions(bits)) < 600


def test_vitals_come_back_and_a_last_will_says_gone():
    vitals = Vitals(load=0.5, queue=3, slots=2, latency_seconds=0.25, price_factor=2.0, battery=0.5)
    assert decode_vitals(encode_vitals(vitals)) == vitals
    assert decode_vitals(GONE).online is False


@pytest.mark.parametrize("bad", [b"", b"{}", b'{"schema":"foa.vitals/1","load":2}', b"[" * 4000, b"x" * 5000])
def test_bad_vitals_are_refused(bad: bytes):
    with pytest.raises(BadMessage):
        decode_vitals(bad)
