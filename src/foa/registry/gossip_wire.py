"""Messages of gossip as they travel: canonical JSON, signed by their orchestrator, `foa/gossip/{orchestrator}`.

    {"gossip": {"v": 1, "do": "digest", "sender": …, "seq": …, "at": …, …}, "jws": "<header>..<signature>"}

Their signature is of the bytes as they came, so that whoever may publish there costs a listener no rewriting of large JSON.
Stamps travel as `[version, issued_at, gone]`; `marks` has the fourth part of all of them, in the order of the names.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from foa.errors import BadMessage
from foa.registry.canonical import canonical
from foa.registry.keys import SigningKey, sign_bytes, verify_bytes
from foa.registry.ledger import FINE, Stamp, mark_of
from foa.values.ids import AgentId, WireId

TYPE = "foa-gossip"
MAX_BYTES = 1_000_000
_MOST = 20_000  # stamps taken in one message

_Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
_Moment = Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]
_Key = Annotated[str, msgspec.Meta(max_length=64)]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Which fields it has depends on what it does."""

    v: Literal[1]
    do: Literal["digest", "entries", "ask", "delta"]
    sender: WireId
    to: WireId | None = None  #: None: everybody
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]  #: grows with every message of a sender, over its restarts too
    at: _Moment  #: seconds since the epoch
    buckets: Annotated[int, msgspec.Meta(ge=1, le=FINE)] = 1
    digest: Annotated[str, msgspec.Meta(max_length=6 * FINE)] = ""  #: base64 of 32-bit little-endian numbers
    chosen: Annotated[tuple[int, ...], msgspec.Meta(max_length=FINE)] = ()  #: buckets that `entries` are of
    entries: Annotated[dict[WireId, tuple[_Version, _Moment, bool]], msgspec.Meta(max_length=_MOST)] = {}
    marks: Annotated[str, msgspec.Meta(max_length=6 * _MOST)] = ""  #: of `entries`, as `digest`; empty: not told
    more: bool = False  #: more differs than `entries` tells
    asked: Annotated[tuple[WireId, ...], msgspec.Meta(max_length=_MOST)] = ()
    cards: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=10_000)] = ()
    tombstones: Annotated[dict[WireId, tuple[_Version, _Moment, _Key]], msgspec.Meta(max_length=_MOST)] = {}


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    gossip: msgspec.Raw
    jws: Annotated[str, msgspec.Meta(max_length=512)]


class _Head(msgspec.Struct):
    agent_id: WireId
    version: _Version
    issued_at: _Moment


class _Card(msgspec.Struct):
    vcv: _Head


_envelopes = msgspec.json.Decoder(_Envelope)
_bodies = msgspec.json.Decoder(Body)
_heads = msgspec.json.Decoder(_Card)


def write(body: dict[str, object], key: SigningKey) -> bytes:
    """Sign a message."""
    signed = canonical(body)
    return b'{"gossip":%b,"jws":"%b"}' % (signed, sign_bytes(signed, key, typ=TYPE).encode())


class Message:
    """What came, as far as it can be read before anything of it is believed."""

    def __init__(self, payload: bytes) -> None:
        """Decode it.

        Raises:
            BadMessage: too large, or not usable.
        """
        if len(payload) > MAX_BYTES:
            raise BadMessage(f"gossip of {len(payload):,} bytes is over the limit of {MAX_BYTES:,}")
        try:
            envelope = _envelopes.decode(payload)
            self.body = _bodies.decode(envelope.gossip)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise BadMessage(f"not usable gossip: {str(error)[:200]}") from error
        self._signed = bytes(envelope.gossip)
        self._jws = envelope.jws

    def fault(self, x: str) -> str:
        """Why the key x has not signed it; empty: it has."""
        return verify_bytes(self._signed, self._jws, x=x, typ=TYPE)


def stamp_of(card: bytes) -> tuple[AgentId, Stamp] | None:
    """Whose card it says it is, and of when, before any signature is checked; None: it says neither."""
    try:
        head = _heads.decode(card).vcv
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return AgentId(head.agent_id), Stamp(head.version, head.issued_at, mark=mark_of(card))


def packed(numbers: Iterable[int]) -> str:
    """Write 32-bit numbers as base64, little endian."""
    return base64.b64encode(b"".join(number.to_bytes(4, "little") for number in numbers)).decode()


def digest_of(body: Body) -> Sequence[int]:
    """Read the digests of a message's buckets.

    Raises:
        BadMessage: they are not as many as it says, or that is no power of two.
    """
    if body.buckets & (body.buckets - 1):
        raise BadMessage(f"gossip of {body.sender}: {body.buckets} buckets are no power of two")
    return _numbers(body.digest, body.buckets, who=body.sender)


def stamps_of(body: Body) -> dict[AgentId, tuple[Stamp, bool]]:
    """Read the entries of a message: stamps, and whether their marks were told.

    Raises:
        BadMessage: its marks are not as many as its entries.
    """
    told = body.marks != ""
    marks = _numbers(body.marks, len(body.entries), who=body.sender) if told else [0] * len(body.entries)
    entries = zip(sorted(body.entries.items()), marks, strict=True)
    return {AgentId(agent): (Stamp(*stamp, mark), told) for (agent, stamp), mark in entries}


def _numbers(text: str, many: int, *, who: str) -> Sequence[int]:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"gossip of {who}: what it says of its agents is not base64") from error
    if len(raw) != 4 * many:
        raise BadMessage(f"gossip of {who}: it has not {many} numbers of 32 bits, as it says")
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]
