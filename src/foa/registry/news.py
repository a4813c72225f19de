"""Who is told when something about an agent changed: watchers at once, and those who wait for agents."""

import asyncio
from collections.abc import Callable

from foa.values.ids import AgentId


class News:
    """A registry's changes."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[AgentId], None]] = []
        self._heard = asyncio.Event()
        self.arrivals = 0  #: grows whenever there are agents to be found that were not there before

    def watch(self, watcher: Callable[[AgentId], None]) -> None:
        """Call this with every agent that is told of."""
        self._watchers.append(watcher)

    def tell(self, agent: AgentId) -> None:
        """An agent's card came, changed or went."""
        for watcher in self._watchers:
            watcher(agent)

    def arrived(self) -> None:
        """There are agents to be found that were not there before."""
        self.arrivals += 1
        self._heard.set()

    def heard(self) -> None:
        """Cards were taken or refused."""
        self._heard.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds; it is asked again whenever cards were heard or agents arrived."""
        while not holds():
            self._heard.clear()
            await self._heard.wait()
