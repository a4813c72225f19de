"""The wire form of vitals, `foa.vitals/1`: plain JSON, unsigned, not retained.

An MQTT last will says `GONE`. It is retained, so that an orchestrator that starts later does not wait for the dead, and says
since when its connection was there.
"""

from typing import Annotated, Literal

import msgspec

from foa.errors import BadMessage
from foa.values.ids import WireId
from foa.values.resources import Quantity
from foa.values.vcv import Vitals

MAX_VITALS_BYTES = 4_096

_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class _Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    schema: Literal["foa.vitals/1"]
    online: bool = True
    load: _Share = 0.0
    queue: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    slots: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 4
    latency_seconds: Quantity | None = None
    price_factor: Annotated[float, msgspec.Meta(ge=0.0, le=1_000.0)] = 1.0
    battery: _Share | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Wire)


def encode_vitals(vitals: Vitals) -> bytes:
    """Turn vitals into their wire form.

    Raises:
        BadMessage: a value is out of its bounds.
    """
    payload = _encoder.encode(
        _Wire(
            schema="foa.vitals/1",
            online=vitals.online,
            load=vitals.load,
            queue=vitals.queue,
            slots=vitals.slots,
            latency_seconds=vitals.latency_seconds,
            price_factor=vitals.price_factor,
            battery=vitals.battery,
        )
    )
    decode_vitals(payload)
    return payload


def decode_vitals(payload: bytes) -> Vitals:
    """Turn bytes off the wire into vitals.

    Raises:
        BadMessage: too long, not JSON, or a value is out of its bounds.
    """
    if len(payload) > MAX_VITALS_BYTES:
        raise BadMessage(f"vitals of {len(payload):,} bytes are over the limit of {MAX_VITALS_BYTES:,}")
    try:
        wire = _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not usable vitals: {error}") from error
    return Vitals(
        online=wire.online,
        load=wire.load,
        queue=wire.queue,
        slots=wire.slots,
        latency_seconds=wire.latency_seconds,
        price_factor=wire.price_factor,
        battery=wire.battery,
    )


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A last will, as far as it can be told from vitals."""

    online: bool = True  #: True: these are vitals
    agents: Annotated[tuple[WireId, ...], msgspec.Meta(max_length=4_096)] = ()  #: empty: the agent of the topic
    since: Annotated[float, msgspec.Meta(ge=0.0, le=1e12)] | None = (
        None  #: when its connection began, seconds since the epoch
    )


_gone = msgspec.json.Decoder(Gone)


def decode_gone(payload: bytes) -> Gone:
    """Read a last will.

    Raises:
        BadMessage: too long, not JSON, or something that is no id.
    """
    if len(payload) > MAX_VITALS_BYTES:
        raise BadMessage(f"vitals of {len(payload):,} bytes are over the limit of {MAX_VITALS_BYTES:,}")
    try:
        return _gone.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not usable vitals: {error}") from error


#: What an agent's last will says.
GONE = encode_vitals(Vitals(online=False))
