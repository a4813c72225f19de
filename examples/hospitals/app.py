"""Fed-Heart-Disease as an ordinary Flower app: logistic regression over four hospitals, after FLamby's protocol.

Source of the protocol (features, split, batch, steps): du Terrail et al., "FLamby", NeurIPS 2022. Data: UCI Heart Disease,
Janosi, Steinbrunn, Pfisterer and Detrano, 1989 (CC BY 4.0).
"""

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from foa.fl.dpsgd import train_privately
from foa.fl.guardian import Terms

torch.set_num_threads(1)

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
USED = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
CATEGORIES = ("cp", "restecg")
Part = tuple[Tensor, Tensor, Tensor, Tensor]  #: training features and labels, test features and labels


@lru_cache(maxsize=1)
def hospitals(folder: str) -> tuple[Part, ...]:
    """Every hospital's data, split 66 : 34 and scaled by its own training part.

    Args:
        folder: holds `fl_heart_disease/heart_disease_4centers.csv`.
    """
    path = Path(folder) / "fl_heart_disease" / "heart_disease_4centers.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] != "" for name in (*USED, "num"))]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in USED}
    plain = [columns[name] for name in USED if name not in CATEGORIES]
    # all but the first value of a category become a column each
    dummies = [columns[name] == value for name in CATEGORIES for value in np.unique(columns[name])[1:]]
    x = np.stack([*plain, *dummies], axis=1).astype(np.float32)
    y = np.array([float(row["num"]) != 0 for row in rows], np.float32)
    centre = np.array([row["center"] for row in rows])
    return tuple(_split(x[centre == name], y[centre == name]) for name in CENTRES)


def _split(x: np.ndarray, y: np.ndarray) -> Part:
    counts = np.unique(y, return_counts=True)[1]
    stratify = y if len(counts) > 1 and counts.min() > 2 else None
    train, test = train_test_split(
        np.arange(len(y)), test_size=1 - 0.66, train_size=0.66, random_state=43, stratify=stratify
    )
    train, test = np.sort(train), np.sort(test)
    mean, spread = x[train].mean(axis=0), x[train].std(axis=0, ddof=1) + 1e-9
    scaled = torch.from_numpy(((x - mean) / spread).astype(np.float32))
    labels = torch.from_numpy(y)[:, None]
    return scaled[train], labels[train], scaled[test], labels[test]


class Model(nn.Module):
    """Logistic regression on 13 features."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(13, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Probability of disease, shape (n, 1)."""
        return torch.sigmoid(self.linear(x))


def _received(message: Message) -> Model:
    model = Model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model


def _part(context: Context) -> Part:
    return hospitals(str(context.node_config["data"]))[int(context.node_config["partition-id"])]


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A hundred steps of SGD, with noise where the terms have some."""
    x, y, _, _ = _part(context)
    config, model = message.content["config"], _received(message)
    with torch.no_grad():
        before = float(nn.functional.binary_cross_entropy(model(x), y))
    if float(config["noise"]) > 0:
        terms = Terms(
            epochs=1,
            steps=int(config["updates"]),
            width=1.0,
            batch=int(config["batch"]),
            noise_multiplier=float(config["noise"]),
            clip=float(config["clip"]),
        )
        # of this site's own configuration, never the server's: who names the seed can take the noise off again
        told = context.node_config.get("benchmark-seed")
        seed = None if told is None else int(told) * 1000 + int(config["server-round"]) * 10
        train_privately(model, nn.BCELoss(), x, y, terms, learning_rate=float(config["lr-noisy"]), seed=seed)
    else:
        _train_plainly(model, x, y, config, int(context.node_config["partition-id"]))
    metrics = MetricRecord({"num-examples": len(x), "loss": before})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def _seed(config: ConfigRecord, context: Context) -> int:
    number = int(context.node_config["partition-id"])
    return int(config.get("benchmark-seed", 0)) * 1000 + int(config["server-round"]) * 10 + number


def _train_plainly(model: Model, x: Tensor, y: Tensor, config: ConfigRecord, seed: int) -> None:
    order = torch.Generator().manual_seed(seed)
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=float(config["lr"])), nn.BCELoss()
    batches: list[Tensor] = []
    for _ in range(int(config["updates"])):
        batches = batches or list(torch.randperm(len(x), generator=order).split(int(config["batch"])))
        chosen = batches.pop(0)
        optimizer.zero_grad()
        loss(model(x[chosen]), y[chosen]).backward()
        optimizer.step()


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Accuracy on the hospital's own test part."""
    _, _, x, y = _part(context)
    with torch.no_grad():
        right = (_received(message)(x) > 0.5).float() == y
    metrics = MetricRecord({"num-examples": len(x), "accuracy": float(right.float().mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def strategy() -> Strategy:
    """Plain averaging; any of Flower's strategies may stand here."""
    return FedAvg(min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


def arrays(seed: int = 42) -> ArrayRecord:
    """The model before training."""
    torch.manual_seed(seed)
    return ArrayRecord(Model().state_dict())


def config() -> ConfigRecord:
    """What `train` reads."""
    return ConfigRecord({"lr": 0.001, "lr-noisy": 0.05, "updates": 100, "batch": 4, "noise": 0.0, "clip": 1.0})
