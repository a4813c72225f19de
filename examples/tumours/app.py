"""Breast tumours as an ordinary Flower app in numpy: logistic regression on the Wisconsin data, four hospitals."""

from functools import lru_cache

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from sklearn.datasets import load_breast_cancer

from foa.fl.aggregate import Arrays

SEED = 11
SIZES = (150, 150, 150, 75)  #: records of the hospitals; the rest is held out for the server
MIXED_UP = 1 / 3  #: share of wrong labels in the training data of the last hospital
LEARNING_RATE = 0.5

Part = tuple[np.ndarray, np.ndarray]


@lru_cache(maxsize=1)
def data() -> Part:
    """Features with mean 0 and deviation 1, and labels, shuffled: 569 records, 1 is benign."""
    raw = load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(raw.target))
    x = (raw.data - raw.data.mean(axis=0)) / raw.data.std(axis=0)
    return x[order], raw.target[order].astype(float)


def hospital(number: int) -> tuple[Part, Part]:
    """One hospital's records for training, and a fifth of them for testing."""
    x, y = data()
    begin = sum(SIZES[:number])
    x, y = x[begin : begin + SIZES[number]], y[begin : begin + SIZES[number]].copy()
    cut = len(y) // 5
    if number == len(SIZES) - 1:
        wrong = np.random.default_rng(SEED).random(len(y)) < MIXED_UP
        wrong[:cut] = False  # what it tests on is right
        y[wrong] = 1 - y[wrong]
    return (x[cut:], y[cut:]), (x[:cut], y[:cut])


def likely(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """How likely each record is benign; the last weight is the bias."""
    return 1 / (1 + np.exp(-np.clip(x @ w[:-1] + w[-1], -30, 30)))


def loss_of(part: Part, w: np.ndarray) -> float:
    """Mean cross-entropy."""
    x, y = part
    p = np.clip(likely(x, w), 1e-6, 1 - 1e-6)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Some epochs of gradient descent on this hospital's records."""
    (x, y), _ = hospital(int(context.node_config["partition-id"]))
    w = message.content["arrays"]["w"].numpy().astype(float)
    before = loss_of((x, y), w)
    for _ in range(int(message.content["config"]["local-epochs"])):
        wrong = likely(x, w) - y
        w -= LEARNING_RATE * np.append(x.T @ wrong, wrong.sum()) / len(y)
    metrics = MetricRecord({"num-examples": len(y), "loss": before})
    content = RecordDict({"arrays": ArrayRecord({"w": Array(w.astype(np.float32))}), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Share of this hospital's test records that the model gets right."""
    _, (x, y) = hospital(int(context.node_config["partition-id"]))
    right = (likely(x, message.content["arrays"]["w"].numpy()) > 0.5) == (y > 0.5)
    metrics = MetricRecord({"num-examples": len(y), "accuracy": float(right.mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def strategy() -> Strategy:
    """Plain averaging; the server agent decides the rest."""
    return FedAvg(fraction_train=1.0, min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


def arrays() -> ArrayRecord:
    """The model before training."""
    return ArrayRecord({"w": Array(np.zeros(31, np.float32))})


def config() -> ConfigRecord:
    """What the app reads."""
    return ConfigRecord({"local-epochs": 5})


def validate(found: Arrays) -> float:
    """Loss on the records that no hospital has."""
    x, y = data()
    held = sum(SIZES)
    return loss_of((x[held:], y[held:]), np.asarray(found["w"], dtype=float))
