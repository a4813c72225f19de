"""As many as fit the deadline, quickest first, of a random poll.

Source: Nishio and Yonetani, "Client selection for federated learning with heterogeneous resources in mobile edge",
ICC 2019, algorithm 3. Theirs knows upload and training apart; we have their sum and take uploads as parallel.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, drawn
from foa.values.ids import AgentId

POLL = 3  #: candidates polled for each one wanted


def fedcs(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Poll 3·k at random and take the quickest k that make the deadline; at least one."""
    polled = sorted(drawn(candidates, POLL * ask.k, rng), key=lambda candidate: candidate.seconds)
    fitting = [candidate for candidate in polled if candidate.seconds <= ask.deadline_seconds] or polled[:1]
    return tuple(candidate.id for candidate in fitting[: ask.k])
