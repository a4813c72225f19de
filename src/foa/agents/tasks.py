"""A task group whose errors keep their own type."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from foa.errors import FabricError


@asynccontextmanager
async def owning_tasks() -> AsyncGenerator[asyncio.TaskGroup]:
    """A TaskGroup for the length of a block, for use inside other context managers.

    An error of the block goes on as it is, where a TaskGroup would wrap it; so does a FabricError that is the only one of
    its tasks. The block ends its tasks itself, also when it fails.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as error:  # noqa: BLE001 - raised again below, when the tasks have ended
                failure = error
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1 and isinstance(only := errors.exceptions[0], FabricError):
            raise only from None
        raise
    if failure is not None:
        raise failure
