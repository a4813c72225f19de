"""A small, ordinary Flower app for tests, in numpy: linear regression. It knows nothing of this project."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

#: What a guardian may change, and by which key the app would hear it.
KEYS = {"epochs": "local-epochs", "noise_multiplier": "noise", "steps": "steps", "batch": "batch"}


def data(partition: int) -> tuple[np.ndarray, np.ndarray]:
    """Twenty points of y = x · (2, −1) with noise that differs between partitions."""
    rng = np.random.default_rng(partition)
    x = rng.normal(size=(20, 2))
    return x, x @ np.array([2.0, -1.0]) + rng.normal(scale=0.1, size=20)


def start() -> ArrayRecord:
    """The model before training."""
    return ArrayRecord({"w": Array(np.zeros(2, np.float32))})


def config(**values: float | int) -> ConfigRecord:
    """What the app reads."""
    return ConfigRecord({"local-epochs": 5, "lr": 0.1, **values})


def make_app(**given: object) -> ClientApp:
    """The app, with whatever mods a test wants."""
    app = ClientApp(**given)  # type: ignore[arg-type]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        w = message.content["arrays"]["w"].numpy().astype(np.float64)
        x, y = data(int(context.node_config["partition-id"]))
        loss = float(np.mean((x @ w - y) ** 2))
        rounds = int(context.state["seen"]["rounds"]) if "seen" in context.state else 0
        context.state["seen"] = ConfigRecord({"rounds": rounds + 1})
        for _ in range(int(message.content["config"]["local-epochs"])):
            w -= float(message.content["config"]["lr"]) * 2 * x.T @ (x @ w - y) / len(y)
        metrics = MetricRecord({"num-examples": len(y), "loss": loss})
        arrays = ArrayRecord({"w": Array(w.astype(np.float32))})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        w = message.content["arrays"]["w"].numpy()
        x, y = data(int(context.node_config["partition-id"]))
        close = float(np.mean(np.abs(x @ w - y) < 0.5))
        metrics = MetricRecord({"num-examples": len(y), "accuracy": close})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app
