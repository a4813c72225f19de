"""From the updates of a round to the next model: screen, aggregate, validate, credit. No I/O but what `validate` does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foa.errors import BadInput
from foa.fl.aggregate import AGGREGATIONS, RULES, Arrays, Update, fedavg, fltrust, heterofl
from foa.fl.credit import gtg_shapley
from foa.fl.screen import screen
from foa.fl.server import should_roll_back
from foa.values.ids import AgentId

#: Loss of a model on data that the server holds.
Validate = Callable[[Arrays], float]
#: The model after the server trained it on clean data of its own.
Trusted = Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sifted:
    """What became of a round's updates."""

    kept: tuple[Update, ...]
    suspects: Mapping[AgentId, str]  #: why each was set aside
    drift: bool  #: so many looked strange that none was
    model: Arrays  #: the next model by the rule; the base where nothing was kept
    robust: bool  #: the rule was another than the plain mean, so its result must stand for the clients' own models
    loss: float | None  #: of the next model; None: nobody validates, or nothing was kept
    taken: bool  #: False: the next model is no improvement to keep, or there is none


def sift(
    base: Arrays,
    updates: Sequence[Update],
    *,
    rule: str,
    validate: Validate | None,
    losses: Sequence[float],
    noised: bool = False,
    widths: bool = False,
    trusted: Trusted | None = None,
) -> Sifted:
    """Screen and aggregate one round.

    Args:
        base: the model that was trained from.
        updates: with capped sample counts.
        rule: one of `RULES`.
        validate: None: nothing is ever rolled back.
        losses: of the models that were taken before, oldest first.
        noised: clients added noise of their own; then nobody is a suspect by length or direction.
        widths: the run has mixed widths; where they differ HeteroFL takes the place of the rule. Without it an update of
            less width is unusable: one client must not switch a robust rule off.
        trusted: the server's own training, for `fltrust`.

    Raises:
        BadInput: there is no such rule, or nothing to trust.
    """
    if rule not in RULES or (rule == "fltrust" and trusted is None):
        raise BadInput(f"no aggregation is called {rule!r} here: use one of {', '.join(AGGREGATIONS)}")
    same = not widths or _same_shapes(base, updates)
    screened = screen(base, updates, same_shapes=same, noised=noised)
    kept = screened.kept
    if not kept:
        return Sifted(kept=(), suspects=screened.suspects, drift=False, model=base, robust=False, loss=None, taken=False)
    model = _aggregated(base, kept, rule, trusted) if same else heterofl(base, kept)
    loss = None if validate is None else float(validate(model))
    return Sifted(
        kept=kept,
        suspects=screened.suspects,
        drift=screened.drift,
        model=model,
        robust=rule != "fedavg" or not same,
        loss=loss,
        taken=loss is None or not should_roll_back(losses, loss),
    )


def _aggregated(base: Arrays, kept: Sequence[Update], rule: str, trusted: Trusted | None) -> Arrays:
    if trusted is not None and rule == "fltrust":
        return fltrust(base, kept, trusted=trusted(base))
    return AGGREGATIONS[rule](base, kept)


def _same_shapes(base: Arrays, updates: Sequence[Update]) -> bool:
    """False where widths are mixed: every update is some part of the model and one is a smaller part."""
    parts = [update for update in updates if _is_part(base, update)]
    return not any(update.arrays[name].shape != base[name].shape for update in parts for name in base)


def _is_part(base: Arrays, update: Update) -> bool:
    return set(update.arrays) == set(base) and all(
        array.ndim == base[name].ndim and all(a <= b for a, b in zip(array.shape, base[name].shape, strict=True))
        for name, array in update.arrays.items()
    )


def shares(base: Arrays, kept: Sequence[Update], validate: Validate, *, rng: np.random.Generator) -> dict[AgentId, float]:
    """What each client's update lowered the loss by, as Shapley values over plain means."""
    by_client = {update.client: update for update in kept}

    def worth(group: frozenset[AgentId]) -> float:
        return -float(validate(fedavg(base, [by_client[client] for client in sorted(group)]) if group else base))

    return gtg_shapley(sorted(by_client), worth, rng=rng)
