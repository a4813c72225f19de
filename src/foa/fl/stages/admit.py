"""PROFILE: who can be a candidate at all. A hard zero with its reason, before any choice, and no rule or model relaxes it.

policies of the run ⊆ the card's  ·  ε left for the least that a round needs  ·  the longest deadline holds its least work
"""

import math
from collections.abc import Mapping, Sequence

from foa.errors import PolicyDenied
from foa.fl.block import FlBlock
from foa.fl.plans import Bounds
from foa.fl.privacy import NoisyTraining
from foa.fl.rounds import RoundRow
from foa.fl.stages.cohort import AgenticSettings
from foa.values.ids import AgentId

EPSILON_STEP = 0.5  #: sites tell what is left of their budget rounded down to this
SAMPLES_STEP = math.sqrt(2)  #: and their record counts to the nearest power of this


def refusals(
    profiles: Mapping[int, FlBlock], settings: AgenticSettings, bounds: Bounds, rows: Sequence[RoundRow]
) -> dict[AgentId, str]:
    """Who may be no candidate, and why.

    Args:
        profiles: who is there.
        settings: of the run.
        bounds: of its server agent: the longest deadline, the least noise.
        rows: past rounds, in which sites told what is left of their budgets.

    Raises:
        PolicyDenied: nobody who is there is cleared for the run.
    """
    found = {block.id: why for block in profiles.values() if (why := _uncleared(block, settings.policies))}
    if found and len(found) == len(profiles):
        shown = "; ".join(f"{client}: {why}" for client, why in sorted(found.items())[:5])
        raise PolicyDenied(f"no site may train in run {settings.run}: {shown}")
    left = _told_left(rows)
    for block in profiles.values():
        why = _spent(block, left.get(block.id), settings, bounds) or _slow(block, settings, bounds)
        if why and block.id not in found:
            found[block.id] = why
    return found


def _uncleared(block: FlBlock, policies: Sequence[str]) -> str:
    missing = sorted({*policies} - {*block.policies})
    return f"it is not cleared for {', '.join(missing)}"[:400] if missing else ""


def _told_left(rows: Sequence[RoundRow]) -> dict[AgentId, float]:
    """What each site last said is left of its ε; later rounds speak last."""
    return {
        AgentId(client.client): client.told.epsilon_left
        for row in rows
        for client in row.clients
        if client.told is not None and client.told.epsilon_budget >= 0
    }


def _spent(block: FlBlock, told_left: float | None, settings: AgenticSettings, bounds: Bounds) -> str:
    """Why its privacy budget cannot pay, by a bound that is in its favour: nobody who could is kept out."""
    known = [left for left in (block.epsilon_left, told_left) if left is not None]
    noised = settings.terms.noise_multiplier > 0 or bounds.noise_min > 0
    if noised and block.epsilon is None and told_left is None:
        return "the run asks for noise and its card names no privacy budget"
    if not known:
        return ""
    needed, left = least_epsilon(settings, bounds, samples=block.samples), min(known) + EPSILON_STEP
    if needed <= left:
        return ""
    return f"under {left:g} is left of its privacy budget and a round needs {needed:.2f} at least"


def least_epsilon(settings: AgenticSettings, bounds: Bounds, *, samples: int) -> float:
    """What the cheapest round that the run takes adds to ε at least, for a site that tells so many samples.

    Rényi divergence grows with the order, so at order 2 it is least, whichever order the site counts at.
    """
    terms, bargain = settings.terms, settings.negotiation
    noise = max(terms.noise_multiplier, bargain.noise_max, bounds.noise_max)
    if noise <= 0:
        return 0.0
    batches = math.ceil(samples * SAMPLES_STEP / terms.batch)
    steps = math.ceil(terms.steps * bargain.share_min)
    return NoisyTraining(noise_multiplier=noise, sample_rate=1 / max(1, batches), steps=max(1, steps)).rdp(2)


def _slow(block: FlBlock, settings: AgenticSettings, bounds: Bounds) -> str:
    """Why it cannot be in time: at the speed on its card even the least work takes longer than the longest deadline."""
    seconds, longest = block.seconds_a_round * settings.negotiation.share_min, bounds.deadline_max_seconds
    return (
        f"by its card it needs {seconds:g} s for the least work and {longest:g} s are the most" if seconds > longest else ""
    )
