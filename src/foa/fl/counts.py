"""How many records a site has, as its bids may give it away: drawn once with noise, paid for once, used ever after.

The terms a site can offer depend on its record count, because the noise that a budget needs does. A bid that came from the
true count would tell it for nothing. So bids are made from a count with two-sided geometric noise, which is ε-differentially
private for one record added or removed; whatever is worked out from it costs nothing more.

Source: Ghosh, Roughgarden and Sundararajan, "Universally utility-maximizing privacy mechanisms", STOC 2009 (the mechanism).
"""

import math

import numpy as np

from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import PureRelease

EPSILON = 0.25  #: of the count, once in a ledger's life
KEY = "told-count"  #: its entry in the ledger; rounds have a slash in theirs, so it is never taken for one
#: taken off, in units of 1/ε: a count that is too high promises less noise than the site will need
CAUTION = 1.5


def told_count(ledger: PrivacyLedger, records: int, rng: np.random.Generator, *, at: float) -> int:
    """The count that bids are made from, 1 at least; the same at every call on one ledger.

    Args:
        ledger: pays, at the first call.
        records: the true count.
        rng: draws the noise.
        at: seconds since the epoch, for the ledger's record.

    Raises:
        BudgetExceeded: the ledger cannot pay for it.
        StoreFailed: the ledger could not write.
    """
    kept = ledger.find(KEY)
    if kept is None:
        # a kill between the debit and this line draws anew under the same debit: nothing was sent
        ledger.debit(KEY, PureRelease(epsilon=EPSILON), at=at)
        drawn = records + _two_sided(rng) - round(CAUTION / EPSILON)
        kept = ledger.keep(KEY, str(max(1, drawn)).encode())
    return int(kept)


def _two_sided(rng: np.random.Generator) -> int:
    stops = 1 - math.exp(-EPSILON)
    return int(rng.geometric(stops)) - int(rng.geometric(stops))
