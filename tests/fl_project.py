"""A project folder for tests: three sites, linear regression in numpy, whose training a test can hold at one round.

hold(folder, round) ─► site-0 writes `in-round` when it trains that round, and waits until `go` is there
"""

from pathlib import Path

FL_TOML = """
name = "lines"
rounds = {rounds}
k = 3
purpose = "lines"
description = "Trains a model of straight lines on the data of three sites by federated learning."
credit = true
{more}

[terms]
epochs = 5
steps = 50
width = 1.0
batch = 4
noise_multiplier = {noise}
clip = 1.0

[keys]
epochs = "local-epochs"
noise_multiplier = "noise"
steps = "steps"
batch = "batch"

[bounds]
k_min = 1
k_max = 3
deadline_min_seconds = 60.0
deadline_max_seconds = 60.0
aggregations = ["fedavg"]
{privacy}
[[sites]]
name = "site-0"
partition = 0
records = 2000

[[sites]]
name = "site-1"
partition = 1
records = 2000

[[sites]]
name = "site-2"
partition = 2
records = 2000
"""
PRIVACY = "\n[privacy]\nepsilon = 4.0\ndelta = 1e-5\n"

APP = """
import time
from pathlib import Path

import numpy as np
from flwr.serverapp.strategy import FedAvg

from tests import fl_app

FOLDER = Path(__file__).parent
app = None


def held(message, context, going_on):
    number = int(message.content["config"]["server-round"]) if "config" in message.content else 0
    place = FOLDER / "hold"
    if message.metadata.message_type == "train" and int(context.node_config["partition-id"]) == 0 and place.exists():
        if int(place.read_text()) == number and not (FOLDER / "go").exists():
            (FOLDER / "in-round").write_text(str(number))
            for _ in range(1200):
                if (FOLDER / "go").exists():
                    break
                time.sleep(0.05)  # in a process of Flower's, which nothing but a file tells to go on
    return going_on(message, context)


app = fl_app.make_app(mods=[held])


def strategy():
    return FedAvg(fraction_train=1.0, min_available_nodes=1, min_train_nodes=1, min_evaluate_nodes=1)


def arrays():
    return fl_app.start()


def config():
    return fl_app.config()


def validate(found):
    x, y = fl_app.data(99)
    return float(np.mean((x @ np.asarray(found["w"], dtype=float) - y) ** 2))
"""


def make_project(folder: Path, *, rounds: int = 2, private: bool = False, more: str = "") -> Path:
    """Write it; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    noise, privacy = (1.5, PRIVACY) if private else (0.0, "")
    (folder / "FL.toml").write_text(FL_TOML.format(rounds=rounds, noise=noise, privacy=privacy, more=more))
    (folder / "app.py").write_text(APP)
    return folder


def hold(folder: Path, number: int) -> None:
    """Let site-0 stop in this round."""
    (folder / "hold").write_text(str(number))


def is_held(folder: Path) -> bool:
    """Whether it stands in the round."""
    return (folder / "in-round").exists()


def release(folder: Path) -> None:
    """Let it go on."""
    (folder / "go").write_text("")
