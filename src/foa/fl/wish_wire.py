"""Wishes on the wire: signed by the key of the site's card, and what the server tells its site of them.

fl/wishes/{project}/{site}   {"wish": {…}, "jws": "<header>..<signature>"}
fl/told/{project}/{site}     {"wish": id, "state": …, "text": …, "run": …}, retained for a week
"""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import msgspec

from foa.errors import BadMessage
from foa.fl.wishes import Wish
from foa.registry.canonical import canonical
from foa.registry.keys import SigningKey, sign, verify
from foa.values.ids import WireId

TYPE = "foa-fl-wish"  #: the JWS header's `typ`
MAX_WISH_BYTES = 4_096
TOLD_EXPIRY_SECONDS = 7 * 86_400


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    wish: msgspec.Raw
    jws: Annotated[str, msgspec.Meta(max_length=512)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WishTold:
    """What a server tells the site that asked."""

    wish: WireId  #: its id
    state: Literal["kept", "repeated", "refused", "started", "done", "failed"]
    text: Annotated[str, msgspec.Meta(max_length=2_000)]
    run: Annotated[str, msgspec.Meta(max_length=64)] = ""

    @property
    def is_last(self) -> bool:
        """Whether nothing more will be told of this wish."""
        return self.state in ("refused", "done", "failed")


def encode_wish(wish: Wish, key: SigningKey) -> bytes:
    """A wish, signed."""
    body = cast("dict[str, object]", msgspec.to_builtins(wish))
    return canonical({"wish": body, "jws": sign(body, key, typ=TYPE)})


def decode_wish(payload: bytes, *, site: str, key: str) -> Wish:
    """A wish off the wire.

    Args:
        payload: its bytes.
        site: under whose topic it came.
        key: public key of that site's card.

    Raises:
        BadMessage: it is not usable, speaks for another site, or is not signed by that key.
    """
    if len(payload) > MAX_WISH_BYTES:
        raise BadMessage(f"a wish of {len(payload):,} bytes is over {MAX_WISH_BYTES:,}")
    try:
        envelope = msgspec.json.decode(payload, type=_Envelope)
        wish = msgspec.json.decode(envelope.wish, type=Wish)
        body = msgspec.json.decode(envelope.wish, type=dict[str, object])
        fault = verify(body, envelope.jws, x=key, typ=TYPE)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not a usable wish: {str(error)[:300]}") from error
    if wish.site != site:
        raise BadMessage(f"a wish under the name of {site} speaks for {wish.site}")
    if fault:
        raise BadMessage(f"the wish of {site} is not its own: {fault}")
    return wish


def encode_told(told: WishTold) -> bytes:
    """What is told, as bytes."""
    return msgspec.json.encode(told)


def decode_told(payload: bytes) -> WishTold:
    """What was told.

    Raises:
        BadMessage: it is not usable.
    """
    if len(payload) > MAX_WISH_BYTES:
        raise BadMessage(f"an answer of {len(payload):,} bytes is over {MAX_WISH_BYTES:,}")
    try:
        return msgspec.json.decode(payload, type=WishTold)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not a usable answer to a wish: {error}") from error
