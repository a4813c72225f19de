"""A negotiation on the wire: how it is set up, and the two records that go to and fro. Plain values.

server ─► query: the ask, the price, which call of how many ─► guardian
server ◄─ accept │ offer with its terms and price │ refuse with a reason
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec

from foa.errors import BadMessage
from foa.fl.guardian import Terms, TrainAsk
from foa.fl.market import Answer, Concession, Offer, Talk, server_takes
from foa.fl.terms import Scalar, read_ask, write_ask
from foa.values.ids import AgentId

QUERY = "query"  #: Flower's type of these messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiation:
    """How the server bargains; each of these is a limit that no model can cross."""

    rounds: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0  #: R: calls to each client at most; 0: no negotiation
    share_min: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25  #: least share of width, epochs and steps it takes
    noise_max: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 20.0  #: most noise it takes; more would drown the update
    usd: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  #: its first price for a round of one client
    usd_max: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  #: its last; an auction takes sealed prices instead
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0  #: for an answer to one call


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The server asks for offers."""

    ask: TrainAsk  #: with the terms and the price of its bid
    number: int  #: of this call, from 1
    of: int  #: calls at most
    sealed: bool = False  #: the price is found by auction: name it, and nobody bargains over it


def bid_of(ask: TrainAsk) -> Offer:
    """An ask as a bid."""
    return offer_of(ask.terms, usd=ask.usd, deadline_seconds=ask.deadline_seconds)


def asked_for(ask: TrainAsk, bid: Offer) -> TrainAsk:
    """The ask on the terms of a bid."""
    terms = replace(ask.terms, width=bid.width, epochs=bid.epochs, steps=bid.steps, noise_multiplier=bid.noise_multiplier)
    return replace(ask, terms=terms, usd=bid.usd, deadline_seconds=bid.deadline_seconds)


def offer_of(terms: Terms, *, usd: float, deadline_seconds: float) -> Offer:
    """Terms as a bid."""
    return Offer(
        width=terms.width,
        epochs=terms.epochs,
        steps=terms.steps,
        noise_multiplier=terms.noise_multiplier,
        usd=usd,
        deadline_seconds=deadline_seconds,
    )


def opened(client: AgentId, wanted: Offer, settings: Negotiation, *, sealed_usd: float = 0.0) -> Talk:
    """The server's end of a talk that has not begun.

    Args:
        client: with whom.
        wanted: the terms it hopes for; its price and its limits come from the settings.
        settings: of the run.
        sealed_usd: above 0: the price is found by auction within this.
    """
    share = settings.share_min
    first, last = (sealed_usd, sealed_usd) if sealed_usd else (settings.usd, max(settings.usd, settings.usd_max))
    limit = Offer(
        width=wanted.width * share,
        epochs=math.ceil(wanted.epochs * share),
        steps=math.ceil(wanted.steps * share),
        noise_multiplier=max(wanted.noise_multiplier, settings.noise_max),
        usd=last,
        deadline_seconds=wanted.deadline_seconds,
    )
    return Talk(
        client=client,
        side=Concession(last=replace(wanted, usd=first), limit=limit, takes=server_takes),
        calls=settings.rounds,
    )


def write_call(call: Call) -> dict[str, Scalar]:
    """A call as flat values: an ask and three more."""
    return {**write_ask(call.ask), "call": call.number, "calls": call.of, "sealed": call.sealed}


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallRecord:
    call: Annotated[int, msgspec.Meta(ge=1, le=100)]
    calls: Annotated[int, msgspec.Meta(ge=1, le=100)]
    sealed: bool


def read_call(values: Mapping[str, object]) -> Call:
    """The call in a message.

    Raises:
        BadMessage: a value is missing, of another type, or out of bounds.
    """
    ask = read_ask(values)
    try:
        read = msgspec.convert(dict(values), type=_CallRecord)
    except msgspec.ValidationError as error:
        raise BadMessage(f"the server's call cannot be used: {error}") from error
    return Call(ask=ask, number=read.call, of=read.calls, sealed=read.sealed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnswerRecord:
    answer: Literal["accept", "offer", "refuse"]
    reason: Annotated[str, msgspec.Meta(max_length=400)] = ""
    by: Annotated[str, msgspec.Meta(max_length=120)] = ""
    width: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    epochs: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 1
    steps: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 1
    noise_multiplier: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    usd: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    deadline_seconds: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 1.0


def write_answer(answer: Answer) -> dict[str, Scalar]:
    """An answer as flat values. A refusal goes as an error reply, as it does in training."""
    offer = {} if answer.offer is None else msgspec.to_builtins(answer.offer)
    terms: dict[str, Scalar] = {key.replace("_", "-"): value for key, value in offer.items()}
    return {"answer": answer.kind, "reason": answer.reason[:400], "by": answer.by[:120], **terms}


def read_answer(values: Mapping[str, object], wanted: Offer) -> Answer:
    """The answer in a reply, with an offer that is never for more than was wanted.

    Args:
        values: of the record.
        wanted: the server's first bid.

    Raises:
        BadMessage: a value is missing, of another type, or out of bounds.
    """
    try:
        read = msgspec.convert({key.replace("-", "_"): value for key, value in values.items()}, type=_AnswerRecord)
    except msgspec.ValidationError as error:
        raise BadMessage(f"its answer cannot be used: {error}") from error
    if read.answer != "offer":
        return Answer(kind=read.answer, reason=read.reason, by=read.by)
    offer = Offer(
        width=min(read.width, wanted.width),
        epochs=min(read.epochs, wanted.epochs),
        steps=min(read.steps, wanted.steps),
        noise_multiplier=max(read.noise_multiplier, wanted.noise_multiplier),
        usd=read.usd,
        deadline_seconds=read.deadline_seconds,
    )
    return Answer(kind="offer", offer=offer, reason=read.reason, by=read.by)
