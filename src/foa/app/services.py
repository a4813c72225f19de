"""Running something as long as a block lasts, and its error as one error."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from foa.job import one_error


@asynccontextmanager
async def running(name: str, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Run `serve` beside the block; the block begins when `serve` sets the event it is given.

    Args:
        name: of the task.
        serve: runs until cancelled; sets the event when it is ready.

    Raises:
        FabricError: `serve` failed; it ends the block.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(one_error())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        ready = asyncio.Event()
        task = group.create_task(serve(ready), name=name)
        waiting = group.create_task(ready.wait(), name=f"{name}, ready")
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            raise task.exception() or RuntimeError(f"{name} ended before it was ready")
        try:
            yield
        finally:
            task.cancel()
