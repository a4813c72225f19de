"""Real `foa` processes that a test may kill: each one a process of its own, forked from a server that has imported foa once.

    foa("agent", "a.md", "--broker", url) ─► Running(pid) ─► said("announced") · kill() · stop() · ended()

What a process says on stderr is in a file; `said` waits for words in it, with a deadline.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from foa.cli import main

LOOK_SECONDS = 0.02  #: how often a real process is looked at: nothing else tells what it does
SECONDS = 30.0  #: deadline of everything that must happen

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        "foa.cli.agent",
        "foa.cli.ask",
        "foa.cli.broker",
        "foa.cli.jobs",
        "foa.cli.orchestrator",
        "foa.app.broker_process",
        "foa.models.endpoint",
        "foa.transport.mqtt",
        "openai.resources.chat.completions",
        "scipy.cluster.hierarchy",
        "wordllama",
        "tests.chaos.processes",
    ]
)


async def until(condition: Callable[[], Any], what: str, *, seconds: float = SECONDS) -> Any:
    """Wait for a real process to make something true; gives what the condition gave."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := condition()):  # noqa: ASYNC110 - a real process tells nobody
                await asyncio.sleep(LOOK_SECONDS)
            return found
    except TimeoutError:
        raise AssertionError(f"after {seconds:.0f} s still not: {what}") from None


class Running:
    """One `foa` process."""

    def __init__(self, command: str, process: Any, output: Path, errors: Path) -> None:
        self.command = command
        self._process = process
        self._output = output
        self._errors = errors

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0: the signal that ended it."""
        return self._process.exitcode

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    async def said(self, words: str) -> str:
        """Wait until its stderr has these words."""
        await until(lambda: words in self.errors or self.exit_code is not None, f"{words!r} in {self._errors}")
        assert words in self.errors, f"it ended with {self.exit_code}: {self.errors}"
        return self.errors

    async def ended(self, *, seconds: float = SECONDS) -> int:
        """Wait for its end; gives its exit code."""
        await until(lambda: self.exit_code is not None, f"the end of {self._errors}", seconds=seconds)
        return int(self._process.exitcode)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        await self.ended()

    async def ended_or_killed(self) -> None:
        """Wait a little for its end, then make it."""
        try:
            await self.ended(seconds=10)
        except AssertionError:
            await self.kill()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


class Processes:
    """Starts them, and ends those that still run."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self._started: list[Running] = []

    def foa(self, *arguments: str, **settings: str) -> Running:
        """Start `foa ARGUMENTS` with these settings besides the common ones."""
        number = len(self._started)
        name = f"{number}-{arguments[0]}"
        output, errors = self.folder / f"{name}.out", self.folder / f"{name}.err"
        output.touch()
        errors.touch()
        environment = self.environment | settings
        process: Any = _server.Process(target=_be, args=(arguments, environment, str(output), str(errors)))  # pyright: ignore
        process.start()
        running = Running(arguments[0], process, output, errors)
        self._started.append(running)
        return running

    async def aclose(self) -> None:
        """Stop them all; brokers last, so that the others can say goodbye."""
        brokers = [running for running in self._started if running.command == "broker"]
        for together in ([running for running in self._started if running not in brokers], brokers):
            for running in together:
                if running.exit_code is None:
                    with contextlib.suppress(ProcessLookupError):
                        running.send(signal.SIGTERM)
            for running in together:
                await running.ended_or_killed()


def _be(arguments: Sequence[str], environment: Mapping[str, str], output: str, errors: str) -> None:
    """Be `foa ARGUMENTS`: in the child."""
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((output, 1), (errors, 2)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["foa", *arguments]
    main(arguments)


@asynccontextmanager
async def processes(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Processes]:
    """Start processes while the block lasts."""
    started = Processes(folder, environment)
    try:
        yield started
    finally:
        await started.aclose()
