"""The commands of a checkout: one set-up whoever calls, taken up again after an interruption, and quick afterwards."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


class Checkout:
    """A copy of `scripts/` with a lock, an environment of stand-ins, and a PATH of what the scripts need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        self.lock.write_text("something==1.0\n")
        self.bin = folder / "path"
        self.bin.mkdir()
        for command in ("bash", "cmp", "dirname", "env"):
            (self.bin / command).symlink_to(str(shutil.which(command)))

    @property
    def lock(self) -> Path:
        return self.folder / "requirements.lock"

    @property
    def stamp(self) -> Path:
        return self.folder / ".venv" / "foa.lock"

    @property
    def log(self) -> list[str]:
        """What the environment's Python was called with."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def has_environment(self, *, installs: bool = True) -> None:
        code = 0 if installs else 1
        noted = f'echo "$@" >> "{self.folder}/calls"'
        self.script(".venv/bin/python", f'{noted}; case "$*" in *install*) exit {code};; esac')
        self.script(".venv/bin/foa", 'echo "ran in $PWD with $*"')

    def script(self, name: str, body: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        path.chmod(0o755)

    def start(self, *command: str, python: str = sys.executable) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.folder / command[0]), *command[1:]],
            cwd=self.bin,
            env={"PATH": str(self.bin), "PYTHON": python, "HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, code: int = 0, python: str = sys.executable) -> tuple[str, str]:
        process = self.start(*command, python=python)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == code, err
        return out, err


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def test_a_ready_environment_is_used_at_once_from_where_the_user_is(checkout):
    checkout.has_environment()
    shutil.copyfile(checkout.lock, checkout.stamp)
    began = time.monotonic()
    out, err = checkout.run("scripts/foa", "ask", "two words")
    assert time.monotonic() - began < 2.0
    assert (out, err) == (f"ran in {checkout.bin} with ask two words\n", "")
    assert checkout.log == []


def test_a_changed_lock_sets_up_again_and_keeps_stdout_for_the_command(checkout):
    checkout.has_environment()
    checkout.stamp.write_text("something==0.9\n")
    out, err = checkout.run("scripts/foa", "--version")
    assert out == f"ran in {checkout.bin} with --version\n"
    assert "setting up" in err
    assert any("--require-hashes" in call for call in checkout.log)
    assert checkout.stamp.read_text() == checkout.lock.read_text()


def test_a_set_up_that_fails_is_told_and_tried_again_by_the_next_call(checkout):
    checkout.has_environment(installs=False)
    out, err = checkout.run("scripts/foa", "ask", code=1)
    assert out == ""
    assert "could not be set up" in err
    assert not checkout.stamp.exists()
    checkout.has_environment()
    assert checkout.run("scripts/foa", "ask")[0].startswith("ran in")


def test_a_second_set_up_waits_for_the_first_and_finds_its_work_done(checkout):
    checkout.has_environment()
    with (checkout.folder / ".venv.lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        second = checkout.start("scripts/environment")
        assert second.stderr is not None
        assert "another process is setting up" in second.stderr.readline()
        shutil.copyfile(checkout.lock, checkout.stamp)
    _, rest = second.communicate(timeout=SECONDS)
    assert (second.returncode, rest, checkout.log) == (0, "", [])


def test_an_old_python_is_told_what_is_needed(checkout):
    checkout.script("path/python3", 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi')
    _, err = checkout.run("scripts/foa", "ask", code=1, python="/nowhere/python")
    assert "needs Python 3.11 or later and found Python 3.9.2" in err


@pytest.fixture
def benchmarks(tmp_path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "echo.py").write_text(
        "def run(quick, agents=1, transport='memory'):\n"
        "    print('meanwhile')\n"
        "    figures = {'quick': quick, 'agents': agents, 'transport': transport}\n"
        "    return {'figures': figures, 'baseline': {}, 'repetitions': 3}\n"
    )
    return tmp_path / "scripts" / "bench.py"


def bench(script: Path, *arguments: str, code: int = 0) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=kept)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_benchmark_ends_with_one_json_line_of_the_one_form(benchmarks):
    last = bench(benchmarks, "echo", "--json", "--quick", "--agents", "100", "--transport=mqtt").splitlines()[-1]
    report = json.loads(last)
    assert list(report) == ["name", "machine", "repetitions", "figures", "baseline"]
    assert report["figures"] == {"quick": True, "agents": 100, "transport": "mqtt"}
    assert report["machine"].keys() == {"cpu", "cores", "python", "platform"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ecko"], "did you mean 'echo'?"),
        (["echo", "--agent", "3"], "did you mean 'agents'?"),
        (["echo", "3"], "'3' stands alone"),
        ([], "usage: scripts/bench NAME"),
    ],
)
def test_a_wrong_word_to_a_benchmark_is_told(benchmarks, arguments, words):
    assert words in bench(benchmarks, *arguments, code=2)


def test_the_lock_names_no_host():
    for name in ("requirements.lock", "requirements-fl.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "index-url" not in text


def test_every_locked_package_has_its_hashes():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if "==" in line and not line.lstrip().startswith(("#", "--"))]
    assert len(pinned) > 50
    assert all("--hash=sha256:" in lines[number + 1] for number in pinned)
