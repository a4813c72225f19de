"""What `foa ask` does once it knows what is asked: bring up what is needed, submit, follow, wait."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from foa.app.client import Client
from foa.app.clock import SystemClock
from foa.app.fabric import open_fabric
from foa.app.federation import Federation
from foa.app.federation_file import FederationFile
from foa.app.places import journal_file
from foa.app.settings import Settings
from foa.cli.console import progress
from foa.cli.follow import follow
from foa.job import one_error
from foa.values.result import Result
from foa.values.task import Submission
from foa.values.topics import Topics


async def answer(
    submission: Submission, settings: Settings, federation: FederationFile | None, over: Path | None, *, shown: bool
) -> Result:
    """Submit, show, wait.

    Args:
        submission: the task and its budget.
        settings: of this run.
        federation: who serves, started for this question; None: whoever serves at the settings' broker.
        over: the folder its agents look at.
        shown: whether progress is shown.

    Raises:
        FabricError: there is no result: no broker, nobody took the job, the fabric was lost.
    """
    with one_error():
        async with client_of(settings, federation, over) as client:
            handle = await client.submit(submission)
            return await follow(
                handle,
                cancel=lambda: client.cancel(handle.id, reason="interrupted by its user"),
                clock=SystemClock(),
                console=progress() if shown else None,
            )


@asynccontextmanager
async def client_of(settings: Settings, federation: FederationFile | None, over: Path | None) -> AsyncGenerator[Client]:
    """A client of whoever serves: of a federation of our own, or of those at the broker."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if federation is not None:
            started = Federation.start(settings, agents=federation.agents, over=over, state=journal_file(settings))
            yield (await enter(started)).client
            return
        fabric = await enter(open_fabric(settings))
        transport = await enter(fabric.connect(f"ask-{secrets.token_hex(4)}"))
        yield await enter(Client(transport, Topics(settings.root)))
