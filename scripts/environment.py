"""Create or mend `.venv` from requirements.lock, and with `fl` from requirements-fl.lock too (federated learning: torch).

    hold .venv.lock ─► stamp equals the lock? done
                       └─► make the environment ─► install by hash ─► install foa itself ─► write the stamp

A stamp (`.venv/foa.lock`, a copy of the lock) is written last, so a set-up that was interrupted is taken up again by the
next call. The kernel lets go of `.venv.lock` when its holder dies, so nothing stale can stand in the way. Standard library
only; all output goes to stderr.
"""

import fcntl
import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "foa.lock"
FL_LOCK = ROOT / "requirements-fl.lock"
FL_STAMP = VENV / "foa-fl.lock"
PYTHON = VENV / "bin" / "python"


def main(parts: Sequence[str]) -> int:
    """Set up once, whoever calls; 0 when `.venv` is ready."""
    with (ROOT / ".venv.lock").open("w") as holder:
        wait_for_turn(holder.fileno())
        began = time.monotonic()
        done = [is_ready(STAMP, LOCK) or set_up(), "fl" not in parts or is_ready(FL_STAMP, FL_LOCK) or add_fl()]
        if not all(done):
            say("the environment could not be set up; what went wrong stands above, and the next call tries again")
            return 1
        if time.monotonic() - began > 1:
            say(f"ready after {time.monotonic() - began:.0f} s")
        return 0


def set_up() -> bool:
    """Everything but federated learning."""
    say(f"setting up {VENV} (the first time takes a minute or two)")
    FL_STAMP.unlink(missing_ok=True)
    uv = shutil.which("uv")
    if not ((uv and install_with_uv(uv)) or install_with_pip()):
        return False
    shutil.copyfile(LOCK, STAMP)
    return True


def add_fl() -> bool:
    """What federated learning needs. With pip: uv does not look where a machine may keep its CPU build of torch."""
    say("adding what federated learning needs (torch and Flower; this takes a minute or more)")
    if not works("pip") and not run([str(PYTHON), "-m", "ensurepip"]):
        return False
    if not run([*pip_install(), "-r", str(FL_LOCK)]):
        return False
    shutil.copyfile(FL_LOCK, FL_STAMP)
    return True


def wait_for_turn(descriptor: int) -> None:
    """Hold the lock file; say so when somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another process is setting up .venv: waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_ready(stamp: Path, lock: Path) -> bool:
    """Whether `.venv` was set up from exactly this lock."""
    return stamp.exists() and PYTHON.exists() and filecmp.cmp(stamp, lock, shallow=False)


def install_with_uv(uv: str) -> bool:
    """The quick way. False: it did not work, and pip should try."""
    made = works() or run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
    pip = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    return made and run([*pip, "--require-hashes", "-r", str(LOCK)]) and run([*pip, *foa_itself()])


def install_with_pip() -> bool:
    """The way that needs nothing but Python."""
    if not works("pip") and not run([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        say("Python could not make a virtual environment: on Debian and Ubuntu, `apt-get install python3-venv`")
        return False
    pip = pip_install()
    return run([*pip, "--require-hashes", "-r", str(LOCK)]) and run([*pip, *foa_itself()])


def pip_install() -> list[str]:
    """The beginning of every pip call."""
    return [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]


def foa_itself() -> Sequence[str]:
    """Arguments that install this checkout; its build tools come from the lock too."""
    return ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]


def works(module: str = "sys") -> bool:
    """Whether `.venv` has a Python that starts, is recent enough and has this module."""
    check = f"import sys, {module}; sys.exit(sys.version_info < (3, 11))"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0


def run(command: Sequence[str]) -> bool:
    """Run it with its output on our stderr."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(command, stdout=sys.stderr, env=environment).returncode == 0


def say(text: str) -> None:
    """Tell the person in front of the terminal; stdout belongs to the command that asked for us."""
    print(f"foa: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
