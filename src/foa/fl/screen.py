"""Which updates look poisoned, and whether it is the world that changed instead.

A few updates that are far longer than the rest, or point against them, are suspects: they are set aside and their clients
quarantined, never silently deleted. If a large share looks strange, nothing is screened out: that is drift, and the robust
rules must carry it. With fewer than five updates, with mixed widths, or with local noise (which makes honest updates as long
as it likes) nothing can be told apart: then only what is unusable is set aside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foa.errors import BadInput
from foa.fl.aggregate.heterofl import check_part
from foa.fl.aggregate.update import Arrays, Update, differences
from foa.values.ids import AgentId

#: A suspect's update is longer than the median by this many median absolute deviations (and by half at least) …
FAR = 6.0
#: … or points against the median direction by this cosine.
AGAINST = -0.3
#: From this share of suspects on it is called drift.
DRIFT = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """What was kept and what was set aside."""

    kept: tuple[Update, ...]
    suspects: Mapping[AgentId, str]  #: why each was set aside
    drift: bool  #: so many looked strange that none was set aside for it


def screen(base: Arrays, updates: Sequence[Update], *, same_shapes: bool = True, noised: bool = False) -> Screening:
    """Set aside what cannot be used, then what stands out.

    Args:
        base: the model that was trained from.
        updates: as they came.
        same_shapes: False where widths differ.
        noised: clients added noise of their own.
    """
    usable, suspects = list[Update](), dict[AgentId, str]()
    for update in updates:
        try:
            if same_shapes:
                differences(base, (update,))
            else:
                check_part(update, base)
            usable.append(update)
        except BadInput as error:
            suspects[update.client] = str(error)
    if not same_shapes or noised or len(usable) < 5:
        return Screening(kept=tuple(usable), suspects=suspects, drift=False)
    strange = _strange(base, usable)
    if len(strange) >= DRIFT * len(usable):
        return Screening(kept=tuple(usable), suspects=suspects, drift=True)
    kept = tuple(update for update in usable if update.client not in strange)
    return Screening(kept=kept, suspects={**suspects, **strange}, drift=False)


def _strange(base: Arrays, updates: Sequence[Update]) -> dict[AgentId, str]:
    rows = differences(base, updates)
    lengths = np.linalg.norm(rows, axis=1)
    middle = float(np.median(lengths))
    spread = float(np.median(np.abs(lengths - middle)))
    centre = np.median(rows, axis=0)
    cosines = rows @ centre / np.maximum(lengths * np.linalg.norm(centre), 1e-12)
    found = dict[AgentId, str]()
    for update, length, cosine in zip(updates, lengths, cosines, strict=True):
        if length > max(middle + FAR * spread, 1.5 * middle):
            found[update.client] = f"its update is {length / max(middle, 1e-12):.1f} times as long as most"
        elif cosine < AGAINST:
            found[update.client] = f"its update points against the others (cosine {cosine:.2f})"
    return found
