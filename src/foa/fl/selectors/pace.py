"""Quick clients in most rounds, the slow ones together in every few, around any rule.

A round lasts as long as its slowest client, so one slow client costs as much as a whole round of them.

Source: the idea of tiers from Chai et al., "TiFL: a tier-based federated learning system", HPDC 2020; here with two tiers
and a fixed turn.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, Selector
from foa.values.ids import AgentId


def paced(selector: Selector, *, percentile: float = 70.0, every: int = 5) -> Selector:
    """A rule that is shown the quicker part of the clients, and in every so-manieth round everybody."""

    def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        if ask.round % every == 0:
            return selector(candidates, ask, rng)
        limit = float(np.percentile([candidate.seconds for candidate in candidates], percentile))
        quick = [candidate for candidate in candidates if candidate.seconds <= limit]
        return selector(quick if len(quick) >= ask.k else candidates, ask, rng)

    return choose
