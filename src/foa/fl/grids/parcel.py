"""The payload of a message between a server and a site: one byte of kind, and then

1  a Flower message (protobuf)
2  a claim to one that is above about 1 MB
3  a site's no: why it did not hand the message to its app
4  nothing: the run is over, and the site is free
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from foa.errors import BadMessage
from foa.fl.blobs import BlobClaim, BlobPlace, Blobs

T = TypeVar("T")
#: Where blobs are; asked for only when a message is large. None: nowhere.
Reach = Callable[[], Blobs | None]

INLINE_BYTES = 900_000  #: above this a blob is used; the portable limit of a message is 1,000,000
_MESSAGE, _CLAIM, _NO, _OVER = b"\x01", b"\x02", b"\x03", b"\x04"

RUN_PROPERTY = "foa-run"  #: user property with the name of the run
BLOBS_PROPERTY = "foa-blobs"  #: user property that says where blobs are, JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class No:
    """Why a site did not work on a message."""

    code: Annotated[int, msgspec.Meta(ge=0, le=999)]  #: as in a Flower error; from 100 on: it would not
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]


OVER = _OVER  #: the payload that frees a site


def wrapped(message: bytes, reach: Reach) -> tuple[bytes, BlobClaim | None]:
    """The payload for a packed Flower message, and the claim that was put for it.

    Raises:
        BadMessage: it is large and there is no place for blobs.
        StoreFailed, Unreachable: the blob could not be put.
    """
    if len(message) <= INLINE_BYTES:
        return _MESSAGE + message, None
    if (blobs := reach()) is None:
        raise BadMessage(f"a model of {len(message):,} bytes needs a place for blobs, and there is none: give the Grid one")
    claim = blobs.put(message)
    return _CLAIM + msgspec.json.encode(claim), claim


def refusal(code: int, reason: str) -> bytes:
    """The payload of a no."""
    return _NO + msgspec.json.encode(No(code=code, reason=reason[:500]))


def claim_in(payload: bytes) -> BlobClaim | None:
    """The claim that a payload is, or None.

    Raises:
        BadMessage: it is meant as one and is none.
    """
    return _decoded(payload[1:], BlobClaim) if payload[:1] == _CLAIM else None


def opened(payload: bytes, reach: Reach) -> bytes | No:
    """What is in a payload: a packed Flower message, fetched where it is a claim, or a no.

    Raises:
        BadMessage: it is neither, or what it claims is not there.
        Unreachable: the place of the blobs does not answer.
    """
    if payload[:1] == _MESSAGE:
        return payload[1:]
    if payload[:1] == _NO:
        return _decoded(payload[1:], No)
    claim = claim_in(payload)
    if claim is None:
        raise BadMessage("not a message of this format: update both ends")
    if (blobs := reach()) is None:
        raise BadMessage("a claim came and there is no place for blobs at this end")
    return blobs.get(claim)


def place_in(text: str) -> BlobPlace:
    """Where blobs are, as a message's property says.

    Raises:
        BadMessage: it says nothing usable.
    """
    return _decoded(text.encode(), BlobPlace)


def _decoded(payload: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not a usable {kind.__name__}: {error}") from error
