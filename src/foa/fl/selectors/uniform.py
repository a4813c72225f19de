"""Every client is as likely as any other.

Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017.
"""

from collections.abc import Sequence

import numpy as np

from foa.fl.memory import Candidate
from foa.fl.selectors.ask import Ask, drawn
from foa.values.ids import AgentId


def uniform(candidates: Sequence[Candidate], ask: Ask, rng: np.random.Generator) -> tuple[AgentId, ...]:
    """Choose k at random."""
    return tuple(candidate.id for candidate in drawn(candidates, ask.k, rng))
