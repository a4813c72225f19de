"""The wire form of a VCV, `foa.vcv/1`: canonical JSON with a detached Ed25519 signature, specified in docs/reference/vcv.md.

    {"jws": "<header>..<signature>", "vcv": {"schema": "foa.vcv/1", "agent_id": …, "c": "<base64 of float16>", …}}

Vectors travel as float16, little endian: their rounding moves a cosine by less than 1e-4, far below what an embedder's
own noise does, and a card with two 768-d vectors and 100 skills stays under 16 KiB. `rounded` gives what comes back.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, cast

import msgspec
import numpy as np

from foa.errors import BadCapability, FalseClaim
from foa.ports import Embedder
from foa.registry.bloom import BYTES, bloom
from foa.registry.canonical import canonical
from foa.registry.keys import SigningKey, public_key, sign, verify_bytes
from foa.values.ids import AgentId, WireId, check_id
from foa.values.resources import Name, Resources
from foa.values.task import Label
from foa.values.vcv import Vcv, Vector

SCHEMA = "foa.vcv/1"
TYPE = "foa-vcv"  #: the JWS header's `typ`
MAX_CARD_BYTES = 65_536
MAX_SKILLS = 128  #: above, the Bloom filter says yes to everything
MAX_FL_BYTES = 4_096
MAX_DEPTH = 8  #: objects and lists within one another in a body: what carries cards must carry all of them
NORM_TOLERANCE = 2e-3  #: how far a vector's length may be off 1

_Base64 = Annotated[str, msgspec.Meta(max_length=22_000)]


class _Body(msgspec.Struct, frozen=True, kw_only=True, rename=None):
    """What is signed. Fields that this version does not know are kept by the signature and otherwise ignored."""

    schema: Annotated[str, msgspec.Meta(max_length=32)]
    agent_id: WireId
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    description: Annotated[str, msgspec.Meta(max_length=2_000)]
    skills: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_SKILLS)]
    examples: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=300)], ...], msgspec.Meta(max_length=32)
    ] = ()
    c: _Base64
    s: Annotated[str, msgspec.Meta(max_length=256)]
    r: Resources = Resources()
    p: Annotated[tuple[Label, ...], msgspec.Meta(max_length=64)] = ()
    e: _Base64
    embedder: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    kinds: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()
    issued_at: Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]
    public_key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    fl: dict[str, object] | None = None


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    vcv: msgspec.Raw
    jws: Annotated[str, msgspec.Meta(max_length=512)] = ""


_envelopes = msgspec.json.Decoder(_Envelope)
_bodies = msgspec.json.Decoder(_Body)


def rounded(vector: Vector) -> Vector:
    """Give the vector as it comes back from the wire: float16 values in float32."""
    return vector.astype("<f2").astype(np.float32)


def encode_card(vcv: Vcv, key: SigningKey | None) -> bytes:
    """Turn a VCV into its signed wire form, canonical bytes.

    Args:
        vcv: its `public_key` may be empty, and is then filled in.
        key: None: an unsigned card, which only a registry that was told to will take.

    Raises:
        BadCapability: a field breaks the bounds that a receiver checks, or the VCV names another key.
    """
    x = public_key(key) if key else ""
    if vcv.public_key not in ("", x):
        raise BadCapability(f"agent {vcv.agent_id}: its VCV names another public key than the one that signs")
    body = card_body(replace(vcv, public_key=x))
    payload = canonical({"vcv": body, "jws": sign(body, key, typ=TYPE) if key else ""})
    decode_card(payload, allow_unsigned=key is None)
    return payload


def card_body(vcv: Vcv) -> dict[str, object]:
    """Give the JSON object that is signed. What is empty or not stated is left out."""
    body: dict[str, object] = {
        "schema": SCHEMA,
        "agent_id": vcv.agent_id,
        "version": vcv.version,
        "name": vcv.name,
        "description": vcv.description,
        "skills": list(vcv.skills),
        "examples": list(vcv.examples),
        "c": _packed(vcv.c),
        "s": base64.b64encode(vcv.s).decode(),
        "r": _stated(vcv.r),
        "p": sorted(vcv.p),
        "e": _packed(vcv.e),
        "embedder": vcv.embedder,
        "kinds": list(vcv.kinds),
        "issued_at": vcv.issued_at,
        "public_key": vcv.public_key,
    }
    if vcv.fl is not None:
        body["fl"] = dict(vcv.fl)
    return body


def decode_card(payload: bytes, *, allow_unsigned: bool = False, max_bytes: int = MAX_CARD_BYTES) -> Vcv:
    """Turn a card off the wire into a VCV that holds together: signed, bounded, unit vectors, s the filter of its skills.

    Whether the registry wants it (version order, known embedder, rate) is the registry's business.

    Raises:
        FalseClaim: the signature holds and the content contradicts itself.
        BadCapability: anything else; the sentence says what, and nothing of it is trusted.
    """
    if len(payload) > max_bytes:
        raise BadCapability(f"a card of {len(payload):,} bytes is over the limit of {max_bytes:,}")
    try:
        envelope = _envelopes.decode(payload)
        raw = msgspec.json.decode(envelope.vcv)
        _check_schema(raw)
        signed = canonical(raw, deepest=MAX_DEPTH)
        body = _bodies.decode(signed)  # and not as it came: what is read is what was signed
        _check_signature(body, signed, envelope.jws, allow_unsigned=allow_unsigned)
        _check_form(payload, signed, envelope.jws, max_bytes)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadCapability(f"not a usable card: {str(error)[:300]}") from error
    try:
        return _checked(body)
    except FalseClaim as claim:
        raise FalseClaim(str(claim), key=body.public_key) from None


def _check_schema(raw: object) -> None:
    schema = cast("Mapping[str, object]", raw).get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA:
        raise BadCapability(f"a card of schema {str(schema)[:40]!r} is not known here: write {SCHEMA!r}")


def _check_signature(body: _Body, signed: bytes, signature: str, *, allow_unsigned: bool) -> None:
    who = f"agent {body.agent_id}"
    if not signature and not body.public_key:
        if allow_unsigned:
            return
        raise BadCapability(f"{who}: its card is not signed; sign it with an Ed25519 key")
    if reason := verify_bytes(signed, signature, x=body.public_key, typ=TYPE):
        raise BadCapability(f"{who}: {reason}")


def _check_form(payload: bytes, signed: bytes, signature: str, max_bytes: int) -> None:
    """Refuse what other readers may read in another way (RFC 7493), and what grows when it is written again."""
    whole = b'{"jws":"%b","vcv":%b}' % (signature.encode(), signed)
    if payload == whole:
        return
    json.loads(payload, object_pairs_hook=_members, parse_int=str)
    if len(whole) > max_bytes:
        raise ValueError(f"its canonical form has {len(whole):,} bytes and is over the limit of {max_bytes:,}")


def _members(pairs: Sequence[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"the member {twice[:40]!r} is there twice")


def _checked(body: _Body) -> Vcv:
    """Give what a signed body says, after checking what only a signer who is wrong about himself gets wrong."""
    who = f"agent {body.agent_id}"
    s = bloom(body.skills)
    if body.s != base64.b64encode(s).decode():
        raise FalseClaim(f"{who}: s is not the Bloom filter of its {len(body.skills)} skills")
    if body.fl is not None and len(canonical(body.fl)) > MAX_FL_BYTES:
        raise FalseClaim(f"{who}: its fl block is over {MAX_FL_BYTES:,} bytes")
    c, e = _unit(body.c, what=f"{who}: c"), _unit(body.e, what=f"{who}: e")
    if len(c) != len(e):
        raise FalseClaim(f"{who}: c and e have different dimensions")
    return _vcv(body, c=c, s=s, e=e)


def _vcv(body: _Body, *, c: Vector, s: bytes, e: Vector) -> Vcv:
    return Vcv(
        agent_id=AgentId(body.agent_id),
        version=body.version,
        name=body.name,
        description=body.description,
        skills=body.skills,
        examples=body.examples,
        c=c,
        s=s,
        r=body.r,
        p=frozenset(body.p),
        e=e,
        embedder=body.embedder,
        kinds=body.kinds,
        issued_at=body.issued_at,
        public_key=body.public_key,
        fl=body.fl,
    )


def _packed(vector: Vector) -> str:
    return base64.b64encode(np.asarray(vector, "<f2").tobytes()).decode()


def _unit(text: str, *, what: str) -> Vector:
    vector = _unpacked(text, what=what)
    # float16 goes to 65,504: a sum of squares that is not finite has a number in it that is not
    length = math.sqrt(float(vector @ vector))
    if not math.isfinite(length):
        raise FalseClaim(f"{what} holds NaN or infinity")
    if abs(length - 1) > NORM_TOLERANCE:
        raise FalseClaim(f"{what} has length {length:.4g}; normalise it to 1")
    return vector


def _unpacked(text: str, *, what: str) -> Vector:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FalseClaim(f"{what} is not base64") from error
    if not raw or len(raw) % 2:
        raise FalseClaim(f"{what} does not hold float16 numbers")
    return np.frombuffer(raw, "<f2").astype(np.float32)


def _stated(resources: Resources) -> dict[str, object]:
    """Drop what says nothing: None, empty lists, zero prices. A limit of 0 is a statement and stays."""
    plain = cast("dict[str, object]", msgspec.to_builtins(resources))
    price = {key: usd for key, usd in cast("dict[str, float]", plain.pop("price")).items() if usd}
    kept = {key: value for key, value in plain.items() if value is not None and value != ()}
    return kept | ({"price": price} if price else {})


def capability_text(*, name: str, description: str, skills: Sequence[str] = (), examples: Sequence[str] = ()) -> str:
    """Give the text whose embedding is c: what the agent says of itself, a line each."""
    return "\n".join(part for part in (name, description, ", ".join(skills), *examples) if part)


async def build_vcv(
    *,
    agent_id: str,
    version: int,
    name: str,
    description: str,
    embedder: Embedder,
    skills: Sequence[str] = (),
    examples: Sequence[str] = (),
    spec: str = "",
    resources: Resources | None = None,
    policies: Sequence[str] | frozenset[str] = (),
    kinds: Sequence[str] = ("propose", "draft", "refine"),
    issued_at: float = 0.0,
    public_key: str = "",
    fl: Mapping[str, object] | None = None,
) -> Vcv:
    """Make a VCV from what an agent's author wrote; c and e are as a receiver will see them.

    Args:
        spec: the Spec's text; e is its embedding.
        issued_at: seconds since the epoch.

    Raises:
        BadCapability: the id may not stand in a topic.
        ModelUnreachable: the embedder does not answer.
    """
    try:
        checked = AgentId(check_id(agent_id, what="agent"))
    except ValueError as error:
        raise BadCapability(str(error)) from error
    text = capability_text(name=name, description=description, skills=skills, examples=examples)
    vectors = await embedder.embed([text, spec])
    return Vcv(
        agent_id=checked,
        version=version,
        name=name,
        description=description,
        skills=tuple(skills),
        examples=tuple(examples),
        c=rounded(vectors[0]),
        s=bloom(skills),
        r=resources or Resources(),
        p=frozenset(policies),
        e=rounded(vectors[1]),
        embedder=embedder.id,
        kinds=tuple(kinds),
        issued_at=issued_at,
        public_key=public_key,
        fl=fl,
    )


__all__ = [
    "BYTES",
    "MAX_CARD_BYTES",
    "MAX_SKILLS",
    "SCHEMA",
    "build_vcv",
    "capability_text",
    "decode_card",
    "encode_card",
    "rounded",
]
