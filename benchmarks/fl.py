"""Federated learning: hospitals, Grids, selection, guard, privacy, robustness, auction, words for a decision.

Needs the extra `fl`; `heart` and `privacy` need FOA_DATA (docs/howto/federated-learning.md says where the data comes from).
"""

import asyncio
from collections.abc import Callable

from benchmarks import _fl_compression, _fl_grids, _fl_hospitals, _fl_kernel, _fl_robust, _fl_selection, _fl_tokens
from benchmarks._fl_scenarios import SCENARIOS
from foa.app.settings import read_settings
from foa.errors import BadInput
from foa.fl.selectors import SELECTORS

#: Every part, and its seeds where it is not quick and nothing else is said.
FULLY = {
    "heart": 5,
    "grids": 1,
    "selection": 20,
    "guard": 1,
    "privacy": 5,
    "robust": 20,
    "auction": 1,
    "tokens": 1,
    "compression": 5,
}
PARTS = tuple(FULLY)


def run(
    quick: bool,
    only: str = "",
    seeds: int = 0,
    rules: str = "",
    scenarios: str = "",
    model: str = "recorded",
    model_seeds: int = 3,
    record: str = "",
) -> dict[str, object]:
    """Measure. The figures of one part stand by themselves, those of several under the part's name.

    Args:
        quick: fewer seeds, replies and markets; the figures' names stay.
        only: one part, or several joined by commas; empty: all.
        seeds: instead of each part's own number.
        rules: rows of the selection joined by commas; empty: every rule of selection, and the agents: `agentic` decides by
            rule, `agentic-model` asks a model, `agentic-written` follows a policy that was written by hand.
        scenarios: of the selection, joined by commas; empty: all of them.
        model: of `agentic-model`: `recorded`, `embedded`, or an endpoint's address (its model's name: FOA_MODEL).
        model_seeds: of `agentic-model`: it is slow where it is not recorded.
        record: file that the exchanges of `agentic-model` are added to.
    """
    settings = read_settings()
    data = settings.data
    wanted = [part for part in (only or ",".join(PARTS)).split(",") if part]
    for part in wanted:
        if part not in PARTS:
            raise BadInput(f"there is no part {part!r}: use some of {', '.join(PARTS)}")
    chosen = [rule for rule in rules.split(",") if rule] or [*SELECTORS, "agentic", "agentic-model", "agentic-written"]
    courses = [name for name in scenarios.split(",") if name] or [*SCENARIOS]
    for name in courses:
        if name not in SCENARIOS:
            raise BadInput(f"there is no scenario {name!r}: use some of {', '.join(SCENARIOS)}")

    def count(quickly: int, fully: int) -> int:
        return seeds or (quickly if quick else fully)

    parts: dict[str, Callable[[], object]] = {
        "heart": lambda: _fl_hospitals.heart(count(1, FULLY["heart"]), data=data),
        "grids": _fl_grids.grids,
        "selection": lambda: _fl_selection.select(
            count(2, FULLY["selection"]),
            data=data,
            scenarios=courses,
            rules=chosen,
            settings=settings,
            model=model,
            model_seeds=model_seeds,
            record=record,
        ),
        "guard": lambda: _fl_kernel.guard(1_000 if quick else 12_000),
        "privacy": lambda: _fl_hospitals.privacy(count(1, FULLY["privacy"]), data=data),
        "robust": lambda: _fl_robust.robust(count(1, FULLY["robust"]), shares=(0.4,) if quick else (0.2, 0.4)),
        "auction": lambda: _fl_kernel.auctions(100 if quick else 1_000),
        "tokens": lambda: asyncio.run(_fl_tokens.tokens(settings)),
        "compression": lambda: _fl_compression.compression(count(1, FULLY["compression"]), data=data),
    }
    measured = {part: parts[part]() for part in wanted}
    return {
        "figures": measured[wanted[0]] if len(wanted) == 1 else measured,
        "baseline": {"heart": {"fedavg": 0.6850, "fedyogi": 0.7314, "source": "FLamby's published means over 5 seeds"}},
        "repetitions": seeds or (1 if quick else max(FULLY[part] for part in wanted)),
    }
