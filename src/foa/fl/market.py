"""Contract-net negotiation between a server and one client: bounded, monotone, and each side keeps its own hard limits.

    Call ─► Offer ─► Counter ─► Offer ─► … at most R rounds ─► Agreement │ None

Concession is monotone (Endriss, "Monotonic concession protocols", 2006): a later bid of a side never asks the other for more
than its earlier one. A bid that breaks that, or a limit, is not sent: a model that writes bids is held by `Concession`.

Source of the message kinds: Smith, "The contract net protocol", IEEE ToC 1980.
"""

from collections.abc import Callable
from dataclasses import dataclass

from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a client would do for what pay. One form for both sides, so that offers can be compared."""

    width: float  #: share of the model, 0 to 1
    epochs: int
    epsilon: float  #: of its privacy budget for this round
    usd: float  #: pay
    deadline_seconds: float  #: it needs no longer than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The server asks for offers."""

    run: str
    round: int
    wanted: Offer  #: the best it hopes for
    limit: Offer  #: the worst it takes; told to nobody
    rounds: int = 3  #: R: bids of each side at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Both sides take this offer."""

    client: AgentId
    offer: Offer
    bids: tuple[Offer, ...]  #: in the order they were made, the server's first


def server_takes(offer: Offer, limit: Offer) -> bool:
    """Whether an offer is at least as good for the server as its limit, in every respect."""
    return (
        offer.width >= limit.width
        and offer.epochs >= limit.epochs
        and offer.epsilon >= limit.epsilon
        and offer.usd <= limit.usd
        and offer.deadline_seconds <= limit.deadline_seconds
    )


def client_takes(offer: Offer, limit: Offer) -> bool:
    """Whether an offer is at least as good for the client as its limit, in every respect."""
    return server_takes(limit, offer)


#: Writes the next bid of one side from its own last bid, the other's last, and its limit. A model may stand behind it.
Bidder = Callable[[Offer, Offer | None, Offer], Offer]


def halfway(own: Offer, other: Offer | None, limit: Offer) -> Offer:
    """The rule: go half of what is left towards one's own limit, whatever the other does."""
    del other
    return Offer(
        width=(own.width + limit.width) / 2,
        # whole numbers go all the way in the end
        epochs=limit.epochs if abs(own.epochs - limit.epochs) <= 1 else round((own.epochs + limit.epochs) / 2),
        epsilon=(own.epsilon + limit.epsilon) / 2,
        usd=(own.usd + limit.usd) / 2,
        deadline_seconds=(own.deadline_seconds + limit.deadline_seconds) / 2,
    )


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


def negotiate(
    call: Call, client: AgentId, wanted: Offer, limit: Offer, *, server: Bidder = halfway, bidder: Bidder = halfway
) -> Agreement | None:
    """Bid in turn until one side's bid is within the other's limit; ends after `call.rounds` bids each.

    Args:
        call: the server's side.
        client: the other side.
        wanted: the client's first bid: what suits it best.
        limit: the worst the client takes.
        server: writes the server's bids.
        bidder: writes the client's bids.

    Returns:
        The first bid that the other side takes, or None: they part.
    """
    ours = Concession(last=call.wanted, limit=call.limit, takes=server_takes, bidder=server)
    theirs = Concession(last=wanted, limit=limit, takes=client_takes, bidder=bidder)
    bids = [ours.last]
    if client_takes(ours.last, limit):
        return Agreement(client=client, offer=ours.last, bids=tuple(bids))
    bids.append(theirs.last)
    for _ in range(call.rounds):
        if server_takes(bids[-1], call.limit):
            return Agreement(client=client, offer=bids[-1], bids=tuple(bids))
        bids.append(ours.next(bids[-1]))
        if client_takes(bids[-1], limit):
            return Agreement(client=client, offer=bids[-1], bids=tuple(bids))
        bids.append(theirs.next(bids[-1]))
    if server_takes(bids[-1], call.limit):
        return Agreement(client=client, offer=bids[-1], bids=tuple(bids))
    return None
