"""One joined write a connection and one commit for all, each turn of the event loop.

    data_received … data_received ─► flush: store.commit() ─► link.flush() for each that has something to say

Nothing a turn produced leaves before what it changed is committed, so a PUBACK is never ahead of its message.
"""

import asyncio
import logging
from typing import Protocol

from foa.broker.store import Store
from foa.errors import StoreFailed

log = logging.getLogger(__name__)


class Flushable(Protocol):
    """A connection with something to send."""

    def flush(self) -> None:
        """Write it."""
        ...

    def abort(self) -> None:
        """Drop it, and the connection."""
        ...


class Outflow:
    """Collects who has something to send, and lets it out once a turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store | None) -> None:
        self._loop = loop
        self._store = store
        self._waiting: list[Flushable] = []
        self._scheduled = False

    def mark(self, link: Flushable) -> None:
        """This connection has something to send; call it once until it is flushed."""
        self._waiting.append(link)
        if not self._scheduled:
            self.wake()

    def wake(self) -> None:
        """Commit in this turn even if nobody has something to send."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Commit, then write. If the commit fails, those who wait for it are cut off: they will send again what was not
        acknowledged."""
        self._scheduled = False
        links, self._waiting = self._waiting, []
        if self._store is not None and self._store.dirty:
            try:
                self._store.commit()
            except StoreFailed as error:
                log.error(
                    "commit failed, %d connections cut: %s", len(links), error, extra={"action": "broker_commit_failed"}
                )
                for link in links:
                    link.abort()
                return
        for link in links:
            link.flush()
