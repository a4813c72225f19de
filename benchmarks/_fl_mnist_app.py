"""An ordinary Flower app on MNIST-5k, and a strategy that draws the same partitions on every Grid."""

import random
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from benchmarks._fl_digits import measure, mnist, shared, start, train

CLIENTS, K, ROUNDS, ALPHA = 100, 10, 10, 0.5

app = ClientApp()


def _weights(message: Message) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in message.content["arrays"].items()}


def _part(context: Context) -> tuple[int, np.ndarray]:
    number = int(context.node_config["partition-id"])
    return number, shared(CLIENTS, ALPHA, 0)[0][number]


@app.query()
def who(message: Message, context: Context) -> Message:
    """Which partition this node has."""
    return Message(RecordDict({"metrics": MetricRecord({"partition": _part(context)[0]})}), reply_to=message)


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Two epochs."""
    (x, y), (number, part) = mnist(), _part(context)
    seed = int(message.content["config"]["server-round"]) * 1000 + number
    new = train(_weights(message), x[part], y[part], epochs=2, seed=seed)
    arrays = ArrayRecord({name: Array(array) for name, array in new.items()})
    metrics = MetricRecord({"num-examples": len(part), "partition": number})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """On its own records."""
    (x, y), (number, part) = mnist(), _part(context)
    loss, accuracy = measure(_weights(message), x[part], y[part])
    metrics = MetricRecord({"num-examples": len(part), "loss": loss, "accuracy": accuracy, "partition": number})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


class SameEverywhere(FedAvg):
    """FedAvg over partitions drawn by a seed, added up in their order."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[int, int] = {}
        self._random = random.Random(7)

    def _messages(self, partitions: Iterable[int], record: RecordDict, kind: str) -> list[Message]:
        return [Message(record, self._nodes[number], kind) for number in sorted(partitions)]

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> list[Message]:
        """Ten partitions."""
        if not self._nodes:
            asks = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
            for reply in grid.send_and_receive(asks, timeout=120):
                self._nodes[int(reply.content["metrics"]["partition"])] = reply.metadata.src_node_id
        config["server-round"] = server_round
        record = RecordDict({"arrays": arrays, "config": config})
        return self._messages(self._random.sample(sorted(self._nodes), K), record, "train")

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> list[Message]:
        """Everybody."""
        return self._messages(self._nodes, RecordDict({"arrays": arrays, "config": config}), "evaluate")

    def aggregate_train(self, server_round: int, replies: Iterable[Message]):
        """In the order of partitions."""
        return super().aggregate_train(server_round, _ordered(replies))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]):
        """In the order of partitions."""
        return super().aggregate_evaluate(server_round, _ordered(replies))


def _ordered(replies: Iterable[Message]) -> list[Message]:
    return sorted(replies, key=lambda reply: reply.content["metrics"]["partition"])


def begin() -> ArrayRecord:
    """The model before training."""
    return ArrayRecord({name: Array(array) for name, array in start(0).items()})


def lead(grid: Grid) -> list[tuple[float, float]]:
    """All rounds; (loss, accuracy) of each."""
    result = SameEverywhere().start(grid, begin(), num_rounds=ROUNDS, timeout=120)
    return [(float(record["loss"]), float(record["accuracy"])) for record in result.evaluate_metrics_clientapp.values()]
