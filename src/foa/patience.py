"""Waiting a bounded moment for agents that are known and away, where nobody else may take the work.

    route ── Unroutable, somebody is away ──► until one is back ──► route again
                                          └─► the time is up: Unroutable, with who is away

A link that broke for some seconds costs a job that time, not its answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from foa.errors import Unroutable
from foa.job import Job
from foa.registry.registry import Registry
from foa.route import Routing

log = logging.getLogger(__name__)

#: Agents that were cut off together come back together: after the first, the others have this long to be there too.
TOGETHER_SECONDS = 0.3


class Patience:
    """What one phase of a job may wait, over all that it routes: `FOA_RETURN_SECONDS`, at most half of the job's time."""

    def __init__(self, job: Job, registry: Registry) -> None:
        self._job = job
        self._registry = registry
        seconds = min(job.parameters.return_seconds, job.seconds_left / 2)
        self._until = job.clock.monotonic() + seconds
        self._told = False

    async def route(self, what: str, find: Callable[[], Awaitable[Routing]]) -> Routing:
        """Route; where only agents that are away may take it, wait for them and route again.

        Args:
            what: is routed, for people.
            find: asks the router.

        Raises:
            Unroutable: nobody may take it, or nobody who may is back in time.
            ModelUnreachable: the embedder does not answer.
        """
        while True:
            before = self._registry.arrivals
            try:
                return await find()
            except Unroutable as nobody:
                left = self._until - self._job.clock.monotonic()
                if left <= 0 or not (nobody.away or self._registry.arrivals != before):
                    raise
                self._tell(what, nobody, left)
                if not await self._somebody(before, left):
                    raise

    async def _somebody(self, before: int, seconds: float) -> bool:
        """Wait until agents are there that were not; False: none in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._registry.arrived(after=before)
        except TimeoutError:
            return False
        await self._job.clock.sleep(TOGETHER_SECONDS)
        return True

    def _tell(self, what: str, nobody: Unroutable, seconds: float) -> None:
        if self._told or not nobody.away:
            return
        self._told = True
        names = ", ".join(nobody.away)
        log.info("a job waits for agents that are away", extra={"event": "waits_for_agents", "job": self._job.id})
        self._job.fell_back(f"{what}: nobody else may take it, so up to {seconds:.0f} s go by for who is away: {names}")
