"""Federated learning: hospitals, Grids, selection, guard, privacy, robustness, auction, words for a decision.

Needs the extra `fl`; `heart` and `privacy` need FOA_DATA (docs/howto/federated-learning.md says where the data comes from).
"""

import asyncio
from collections.abc import Callable

from benchmarks import _fl_grids, _fl_hospitals, _fl_kernel, _fl_selection
from foa.app.settings import read_settings
from foa.errors import BadInput
from foa.fl.selectors import SELECTORS

PARTS = ("heart", "grids", "selection", "guard", "privacy", "robust", "auction", "tokens")
SCENARIOS = ("steady", "shift")


def run(quick: bool, only: str = "", seeds: int = 0, rules: str = "") -> dict[str, object]:
    """Measure. The figures of one part stand by themselves, those of several under the part's name.

    Args:
        quick: fewer seeds, replies and markets; the figures' names stay.
        only: one part, or several joined by commas; empty: all.
        seeds: instead of each part's own number.
        rules: selection rules joined by commas; empty: all of them, and `agentic`: the agent deciding by rule.
            `agentic-model` asks the model of the settings.
    """
    settings = read_settings()
    data = settings.data
    wanted = [part for part in (only or ",".join(PARTS)).split(",") if part]
    for part in wanted:
        if part not in PARTS:
            raise BadInput(f"there is no part {part!r}: use some of {', '.join(PARTS)}")
    chosen = [rule for rule in rules.split(",") if rule] or [*SELECTORS, "agentic"]

    def count(quickly: int, fully: int) -> int:
        return seeds or (quickly if quick else fully)

    parts: dict[str, Callable[[], object]] = {
        "heart": lambda: _fl_hospitals.heart(count(1, 5), data=data),
        "grids": _fl_grids.grids,
        "selection": lambda: _fl_selection.select(
            count(2, 20), data=data, scenarios=SCENARIOS, rules=chosen, settings=settings
        ),
        "guard": lambda: _fl_kernel.guard(1_000 if quick else 12_000),
        "privacy": lambda: _fl_hospitals.privacy(count(1, 5), data=data),
        "robust": lambda: _fl_kernel.robust(count(1, 3), shares=(0.4,) if quick else (0.2, 0.4)),
        "auction": lambda: _fl_kernel.auctions(100 if quick else 1_000),
        "tokens": lambda: asyncio.run(_fl_kernel.tokens()),
    }
    measured = {part: parts[part]() for part in wanted}
    return {
        "figures": measured[wanted[0]] if len(wanted) == 1 else measured,
        "baseline": {"heart": {"fedavg": 0.6850, "fedyogi": 0.7314, "source": "FLamby's published means over 5 seeds"}},
        "repetitions": seeds or (1 if quick else 5),
    }
