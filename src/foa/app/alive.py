"""Who is alive on this machine: a lock that the kernel lets go of when its process ends, however it ends.

held("agent-0")  while it serves: a second one of that name would push it off the broker
held("ask-1f3a") while it asks: what its journal calls running when nobody holds it was killed
"""

import fcntl
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from foa.agent_zero import owner_of
from foa.errors import BadInput, BadMessage, StoreFailed, Unreachable
from foa.job import Steps
from foa.ports import Journal
from foa.results import bill_of_steps
from foa.values import events
from foa.values.ids import JobId, check_id
from foa.values.result import Result

log = logging.getLogger(__name__)

#: How the names of Agent-0s begin that live as long as one question, and take up nothing.
PASSING = "ask-"
KILLED = "the process that ran it was killed; ask again"


@contextmanager
def held(state_dir: Path, name: str, *, taken: str = "") -> Generator[None]:
    """Hold an orchestrator's name on this machine while the block lasts.

    Args:
        state_dir: where names are held.
        name: the name.
        taken: what to say where another process holds it; by default that such an orchestrator runs already.

    Raises:
        BadInput: the name is no id, or is held already.
        StoreFailed: the folder cannot be written.
    """
    path = _path(state_dir, name)
    file = _open(path)
    try:
        if not _lock(file):
            raise BadInput(taken or f"an orchestrator called {name} runs here already: give this one another --id")
        try:
            yield
        finally:
            if name.startswith(PASSING):  # nobody else will ever have it
                path.unlink(missing_ok=True)
    finally:
        file.close()


def is_held(state_dir: Path, name: str) -> bool:
    """Whether a process of this machine holds the name. What a killed one left behind is removed."""
    path = _path(state_dir, name)
    if not path.exists():
        return False
    with _open(path) as file:
        if not _lock(file):
            return True
        path.unlink(missing_ok=True)
    return False


async def close_abandoned(journal: Journal, state_dir: Path, *, now: float) -> None:
    """End the jobs whose one-question Agent-0 was killed: nobody else takes them up, and an accepted job is answered.

    Args:
        journal: of this machine.
        state_dir: where the names are held.
        now: seconds since the epoch.

    Raises:
        StoreFailed: the journal or the folder cannot be read or written.
    """
    for row in await journal.jobs(status="running", limit=100_000):
        owner = await owner_of(journal, row.job)
        if not owner.startswith(PASSING) or is_held(state_dir, owner):
            continue
        steps = Steps(journal, row.job, _readable(journal, row.job, await journal.load(row.job)))
        bill = bill_of_steps(steps, seconds=now - row.created_at)
        result = Result(job_id=row.job, status="failed", answer="", bill=bill, error=KILLED, exit_code=Unreachable.exit_code)
        await journal.note(row.job, msgspec.json.encode(events.Ended(at=now, status="failed", error=KILLED)))
        await journal.close_job(row.job, status="failed", result=msgspec.json.encode(result))


def _readable(journal: Journal, job: JobId, saved: Mapping[str, bytes]) -> dict[str, bytes]:
    """The steps that can be read: a damaged one is passed over, and what it paid is not known."""
    kept: dict[str, bytes] = {}
    for name, raw in saved.items():
        try:
            Steps(journal, job, {name: raw})
        except BadMessage as error:
            log.warning("a saved step is passed over, its cost is not billed: %s", error, extra={"job": job})
        else:
            kept[name] = raw
    return kept


def _path(state_dir: Path, name: str) -> Path:
    try:
        return state_dir / f"{check_id(name, what='orchestrator')}.lock"
    except ValueError as error:
        raise BadInput(str(error)) from error


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise StoreFailed(f"the folder {path.parent} cannot be written: {error.strerror or error}") from error


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
