"""Seats for those who can train the parts of the model that were rarely trained, around any rule.

With mixed widths (HeteroFL) the outer part of every layer is trained by wide clients only; a rule that prefers quick, narrow
ones starves it. The choice follows the paper's "up-weight rarely trained layers" (arXiv:2604.04895, server agent).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, Selector
from foa.values.ids import AgentId

SHARE = 0.25  #: of all turns so far that should have trained the outermost part; the fewer did, the more seats


def covering(selector: Selector, *, wide: float = 1.0, share: float = SHARE) -> Selector:
    """A rule that keeps seats for clients that can train `wide` of the model, if `selector` chose fewer of them.

    One seat at least; more where the outermost part was trained in less than `share` of all turns so far, since a part that
    is rarely trained holds back every client that has it.
    """

    def choose(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
        chosen = selector(candidates, ask, rng)
        able = [candidate for candidate in candidates if candidate.width >= wide]
        names = {candidate.id for candidate in able}
        seats = _seats(candidates, able, ask.k, share)
        missing = min(seats, ask.k, len(able)) - sum(1 for client in chosen if client in names)
        if missing <= 0:
            return chosen
        spare = [candidate for candidate in able if candidate.id not in chosen]
        added = selector(spare, replace(ask, k=missing), rng)
        narrow = [client for client in chosen if client not in names]
        room = ask.k - len(added) - (len(chosen) - len(narrow))
        kept = {*chosen} - {*narrow[max(0, room) :]}
        return (*added, *(client for client in chosen if client in kept))

    return choose


def _seats(candidates: Sequence[Candidate], able: Sequence[Candidate], k: int, share: float) -> int:
    """Seats for the able: enough that, at this pace, the share of turns they lack would be made up within as many turns."""
    turns = sum(candidate.rounds for candidate in candidates)
    trained = sum(candidate.rounds for candidate in able) / turns if turns else share
    return max(1, math.ceil(k * (share + max(0.0, share - trained)))) if trained < share else 1
