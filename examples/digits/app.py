"""Digits as an ordinary Flower app: softmax regression, devices with uneven data (Dirichlet 0.3) and uneven hardware."""

from functools import lru_cache

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from sklearn.datasets import load_digits
from torch import Tensor, nn

from foa.fl.aggregate import Arrays
from foa.fl.dpsgd import train_privately
from foa.fl.guardian import Limits, Terms
from foa.fl.project import SiteSpec

torch.set_num_threads(1)

SEED = 7
Part = tuple[Tensor, Tensor, Tensor, Tensor]


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training features and labels, and 300 held out for the server."""
    raw = load_digits()
    x, y = torch.tensor(raw.data / 16, dtype=torch.float32), torch.tensor(raw.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
    return x[order[300:]], y[order[300:]], x[order[:300]], y[order[:300]]


@lru_cache(maxsize=4)
def partitions(clients: int) -> tuple[np.ndarray, ...]:
    """Indexes of each client's records: every class is shared out by a Dirichlet draw, and everybody has eight at least."""
    labels, rng = digits()[1].numpy(), np.random.default_rng(SEED)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in range(10):
        indexes = rng.permutation(np.flatnonzero(labels == label))
        cuts = (np.cumsum(rng.dirichlet([0.3] * clients)) * len(indexes)).astype(int)[:-1]
        for part, share in zip(parts, np.split(indexes, cuts), strict=True):
            part.extend(share.tolist())
    for part in parts:
        while len(part) < 8:
            richest = max(parts, key=len)
            part.append(richest.pop())
    return tuple(np.array(part) for part in parts)


def part_of(number: int, clients: int) -> Part:
    """One client's data, four fifths of it for training."""
    x, y, _, _ = digits()
    chosen = partitions(clients)[number]
    cut = max(2, len(chosen) // 5)
    return x[chosen[cut:]], y[chosen[cut:]], x[chosen[:cut]], y[chosen[:cut]]


class Model(nn.Module):
    """Softmax regression: few weights, so that noise for privacy has few places to go."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the ten digits."""
        return self.linear(x)


def _received(message: Message) -> Model:
    model = Model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model


def _part(context: Context) -> Part:
    return part_of(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A few epochs of SGD, or noisy steps where the terms ask for noise."""
    x, y, _, _ = _part(context)
    config, model, loss = message.content["config"], _received(message), nn.CrossEntropyLoss()
    with torch.no_grad():
        before = float(loss(model(x), y))
    steps, batch = int(config["steps"]), int(config["batch"])
    if float(config["noise"]) > 0:
        terms = Terms(
            epochs=1,
            steps=steps,
            width=1.0,
            batch=batch,
            noise_multiplier=float(config["noise"]),
            clip=float(config["clip"]),
        )
        train_privately(model, loss, x, y, terms, learning_rate=0.1)
    else:
        order = torch.Generator().manual_seed(int(config["server-round"]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        batches = [
            chosen
            for _ in range(int(config["local-epochs"]))
            for chosen in torch.randperm(len(x), generator=order).split(batch)
        ]
        for chosen in batches[:steps]:
            optimizer.zero_grad()
            loss(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    metrics = MetricRecord({"num-examples": len(x), "loss": before})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Accuracy on the client's own held-out fifth."""
    _, _, x, y = _part(context)
    with torch.no_grad():
        right = _received(message)(x).argmax(dim=1) == y
    metrics = MetricRecord({"num-examples": len(x), "accuracy": float(right.float().mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def validate(weights: Arrays) -> float:
    """Loss on the server's 300 records."""
    _, _, x, y = digits()
    model = Model()
    model.load_state_dict({name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()})
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y))


def strategy() -> Strategy:
    """Plain averaging."""
    return FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


def arrays(seed: int = SEED) -> ArrayRecord:
    """The model before training."""
    torch.manual_seed(seed)
    return ArrayRecord(Model().state_dict())


def config() -> ConfigRecord:
    """What `train` reads."""
    return ConfigRecord({"local-epochs": 2, "steps": 30, "batch": 16, "noise": 0.0, "clip": 1.0})


def sites(clients: int) -> list[SiteSpec]:
    """Devices: a third are slow, a few run on battery."""
    rng = np.random.default_rng(SEED)
    found: list[SiteSpec] = []
    for number in range(clients):
        found.append(
            SiteSpec(
                name=f"phone-{number:03}",
                partition=number,
                records=len(part_of(number, clients)[0]),
                seconds_a_step=float(rng.choice([0.001, 0.002, 0.01])),
                battery=float(rng.uniform(0.25, 1.0)),
                plugged=bool(rng.random() < 0.7),
                limits=Limits(epochs_max=int(rng.choice([1, 2, 3]))),
            )
        )
    return found
