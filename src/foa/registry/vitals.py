"""The wire form of vitals, `foa.vitals/1`: plain JSON, unsigned, never retained. An MQTT last will says `GONE`."""

from typing import Annotated, Literal

import msgspec

from foa.errors import BadMessage
from foa.values.ids import AgentId, WireId
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


class _Gone(msgspec.Struct, frozen=True, kw_only=True):
    online: bool = True
    agents: Annotated[tuple[WireId, ...], msgspec.Meta(max_length=4_096)] = ()


_gone = msgspec.json.Decoder(_Gone)


def decode_gone(payload: bytes) -> tuple[AgentId, ...]:
    """Give the agents that a host's last will names; empty for the vitals of one agent.

    Raises:
        BadMessage: too long, not JSON, or something that is no id.
    """
    if len(payload) > MAX_VITALS_BYTES:
        raise BadMessage(f"vitals of {len(payload):,} bytes are over the limit of {MAX_VITALS_BYTES:,}")
    try:
        wire = _gone.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadMessage(f"not usable vitals: {error}") from error
    return () if wire.online else tuple(AgentId(agent) for agent in wire.agents)


#: What an agent's last will says.
GONE = encode_vitals(Vitals(online=False))
