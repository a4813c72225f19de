"""Poisoned clients under each rule of aggregation: how far accuracy falls below that of a clean run.

Small images (14 × 14) and a small network, trained for all clients at once, so that twenty seeds take minutes.
All clients train in every round, with equal work; the poisoned ones train, too, and send something else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks._fl_digits import mnist, shared
from foa.errors import BadInput
from foa.fl.aggregate import AGGREGATIONS, Arrays, Update, fltrust, multikrum, trimmed_mean
from foa.fl.sift import sift
from foa.values.ids import AgentId

CLIENTS, STEPS, BATCH, RATE, HIDDEN, SIDE, ALPHA = 20, 20, 16, 0.1, 32, 14, 0.5
ROUNDS = 21  #: odd: an even number of flips of all weights would undo itself
OWN = 100  #: clean records that the server holds, for FLTrust alone
NAMES = [AgentId(f"c{i:02}") for i in range(CLIENTS)]
Float = NDArray[np.float32]
Rule = Callable[[Arrays, Sequence[Update], Arrays], Arrays]  #: the last model, the updates, the server's own update
Attack = Callable[[Float, Float, Float], Float]  #: (before, after, after of all honest) ─► what is sent instead

ATTACKS: Mapping[str, Attack] = {
    "weights × −20": lambda before, after, honest: -20 * after,
    "step × −5": lambda before, after, honest: before - 5 * (after - before),
    # Baruch et al., "A little is enough", NeurIPS 2019: within the spread of the honest, so that it does not stand out
    "a little": lambda before, after, honest: honest.mean(axis=0) - LITTLE * honest.std(axis=0),
}
LITTLE = 1.0  #: standard deviations


def _screened(named: str) -> Rule:
    return lambda base, rows, own: sift(base, rows, rule=named, validate=None, losses=()).model


RULES: Mapping[str, Rule] = {
    **{name: lambda base, rows, own, rule=rule: rule(base, rows) for name, rule in AGGREGATIONS.items()},
    # it must cut more than there may be poisoned ones
    "trimmed-mean": lambda base, rows, own: trimmed_mean(base, rows, share=0.45),
    "multikrum without mixing": lambda base, rows, own: multikrum(base, rows, mix=False),
    "fltrust": lambda base, rows, own: fltrust(base, rows, trusted=own),
    "screen+multikrum": _screened("multikrum"),
}


@lru_cache(maxsize=1)
def _images() -> tuple[Float, NDArray[np.int64]]:
    x, y = mnist()
    small = x.reshape(-1, SIDE, 28 // SIDE, SIDE, 28 // SIDE).mean(axis=(2, 4))
    return np.ascontiguousarray(small.reshape(len(x), -1), np.float32), y


def _start(seed: int) -> dict[str, Float]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (SIDE**2, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 10), "b2": (10,)}
    return {
        name: rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(shape[0] ** 0.5) for name, shape in shapes.items()
    }


def _trained(model: Arrays, parts: Sequence[NDArray[np.int64]], rng: np.random.Generator) -> dict[str, Float]:
    """Every client's model after its steps; the first axis is the client's."""
    x, y = _images()
    n = len(parts)
    w1, b1, w2, b2 = (np.repeat(np.asarray(model[name], np.float32)[None], n, axis=0) for name in ("w1", "b1", "w2", "b2"))
    b1, b2 = b1[:, None], b2[:, None]
    drawn = np.stack([rng.choice(part, (STEPS, BATCH)) for part in parts], axis=1)
    truth = np.eye(10, dtype=np.float32)
    for index in drawn:
        images = x[index]
        hidden = np.maximum(images @ w1 + b1, 0)
        out = hidden @ w2 + b2
        out = np.exp(out - out.max(axis=2, keepdims=True))
        slope = (out / out.sum(axis=2, keepdims=True) - truth[y[index]]) / BATCH
        back = (slope @ w2.transpose(0, 2, 1)) * (hidden > 0)
        w2 -= RATE * (hidden.transpose(0, 2, 1) @ slope)
        b2 -= RATE * slope.sum(axis=1, keepdims=True)
        w1 -= RATE * (images.transpose(0, 2, 1) @ back)
        b1 -= RATE * back.sum(axis=1, keepdims=True)
    return {"w1": w1, "b1": b1[:, 0], "w2": w2, "b2": b2[:, 0]}


def _accuracy(model: Arrays, index: NDArray[np.int64]) -> float:
    x, y = _images()
    out = np.maximum(x[index] @ model["w1"] + model["b1"], 0) @ model["w2"] + model["b2"]
    return float((np.nan_to_num(out).argmax(axis=1) == y[index]).mean())


@np.errstate(over="ignore", invalid="ignore")  # a model that a plain mean lets grow overflows on its way
def poisoned(rule: str, share: float, attack: str, seed: int) -> float:
    """Accuracy after the last round with this share of the clients poisoned."""
    parts, test = shared(CLIENTS, ALPHA, seed)
    own, test = test[:OWN], test[OWN:]
    rng, bad = np.random.default_rng((seed, 5)), round(share * CLIENTS)
    model: Arrays = _start(seed)
    for _ in range(ROUNDS):
        after = _trained(model, (*parts, own), rng)
        local = [{name: array[i] for name, array in after.items()} for i in range(CLIENTS + 1)]
        for i in range(bad):
            local[i] = {
                name: ATTACKS[attack](np.asarray(model[name]), array, after[name][bad:CLIENTS])
                for name, array in local[i].items()
            }
        updates = [
            Update(client=name, arrays=arrays, samples=len(part))
            for name, arrays, part in zip(NAMES, local, parts, strict=False)
        ]
        try:
            model = RULES[rule](model, updates, local[CLIENTS])
        except BadInput:  # the model went out of all bounds, and stays as it is
            break
    return _accuracy(model, test)


def medians(values: Sequence[float]) -> list[float]:
    """Median, and its 95 % bootstrap interval."""
    array = np.asarray(values, float)
    drawn = np.median(np.random.default_rng(0).choice(array, (2000, len(array))), axis=1)
    return [round(float(value), 4) for value in (np.median(array), *np.percentile(drawn, (2.5, 97.5)))]


def robust(seeds: int, *, shares: Sequence[float], first_seed: int = 0) -> dict[str, object]:
    """A row for each rule: accuracy without poison, and with each share poisoned under the worst of three attacks.

    Each figure is the median over seeds with its 95 % bootstrap interval; `below_clean` is the paired fall below FedAvg
    without poison.
    """
    taken = range(first_seed, first_seed + seeds)
    attacks = tuple(ATTACKS)
    clean = {rule: [poisoned(rule, 0.0, attacks[0], seed) for seed in taken] for rule in RULES}
    rows: dict[str, object] = {}
    for rule in RULES:
        row: dict[str, object] = {"clean": medians(clean[rule]), "seeds": seeds}
        for share in shares:
            runs = {attack: [poisoned(rule, share, attack, seed) for seed in taken] for attack in attacks}
            worst = min(runs, key=lambda attack: float(np.median(runs[attack])))
            fall = [a - b for a, b in zip(clean["fedavg"], runs[worst], strict=True)]
            row[f"poisoned_{share * 100:.0f}"] = {
                "accuracy": medians(runs[worst]),
                "below_clean": medians(fall),
                "worst_attack": worst,
                "by_attack": {attack: medians(values) for attack, values in runs.items()},
            }
        rows[rule] = row
    return rows
