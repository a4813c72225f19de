"""Contract-net negotiation between a server and one client: bounded, monotone, and each side keeps its own hard limits.

    call ─► offer ─► call ─► offer ─► … at most R calls ─► agreement │ none

Concession is monotone (Endriss, "Monotonic concession protocols", 2006): a later bid of a side never asks the other for more
than its earlier one. A bid that breaks that, or a limit, is not sent: a model that writes bids is held by `Concession`, and
what the other side sends is held by `Talk`.

Bids name the noise, not the ε it costs: ε depends on how many records a site has, and a bid must not tell that.

Source of the message kinds: Smith, "The contract net protocol", IEEE ToC 1980.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a client would do for what pay. One form for both sides, so that offers can be compared."""

    width: float  #: share of the model, 0 to 1
    epochs: int
    steps: int  #: at most
    noise_multiplier: float  #: σ of its training; 0: none
    usd: float  #: pay
    deadline_seconds: float  #: it needs no longer than this


def server_takes(offer: Offer, limit: Offer) -> bool:
    """Whether an offer is at least as good for the server as its limit, in every respect."""
    return not worse(offer, limit)


def client_takes(offer: Offer, limit: Offer) -> bool:
    """Whether an offer is at least as good for the client as its limit, in every respect."""
    return server_takes(limit, offer)


def worse(offer: Offer, limit: Offer) -> tuple[str, ...]:
    """In which respects an offer is worse for the server than its limit, in words."""
    found = [
        f"{name} {getattr(offer, name):g} under {getattr(limit, name):g}"
        for name in ("width", "epochs", "steps")
        if getattr(offer, name) < getattr(limit, name)
    ]
    found += [
        f"{name} {getattr(offer, name):g} over {getattr(limit, name):g}"
        for name in ("noise_multiplier", "usd", "deadline_seconds")
        if getattr(offer, name) > getattr(limit, name)
    ]
    return tuple(found)


#: Writes the next bid of one side from its own last bid, the other's last, and its limit. A model may stand behind it.
Bidder = Callable[[Offer, Offer | None, Offer], Offer]


def halfway(own: Offer, other: Offer | None, limit: Offer) -> Offer:
    """The server's rule: go half of what is left towards its limit, and in nothing further than the other asks."""
    meet = other or limit
    return Offer(
        width=max((own.width + limit.width) / 2, min(own.width, meet.width)),
        epochs=max(_half(own.epochs, limit.epochs), min(own.epochs, meet.epochs)),
        steps=max(_half(own.steps, limit.steps), min(own.steps, meet.steps)),
        noise_multiplier=_up(own.noise_multiplier, meet.noise_multiplier, limit.noise_multiplier),
        usd=_up(own.usd, meet.usd, limit.usd),
        deadline_seconds=_up(own.deadline_seconds, meet.deadline_seconds, limit.deadline_seconds),
    )


def _up(own: float, meet: float, limit: float) -> float:
    return min((own + limit) / 2, max(own, meet))


def _half(own: int, limit: int) -> int:
    # whole numbers go all the way in the end
    return limit if abs(own - limit) <= 1 else round((own + limit) / 2)


@dataclass(slots=True)
class Concession:
    """One side's bids, held to its limit and to monotone concession."""

    last: Offer  #: its standing bid
    limit: Offer
    takes: Callable[[Offer, Offer], bool]  #: `server_takes` or `client_takes`
    bidder: Bidder = halfway

    def next(self, other: Offer | None) -> Offer:
        """Its next bid. A proposal past its limit or back on its word is replaced by its standing bid."""
        bid = self.bidder(self.last, other, self.limit)
        within = self.takes(bid, self.limit)
        conceding = self.takes(self.last, bid)
        if within and conceding:
            self.last = bid
        return self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client says to a call."""

    kind: Literal["accept", "offer", "refuse"]
    offer: Offer | None = None  #: with `offer`
    reason: str = ""  #: for people
    degraded: bool = False  #: with `refuse`: it would rather have its last update counted again
    by: str = ""  #: the model that decided and what its guard said; empty: the rules


@dataclass(slots=True)
class Talk:
    """The server's end of one negotiation."""

    client: AgentId
    side: Concession  #: the server's; its `last` is what is called next
    calls: int  #: R: most calls
    bids: list[Offer] = field(default_factory=list[Offer])  #: in the order they were made, the server's first
    theirs: Offer | None = None  #: the client's standing offer
    agreed: Offer | None = None
    called: int = 0
    over: bool = False
    reason: str = ""  #: of a refusal, or why there was no agreement; of the client's last offer otherwise
    by: str = ""  #: who decided at the client, as it says
    degraded: bool = False
    silent: bool = False  #: no answer came in time

    def call(self) -> Offer:
        """The server's bid for this call."""
        self.called += 1
        self.bids.append(self.side.last)
        return self.side.last

    def hear(self, answer: Answer) -> None:
        """Take an answer to the last call.

        An offer is taken at once where it meets what the server would bid next. Otherwise the server presses on while calls
        are left, unless the client repeats itself: then its offer is all there is to have.
        """
        self.reason, self.by, self.degraded = answer.reason or self.reason, answer.by or self.by, answer.degraded
        if answer.kind == "accept":
            self._agree(self.side.last)
        elif answer.kind == "refuse" or answer.offer is None:
            self.over = True
        else:
            self._weigh(answer.offer)

    def _weigh(self, offer: Offer) -> None:
        self.bids.append(offer)
        repeated = self.theirs is not None and server_takes(self.theirs, offer)
        if self.theirs is None or server_takes(offer, self.theirs):
            # an offer that takes something back does not count: the one before it stands
            self.theirs = offer
        last = repeated or self.called >= self.calls
        if server_takes(self.theirs, self.side.limit if last else self.side.next(self.theirs)):
            self._agree(self.theirs)
        elif last:
            self.over, self.reason = True, f"no agreement: {', '.join(worse(self.theirs, self.side.limit))}"

    def _agree(self, offer: Offer) -> None:
        self.agreed, self.over = offer, True

    def lost(self) -> None:
        """Note that the client did not answer in time."""
        self.over, self.silent, self.reason = True, True, "it left or did not answer the call"
