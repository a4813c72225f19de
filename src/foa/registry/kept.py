"""The index as one registry has it: written in the order of what was decided, whoever waits for what.

A kept one may have agents that are not admitted any more, or not yet: they are searched past, and taken out:

start ─► the index has those of before ─► retained cards are heard, searches ask past the others ─► `take_out` the rest
"""

import asyncio
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from foa.ports import Hit, IndexPoint, IndexQuery, KeptIndex, VectorIndex
from foa.values.ids import AgentId

log = logging.getLogger(__name__)

_WIDEST = 10_000  #: most hits that are asked for to get past those that are not admitted
_AT_ONCE = 10_000  #: agents that are looked at before others have a turn


class Kept:
    """An index, and what it has beside what it should have."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._writing = asyncio.Lock()  # who asks first is first: a server's index may let a later call overtake
        self.owed = False  #: whether taking out was put off

    async def write(self, points: Mapping[AgentId, IndexPoint | None]) -> None:
        """Have these agents in the index, or not (None), behind everything that was asked for before."""
        async with self._writing:
            if hidden := [agent for agent, point in points.items() if point is None]:
                await self._index.remove(hidden)
            if found := [point for point in points.values() if point is not None]:
                await self._index.upsert(found)

    async def search(self, query: IndexQuery, admitted: Container[AgentId]) -> Sequence[Hit]:
        """Give the hits that are admitted; where others stand in their way, the index is asked for more."""
        k = query.k
        while True:
            found = await self._index.search(replace(query, k=k))
            hits = [hit for hit in found if hit.agent in admitted]
            if len(hits) >= query.k or len(found) < k or k >= _WIDEST:
                return hits[: query.k]
            k = min(4 * k, _WIDEST)

    async def take_out(self, belongs: Callable[[AgentId], bool], *, wait: bool) -> None:
        """Remove everybody from a kept index who does not belong there, and have the rest outlive a kill.

        Args:
            belongs: asked about each.
            wait: somebody may still come who belongs there: only note that it is owed.
        """
        if not isinstance(self._index, KeptIndex):
            return
        self.owed = wait
        if wait:
            return
        agents, gone = await self._index.agents(), 0
        for start in range(0, len(agents), _AT_ONCE):
            # nobody has a turn between the question and the removal: whoever is admitted then is written behind it
            strangers = [agent for agent in agents[start : start + _AT_ONCE] if not belongs(agent)]
            if strangers:
                await self.write(dict.fromkeys(strangers))
                gone += len(strangers)
        await self._index.save()
        told = {"event": "reconciled", "agents": len(agents) - gone, "gone": gone, "indexed": self._index.written}
        log.info("the index has who is here", extra=told)
