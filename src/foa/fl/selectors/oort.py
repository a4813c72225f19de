"""Clients whose data still teaches and that are quick enough, with some exploration.

Source: Lai et al., "Oort: efficient federated learning via guided participant selection", OSDI 2021, algorithm 1. Its
statistical utility uses the root mean square of sample losses; we are told the mean. The pacer is a pure function of the
utilities of past rounds, so that it survives a restart.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, best, drawn
from foa.values.ids import AgentId

EXPLORE, DECAY, EXPLORE_FLOOR = 0.9, 0.98, 0.2
STALENESS = 0.1
PENALTY = 2.0  #: α: exponent on lateness
WINDOW = 20  #: W: rounds the pacer compares
START_PERCENTILE, STEP = 80.0, 5.0


def oort(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Choose k by utility, a decaying share of them never tried before, quick ones first among those."""
    return _oort(candidates, ask, rng, per_turn=False)


def oort_per_turn(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Oort with each utility divided by 1 + the turns a client has had: nearly as quick, and far fairer."""
    return _oort(candidates, ask, rng, per_turn=True)


def preferred_percentile(utilities: Sequence[float]) -> float:
    """Percentile of durations that counts as quick enough: relaxed by one step whenever a window of rounds taught less."""
    relaxed = 0
    for end in range(2 * WINDOW, len(utilities) + 1, WINDOW):
        relaxed += sum(utilities[end - 2 * WINDOW : end - WINDOW]) > sum(utilities[end - WINDOW : end])
    return min(100.0, START_PERCENTILE + STEP * relaxed)


def _oort(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator, *, per_turn: bool) -> tuple[AgentId, ...]:
    fresh = [candidate for candidate in candidates if candidate.loss is None]
    tried = [candidate for candidate in candidates if candidate.loss is not None]
    exploring = round(ask.k * max(EXPLORE_FLOOR, EXPLORE * DECAY**ask.round))
    explored = drawn(fresh, exploring, rng, [1 / max(1e-6, candidate.seconds) for candidate in fresh])
    if not tried:
        rest = [candidate for candidate in fresh if candidate not in explored]
        return tuple(candidate.id for candidate in (*explored, *drawn(rest, ask.k - len(explored), rng)))
    exploited = best(tried, _utilities(tried, candidates, ask, per_turn=per_turn), ask.k - len(explored))
    chosen = [*explored, *exploited]
    if len(chosen) < ask.k:
        rest = [candidate for candidate in fresh if candidate not in explored]
        chosen += drawn(rest, ask.k - len(chosen), rng)
    return tuple(candidate.id for candidate in chosen)


def _utilities(tried: Sequence[Candidate], everyone: Sequence[Candidate], ask: Ask, *, per_turn: bool) -> list[float]:
    wanted = float(np.percentile([candidate.seconds for candidate in everyone], preferred_percentile(ask.utilities)))
    statistical = np.array([candidate.samples * (candidate.loss or 0.0) for candidate in tried])
    utilities = statistical / (statistical.max() + 1e-9)
    utilities += [np.sqrt(STALENESS * np.log(ask.round + 1) / max(1, candidate.last_round)) for candidate in tried]
    for index, candidate in enumerate(tried):
        if candidate.seconds > wanted:
            utilities[index] *= (wanted / candidate.seconds) ** PENALTY
        if per_turn:
            utilities[index] /= 1 + candidate.rounds
    return utilities.tolist()
