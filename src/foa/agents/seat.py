"""One agent at work on a host: its slots, its queue, how busy it is."""

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from foa.agents.brain import Agent
from foa.values.vcv import Vitals

RECENT = 32  #: replies whose median is the latency


class Seat:
    """An agent and its load."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.profile = agent.profile
        self.brain = agent.brain
        self.pending = 0  #: requests taken and not yet answered
        self.waiting = 0  #: those of them that wait for a slot
        self.busy = 0  #: requests being worked on
        self._slots = asyncio.Semaphore(agent.profile.limits.slots)
        self._latencies: deque[float] = deque(maxlen=RECENT)

    @property
    def full(self) -> bool:
        """Whether one more request would not even find a place to wait."""
        return self.pending >= self.profile.limits.slots + self.profile.limits.queue

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Hold one of the agent's slots; cancelling gives it back."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._slots.release()

    def took(self, seconds: float) -> None:
        """Remember how long a reply took."""
        self._latencies.append(seconds)

    def vitals(self) -> Vitals:
        """How it is now."""
        slots = self.profile.limits.slots
        latency = statistics.median(self._latencies) if self._latencies else self.profile.resources.latency_seconds
        return Vitals(
            load=min(1.0, self.busy / slots),
            queue=self.waiting,
            slots=slots,
            latency_seconds=None if latency is None else round(float(latency), 3),
        )
