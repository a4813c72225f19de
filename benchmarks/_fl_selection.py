"""Selection rules side by side on a virtual clock: equal mean k, equal local work, paired seeds."""

import asyncio
from collections.abc import Sequence

import numpy as np

from benchmarks._fl_models import RECORDED_SEEDS, deciding
from benchmarks._fl_outing import Outing, outing
from benchmarks._fl_scenarios import speeds
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.models.recorded import UnknownPrompt

#: Seeds that no choice of a rule or a number was made on; 1000 to 1029 are those that the rule policy was tuned on.
FIRST_SEED = 5_000
BEST = "oort-per-turn"  #: the rule to beat
FIGURES = ("seconds_to_80", "worst10", "jain", "final", "worst10_late", "seconds_in_all")


def interval(values: Sequence[float], seed: int = 0) -> list[float]:
    """Mean, and its 95 % bootstrap interval."""
    rng, array = np.random.default_rng(seed), np.asarray(values, float)
    means = rng.choice(array, (2000, len(array))).mean(axis=1)
    return [round(float(value), 4) for value in (array.mean(), *np.percentile(means, (2.5, 97.5)))]


def select(
    seeds: int,
    *,
    data: str,
    scenarios: Sequence[str],
    rules: Sequence[str],
    settings: Settings,
    model: str = "recorded",
    model_seeds: int = 3,
    record: str = "",
) -> dict[str, dict[str, object]]:
    """A row for each rule: the figures of the first scenario, and those of each other one under its name.

    Each figure is a mean with its 95 % bootstrap interval beside it; `less_than_oort_per_turn` has the paired differences to
    the rule to beat. Rows of agents: `agentic` decides by rule, `agentic-model` asks a model whose seconds and tokens are
    charged, `agentic-written` follows a policy that was written by hand for the scenario `policy`.

    Args:
        seeds: for all rows but the model's.
        data: folder with real device speeds; empty: they are drawn.
        scenarios: names of them.
        rules: names of rows.
        settings: for the model.
        model: `recorded`, `embedded` or an endpoint's address.
        model_seeds: for the model's row, the first of the others' seeds.
        record: file that the model's exchanges are added to.
    """
    found: dict[str, dict[str, object]] = {rule: {} for rule in rules}
    for place, scenario in enumerate(scenarios):
        runs: dict[str, tuple[list[Outing], str]] = {}
        for rule in rules:
            count = _count(rule, scenario, seeds, RECORDED_SEEDS[scenario] if model == "recorded" else model_seeds)
            if count:
                runs[rule] = asyncio.run(_outings(rule, scenario, count, data, settings, model, record))
        best = runs[BEST][0] if BEST in runs else None
        for rule, (outings, decided) in runs.items():
            row = {**_row(outings, None if rule == BEST else best), "decided_by": decided, "speeds": speeds(data, 0)[1]}
            found[rule] |= row if place == 0 else {scenario: row}
    return found


def _count(rule: str, scenario: str, seeds: int, by_model: int) -> int:
    """Seeds of a row; none where it makes no sense or nothing was recorded."""
    if rule == "agentic-written":
        return seeds if scenario == "policy" else 0
    return min(seeds, by_model) if rule == "agentic-model" else seeds


async def _outings(
    rule: str, scenario: str, seeds: int, data: str, settings: Settings, model: str, record: str
) -> tuple[list[Outing], str]:
    taken = range(FIRST_SEED, FIRST_SEED + seeds)
    asked = {"agentic-model": model, "agentic-written": "written"}.get(rule)
    if asked is None:
        return [await outing(rule, scenario, seed, data=data) for seed in taken], "a fixed rule; no model"
    async with deciding(asked, settings, record=record) as decider:
        try:
            runs = [await outing(rule, scenario, seed, data=data, model=decider) for seed in taken]
        except UnknownPrompt as error:
            raise BadInput(f"{error}; the recording is of devices' speeds in FOA_DATA, and of this code") from error
        return runs, decider.name


def _row(outings: Sequence[Outing], best: Sequence[Outing] | None) -> dict[str, object]:
    row: dict[str, object] = {}
    for name in FIGURES:
        mean, *around = interval([getattr(one, name) for one in outings])
        row |= {name: mean, f"{name}_interval": around}
    if best is not None:
        row["less_than_oort_per_turn"] = {
            name: interval([getattr(a, name) - getattr(b, name) for a, b in zip(outings, best, strict=False)])
            for name in FIGURES
        }
    return row | {
        "seeds": [FIRST_SEED, FIRST_SEED + len(outings) - 1],
        "reached": sum(one.reached for one in outings),
        **{
            name: _mean([getattr(one, name) for one in outings])
            for name in ("mean_k", "records", "decision_seconds", "tokens", "by_model", "night_broken", "weekday_broken")
        },
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)
