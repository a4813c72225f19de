"""A federated run as a child process: its lines as they come; it goes on after a crash, and dies with its parent.

parent ── starts ──► foa fl run FOLDER --name RUN --lines … ── JSON lines ──► parent
parent leaves the block, or dies ──► the child is killed; its checkpoint stands
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from foa.app.federated_lines import MAX_LINE_BYTES, FailedLine, Line, TrainedLine, read_line
from foa.app.settings import Settings, as_environment
from foa.errors import BadMessage

log = logging.getLogger(__name__)

MAX_STARTS = 4  #: of one run, when it dies without a word


async def run_lines(arguments: Sequence[str], settings: Settings) -> AsyncGenerator[Line]:
    """Run `foa fl run` with these arguments to its end, and give its lines; the last is its end or its failure.

    A run that dies without having said either is started again, a bounded number of times.

    Args:
        arguments: after `foa fl run`.
        settings: that the child goes by, wherever they came from; by its environment, where no other user reads secrets.
    """
    for start in range(1, MAX_STARTS + 1):
        async with _process(arguments, settings) as process:
            assert process.stdout is not None
            async for line in lines_of(process.stdout):
                yield line
                if isinstance(line, TrainedLine | FailedLine):
                    return
            code = await process.wait()
        log.warning("a run died with %d, start %d of %d", code, start, MAX_STARTS, extra={"event": "run_died"})
    yield FailedLine(error=f"the run died {MAX_STARTS} times without a word; its own log says more")


@asynccontextmanager
async def _process(arguments: Sequence[str], settings: Settings) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "foa",
        "fl",
        "run",
        *arguments,
        "--lines",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        env={**os.environ, **as_environment(settings)},
        start_new_session=True,  # so that it is killed with all it started
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def lines_of(stdout: asyncio.StreamReader) -> AsyncIterator[Line]:
    """What a child says, line by line, until it ends; what is no line of ours is passed over."""
    while True:
        try:
            raw = await stdout.readline()
        except ValueError:  # over the limit: what is left of it is no line of ours either, and has to be read all the same
            log.warning("a run said more than %d bytes in a line", MAX_LINE_BYTES)
            continue
        if not raw:
            return
        try:
            yield read_line(raw)
        except BadMessage as error:  # an app that prints
            log.debug("a run said something else: %s", error)
