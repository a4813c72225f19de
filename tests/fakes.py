"""Stand-ins for time, shared by the tests: no test waits for a real clock."""

import asyncio


class HandClock:
    """A clock that moves only when a test moves it; sleepers wake when their time has come."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.seconds = start
        self._moved = asyncio.Condition()

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        async with self._moved:
            await self._moved.wait_for(lambda: self.seconds >= until)

    async def move(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        async with self._moved:
            self._moved.notify_all()
