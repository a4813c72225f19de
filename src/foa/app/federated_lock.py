"""Who trains a run on this machine: a lock that the kernel lets go of when its process ends, with the process' number in it.

held_run(folder)  ─► one process a run: two would overwrite each other's checkpoint
end_run(…)        ─► asks that process to end, as Ctrl-C does
"""

import asyncio
import fcntl
import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from foa.app.settings import Settings
from foa.errors import BadInput
from foa.values.ids import RUN_PREFIX, JobId, check_id

LOCK = "run.lock"
WAIT_SECONDS = 10.0  #: how long the process that had a run before may take to die
LOOK_SECONDS = 0.05


def job_of(run: str, number: int = 1) -> JobId:
    """The job id of a run: of its first, or of a later time that it was gone on with after it had ended."""
    again = "" if number == 1 else f"-{number}"
    return JobId(check_id(f"{RUN_PREFIX}{run}"[: 64 - len(again)] + again, what="job"))


@asynccontextmanager
async def held_run(folder: Path) -> AsyncGenerator[None]:
    """Hold a run while the block lasts.

    Args:
        folder: the run's own.

    Raises:
        BadInput: another process has it and goes on.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not _locked(file.fileno()):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise BadInput(f"another process trains run {folder.name}: stop it first") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def end_run(settings: Settings, job: JobId) -> bool:
    """Ask the process that trains a job's run to end; False: none of this machine does."""
    for path in (settings.state_dir / "fl").glob(f"*/{LOCK}"):
        first = job_of(path.parent.name)
        if job != first and not re.fullmatch(re.escape(first) + r"-\d+", job):
            continue
        with path.open("a+") as file:
            if _locked(file.fileno()):
                continue  # whoever had it is gone
            file.seek(0)
            number = file.read(16)
        if number.isdigit():
            os.kill(int(number), signal.SIGINT)
            return True
    return False


def _locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
