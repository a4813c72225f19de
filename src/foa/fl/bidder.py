"""A site's end of a negotiation: what its guardian allows is its limit, what its model would rather do is its first bid.

    call ─► rules ─► limit (of the first call) ─► model, if there is one ─► bid ─► accept │ offer │ refuse

Bids concede monotonically and never pass the rules. They are made from a noised record count that the ledger paid for
(`foa.fl.counts`) and go out rounded. Without a model a site says at once what its rules allow, and bargains over pay only.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from foa.errors import BudgetExceeded
from foa.fl.counts import told_count
from foa.fl.guard import GuardEntry
from foa.fl.guardian import Condition, Guardian, Refuse, Terms, TrainAsk, Verdict
from foa.fl.market import Answer, Concession, Offer, client_takes
from foa.fl.negotiation import Call, bid_of, offer_of

#: Asks a model within the rules; the entry is None where the rules refused by themselves.
Consider = Callable[[TrainAsk, Condition], tuple[Verdict, GuardEntry | None]]

FIRST_PRICE = 1.5  #: of its reserve price, asked at first
NOISE_STEP = 0.125  #: noise goes out rounded up to this
REMEMBERED = 8  #: rounds whose standing bids are kept


@dataclass(slots=True)
class _Standing:
    """What a site stands by in one round."""

    side: Concession
    agreed: Offer | None = None  #: the call it accepted


class Bidder:
    """Answers calls. One a site; not to be used by two threads at a time."""

    def __init__(
        self,
        guardian: Guardian,
        *,
        usd: float = 0.0,
        consider: Consider | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Make it.

        Args:
            guardian: the rules, and the ledger.
            usd: reserve price of a round.
            consider: asks a model too.
            rng: draws the noise of the record count; None: from the operating system.
        """
        self._guardian = guardian
        self._usd = usd
        self._consider = consider
        self._rng = rng or np.random.default_rng()
        self._standing: OrderedDict[str, _Standing] = OrderedDict()

    def answer(self, call: Call, condition: Condition, *, at: float) -> Answer:
        """Answer a call; trains nothing and promises nothing that the rules would not allow.

        Args:
            call: of the server.
            condition: of the device.
            at: seconds since the epoch, for the ledger's record.

        Raises:
            StoreFailed: the ledger could not write.
        """
        try:
            seen = self._as_told(call.ask, condition, at)
        except BudgetExceeded as error:
            return Answer(kind="refuse", reason=str(error), degraded=True)
        ruled = self._guardian.consider(call.ask, seen)
        if isinstance(ruled, Refuse):
            return Answer(kind="refuse", reason=ruled.reason, degraded=ruled.degraded)
        verdict, entry = (ruled, None) if self._consider is None else self._consider(call.ask, seen)
        if isinstance(verdict, Refuse):
            return Answer(kind="refuse", reason=verdict.reason, degraded=verdict.degraded, by=decided_by(entry))
        standing = self._stand(call, self._rounded(ruled.terms, call))
        bid = self._bid(standing.side, call, self._rounded(verdict.terms, call))
        return replace(self._say(standing, call, bid), reason=_reasons(verdict), by=decided_by(entry))

    def stands(self, ask: TrainAsk) -> bool:
        """Whether it said yes to these terms, or better ones for the server, in a negotiation of this round."""
        standing = self._standing.get(ask.key)
        if standing is None:
            return False
        promised = standing.agreed or standing.side.last
        # pay and deadline were settled with the terms
        asked = replace(bid_of(ask), usd=promised.usd, deadline_seconds=promised.deadline_seconds)
        return client_takes(asked, promised)

    def _as_told(self, ask: TrainAsk, condition: Condition, at: float) -> Condition:
        ledger = self._guardian.ledger
        if ledger is None or (ask.terms.noise_multiplier == 0 and self._guardian.limits.noise_min == 0):
            return condition  # without noise no term depends on the count
        return replace(condition, records=told_count(ledger, condition.records, self._rng, at=at))

    def _rounded(self, terms: Terms, call: Call) -> Offer:
        """The terms as an offer at the reserve price; noise that the server did not name goes out in coarse steps."""
        if terms.noise_multiplier > call.ask.terms.noise_multiplier:
            terms = replace(terms, noise_multiplier=math.ceil(terms.noise_multiplier / NOISE_STEP) * NOISE_STEP)
        return offer_of(terms, usd=self._usd, deadline_seconds=call.ask.deadline_seconds)

    def _stand(self, call: Call, limit: Offer) -> _Standing:
        """The standing bid of the round; the first call sets the limit, for a later one is for less."""
        key = call.ask.key
        if key not in self._standing or call.number == 1:
            first = replace(limit, usd=self._usd if call.sealed or call.of == 1 else self._usd * FIRST_PRICE)
            self._standing[key] = _Standing(side=Concession(last=first, limit=limit, takes=client_takes))
            while len(self._standing) > REMEMBERED:
                self._standing.popitem(last=False)
        return self._standing[key]

    def _bid(self, side: Concession, call: Call, wish: Offer) -> Offer:
        if call.number == 1:
            # what the model would rather do may be less than the rules allow; it is where the site begins
            side.last = _within(replace(wish, usd=side.last.usd), side.limit)
            return side.last
        last_chance = call.number >= call.of

        def next_bid(own: Offer, other: Offer | None, limit: Offer) -> Offer:
            price = limit.usd if last_chance else (own.usd + limit.usd) / 2
            return _within(replace(_best(own, wish), usd=price), limit)

        side.bidder = next_bid
        return side.next(None)

    def _say(self, standing: _Standing, call: Call, bid: Offer) -> Answer:
        asked = bid_of(call.ask)
        if not call.sealed and client_takes(asked, bid):
            standing.agreed = asked
            return Answer(kind="accept")
        return Answer(kind="offer", offer=bid)


def decided_by(entry: GuardEntry | None) -> str:
    """The model that decided and what its guard said; empty: the rules."""
    if entry is None or not entry.model or entry.verdict == "fallback":
        return ""
    return f"{entry.model[:80]} ({entry.verdict})"


def _reasons(verdict: Verdict) -> str:
    return "; ".join(getattr(verdict, "reasons", ()))[:400]


def _within(bid: Offer, limit: Offer) -> Offer:
    """The bid with nothing in it that the client's limit does not allow."""
    return Offer(
        width=min(bid.width, limit.width),
        epochs=min(bid.epochs, limit.epochs),
        steps=min(bid.steps, limit.steps),
        noise_multiplier=max(bid.noise_multiplier, limit.noise_multiplier),
        usd=max(bid.usd, limit.usd),
        deadline_seconds=max(bid.deadline_seconds, limit.deadline_seconds),
    )


def _best(own: Offer, wish: Offer) -> Offer:
    """The standing bid, and wherever the newest wish gives the server more, that."""
    return Offer(
        width=max(own.width, wish.width),
        epochs=max(own.epochs, wish.epochs),
        steps=max(own.steps, wish.steps),
        noise_multiplier=min(own.noise_multiplier, wish.noise_multiplier),
        usd=own.usd,
        deadline_seconds=own.deadline_seconds,
    )
