"""Reverse auction: clients ask a price, the server buys the most value it can pay for, and lying does not pay.

Winners are taken by value per dollar asked while the budget allows, and each is paid the highest price it could have asked
and still won (its critical price): a monotone rule with critical payments is truthful and nobody loses by taking part.

Source: Singer, "Budget feasible mechanisms", FOCS 2010: the proportional share rule for additive values, which keeps the sum
of payments within the budget. Myerson, 1981, for monotone and critical being truthful.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foa.values.ids import AgentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """What one client asks for a round."""

    client: AgentId
    usd: float  #: asked, ≥ 0
    value: float  #: what it is worth to the server, > 0; the server's own estimate, never the client's word


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    """Who won and what each is paid."""

    payments: Mapping[AgentId, float]  #: US dollars
    refused: Mapping[AgentId, str]  #: losers and unusable bids, with the reason

    @property
    def usd(self) -> float:
        """All payments together."""
        return sum(self.payments.values())


def auction(bids: Sequence[Bid], *, budget_usd: float, reserve_usd: float = float("inf")) -> Award:
    """Choose winners and pay them their critical prices.

    Args:
        bids: one a client; a second bid of a client, a negative or not finite price, or no value is refused.
        budget_usd: payments never sum to more.
        reserve_usd: the most paid to one client.
    """
    refused, usable = dict[AgentId, str](), dict[AgentId, Bid]()
    for bid in bids:
        if bid.client in usable or bid.client in refused:
            refused[bid.client] = "it bid twice"
            usable.pop(bid.client, None)
        elif not (0 <= bid.usd < float("inf") and 0 < bid.value < float("inf")):
            refused[bid.client] = "its price or value is not usable"
        elif bid.usd > reserve_usd:
            refused[bid.client] = f"it asks more than the reserve of {reserve_usd:g} US$"
        else:
            usable[bid.client] = bid
    pool = list(usable.values())
    winners = _winners(pool, budget_usd)
    payments = {bid.client: _critical(bid, pool, budget_usd, reserve_usd) for bid in winners}
    for bid in pool:
        if bid.client not in payments:
            refused[bid.client] = "others give more for the money"
    return Award(payments=payments, refused=refused)


def _density(bid: Bid) -> tuple[float, str]:
    """Price of one unit of value; ties go by id, which no client chooses for this auction."""
    return bid.usd / bid.value, bid.client


def _winners(bids: Sequence[Bid], budget: float) -> list[Bid]:
    """The longest run of cheapest bids of which each asks at most its share of the budget by value."""
    chosen, value = list[Bid](), 0.0
    for bid in sorted(bids, key=_density):
        if bid.usd > budget * bid.value / (value + bid.value):
            break
        chosen.append(bid)
        value += bid.value
    return chosen


def _critical(bid: Bid, bids: Sequence[Bid], budget: float, reserve: float) -> float:
    """The highest price at which this client still wins: the best of its chances at each place among the others.

    At place j it must ask less for a unit of value than the j-th other, and at most its share of the budget beside the
    j − 1 cheaper ones (Singer, section 3).
    """
    others = sorted((other for other in bids if other.client != bid.client), key=_density)
    best, value = 0.0, 0.0
    for other in (*others, None):
        share = budget * bid.value / (value + bid.value)
        place = share if other is None else min(share, other.usd / other.value * bid.value)
        best = max(best, place)
        if other is None or other.usd > budget * other.value / (value + other.value):
            # the run of winners among the others ends here: behind it nobody wins at any price
            break
        value += other.value
    return min(best, reserve)
