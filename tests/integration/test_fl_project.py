"""From a project's folder to its report, through the command line."""

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from foa.cli import fl
from foa.errors import BadInput
from foa.fl.dpsgd import train_privately
from foa.fl.guardian import Terms
from foa.fl.project import App, Project, read_project

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TERMS = Terms(epochs=1, steps=20, width=1.0, batch=4, noise_multiplier=1.0, clip=1.0)


def command(*arguments: str) -> dict[str, object]:
    app = typer.Typer(pretty_exceptions_enable=False)
    fl.attach(app, "federated learning")
    done = CliRunner().invoke(app, ["fl", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def digits(tmp_path: Path, *more: str, rounds: str = "2") -> dict[str, object]:
    fixed = ["--clients", "6", "--no-model", "--json", "--name", "t1", "--set", f"FOA_STATE_DIR={tmp_path}"]
    return command("run", str(EXAMPLES / "digits"), *fixed, "--rounds", rounds, *more)


def test_a_run_writes_its_report_with_plots_decisions_and_raw_figures(tmp_path: Path) -> None:
    done = digits(tmp_path)
    page = Path(str(done["report"]))
    assert page.is_file()
    html = page.read_text()
    # nobody keeps a ledger and nobody is paid: a plot of neither would be empty
    assert html.count("data:image/png;base64,") == 2
    assert "deadline 1.5" in html
    assert {path.name for path in page.parent.glob("*.png")} == {
        "accuracy.png",
        "participation.png",
    }
    assert json.loads((page.parent / "rounds.json").read_text()) == done["rounds"]


def test_the_same_name_goes_on_where_the_run_ended(tmp_path: Path) -> None:
    first = digits(tmp_path, rounds="1")
    again = digits(tmp_path, rounds="2")
    assert again["rounds"][0] == first["rounds"][0]  # type: ignore[index]
    assert [row["round"] for row in again["rounds"]] == [1, 2]  # type: ignore[index,union-attr]


def test_a_privacy_budget_makes_every_site_train_with_noise_within_it(tmp_path: Path) -> None:
    done = digits(tmp_path, "--privacy", "eps=4")
    told = [client["told"] for row in done["rounds"] for client in row["clients"] if client["told"]]  # type: ignore[union-attr]
    assert told
    assert all(one["noise_multiplier"] >= 0.5 and 0 <= one["epsilon_left"] <= 4 for one in told)
    assert len(list((tmp_path / "fl" / "t1").glob("ledger-*.db"))) == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--selector", "magic"], "no selector is called 'magic'"),
        (["--privacy", "4"], "write --privacy eps=4"),
        (["--privacy", "eps=-1"], "above 0"),
        (["--name", "a/b"], "run id"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    with pytest.raises((BadInput, ValueError), match=says):
        digits(tmp_path, *arguments)


def test_every_example_can_be_read() -> None:
    for folder in ("hospitals", "digits"):
        project = read_project(EXAMPLES / folder)
        assert project.rounds >= 1
        assert App(EXAMPLES / folder, project).sites(project, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rounds = ", "not TOML"),
        ("rouns = 3", "no key 'rouns'"),
        ("rounds = 0", "rounds"),
        ('app = "../../evil.py"', "app"),
        ("[terms]\nepochs = 1", "terms"),
        ('[[sites]]\nname = "a/b"', "name"),
        ("[bounds]\nk_min = 9\nk_max = 2", "k_min"),
    ],
)
def test_a_project_file_that_does_not_fit_is_refused_with_its_reason(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "FL.toml").write_text(text)
    with pytest.raises(BadInput, match=says):
        read_project(tmp_path)


def test_a_folder_without_a_project_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"FL\.toml and a Flower app"):
        read_project(tmp_path)


def test_an_app_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("app = None\n")
    with pytest.raises(BadInput, match="strategy"):
        App(tmp_path, Project())


def model() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def train(seed: int | None, noise: float = 1.0, records: int = 12) -> torch.Tensor:
    net, draw = model(), torch.Generator().manual_seed(1)
    x, y = torch.randn(records, 3, generator=draw), torch.randn(records, 1, generator=draw)
    terms = Terms(epochs=1, steps=20, width=1.0, batch=4, noise_multiplier=noise, clip=1.0)
    train_privately(net, torch.nn.functional.mse_loss, x, y, terms, learning_rate=0.1, seed=seed)
    return net.weight.detach()


def test_private_training_repeats_itself_for_a_seed_and_for_nothing_else() -> None:
    assert torch.equal(train(3), train(3))
    # `train` seeds torch's global generator each time, as an app may: the noise must not come from there
    assert not torch.equal(train(None), train(None))


def test_private_training_moves_by_no_more_than_clip_and_noise_allow() -> None:
    # 20 steps of 0.1: the clipped mean is at most (records in the batch / 4) long, the noise σ·C/4 = 0.25 a step
    assert float((train(3, noise=0.001) - model().weight.detach()).norm()) < 20 * 0.1 * 12 / 4


def test_private_training_with_one_record_survives_empty_batches() -> None:
    assert torch.isfinite(train(5, records=1)).all()


def test_private_training_refuses_to_be_without_noise() -> None:
    with pytest.raises(ValueError, match="noise multiplier above 0"):
        train(1, noise=0.0)
