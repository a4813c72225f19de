"""Follows one job to its end: a live picture where there is a terminal, a line an event where there is none.

Ctrl-C or SIGTERM once asks Agent-0 to stop the job and waits for what was reached; twice leaves at once.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator

from rich.console import Console
from rich.live import Live

from foa.app.client import JobHandle
from foa.cli.board import Board
from foa.cli.failing import say
from foa.cli.progress import draw, line
from foa.ports import Clock
from foa.values.events import AnyEvent
from foa.values.result import Result

REFRESH_SECONDS = 0.25
STOPS = (signal.SIGINT, signal.SIGTERM)  #: signals that ask for the end


async def follow(
    handle: JobHandle, *, cancel: Callable[[], Awaitable[None]], clock: Clock, console: Console | None
) -> Result:
    """Show a job until it has ended.

    Args:
        handle: the job.
        cancel: asks for its end; called at the first Ctrl-C or SIGTERM.
        clock: for how long it has been running.
        console: where to show it; None: nowhere.

    Raises:
        Unreachable: the fabric was lost before the job ended.
    """
    with interruptions() as interrupted:
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(_stop(interrupted, handle, cancel), name="stop on Ctrl-C")
            if console is not None:
                await show(handle.events(), clock=clock, console=console)
            try:
                return await handle.result()
            finally:
                stopping.cancel()


async def show(events: AsyncIterator[AnyEvent], *, clock: Clock, console: Console) -> None:
    """Draw events as they come, until they end."""
    if console.is_terminal:
        await _draw_live(events, clock=clock, console=console)
        return
    async for event in events:
        if shown := line(event):
            console.print(shown, markup=False, soft_wrap=True)


async def _draw_live(events: AsyncIterator[AnyEvent], *, clock: Clock, console: Console) -> None:
    board = Board()
    with Live(console=console, auto_refresh=False, transient=True) as live:

        async def tick() -> None:
            while True:
                live.update(draw(board, now=clock.now()), refresh=True)
                await clock.sleep(REFRESH_SECONDS)

        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(tick(), name="draw")
            async for event in events:
                board = board.after(event)
            ticking.cancel()


async def _stop(interrupted: asyncio.Event, handle: JobHandle, cancel: Callable[[], Awaitable[None]]) -> None:
    await interrupted.wait()
    say(f"stopping job {handle.id}; Ctrl-C again leaves at once")
    await cancel()


@contextlib.contextmanager
def interruptions() -> Generator[asyncio.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second is Python's own again."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()

    def ours_no_more() -> None:
        for number in STOPS:
            loop.remove_signal_handler(number)

    def first() -> None:
        interrupted.set()
        ours_no_more()

    for number in STOPS:
        loop.add_signal_handler(number, first)
    try:
        yield interrupted
    finally:
        ours_no_more()


async def until_stopped() -> None:
    """Return at SIGINT or SIGTERM: for commands that serve until they are told to leave."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in STOPS:
        loop.add_signal_handler(number, told.set)
    try:
        await told.wait()
    finally:
        for number in STOPS:
            loop.remove_signal_handler(number)
