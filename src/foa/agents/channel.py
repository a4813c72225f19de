"""One subscription a cluster and connection, however many members of it live on this host.

foa/clusters/{id}/channel ─► decoded once ─► every local member's `hear`
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

from foa.errors import BadMessage, FabricError
from foa.messages import ChannelMessage, decode
from foa.ports import Transport
from foa.values.ids import ClusterId
from foa.values.publication import Filter
from foa.values.topics import Topics

_CHANNEL = cast("type[ChannelMessage]", ChannelMessage)  # a union is a type to msgspec, not yet to `type[]`

Hear = Callable[[ChannelMessage], None]

#: How long a channel nobody listens to any more is still read, so that its last messages are acknowledged and do not fill
#: the receive window (MQTT v5, 3.1.2.11.3).
LINGER_SECONDS = 1.0


class _Line:
    """One cluster's subscription and who hears it."""

    def __init__(self) -> None:
        self.ears: list[Hear] = []
        self.up = asyncio.Event()
        self.failure: FabricError | None = None
        self.limit: asyncio.Timeout | None = None
        self.reader: asyncio.Task[None] | None = None

    def keep(self, until: float | None) -> bool:
        """Keep the subscription until this time of the loop's clock, or for good; False: it is ending already."""
        if self.limit is None:
            return not self.up.is_set()
        try:
            self.limit.reschedule(until)
        except RuntimeError:
            return False
        return True


class Channels:
    """The cluster channels that this host's members listen to.

    Args:
        transport: the host's connection.
        topics: topic names.
        group: owns the readers.
    """

    def __init__(self, transport: Transport, topics: Topics, group: asyncio.TaskGroup) -> None:
        self._transport = transport
        self._topics = topics
        self._group = group
        self._lines: dict[ClusterId, _Line] = {}
        self.ignored: Counter[str] = Counter()  #: messages that did not decode

    @asynccontextmanager
    async def listen(self, cluster: ClusterId, hear: Hear) -> AsyncGenerator[None]:
        """Hear a cluster while the block lasts; entering waits for the subscription.

        Raises:
            BrokerUnreachable: the broker refused the filter.
        """
        line = self._lines.get(cluster)
        if line is None or not line.keep(None):
            line = self._lines[cluster] = _Line()
            line.reader = self._group.create_task(self._read(cluster, line), name=f"channel[{cluster}]")
        line.ears.append(hear)
        try:
            await line.up.wait()
            if line.failure is not None:
                raise line.failure
            yield
        finally:
            line.ears.remove(hear)
            if not line.ears:
                line.keep(asyncio.get_running_loop().time() + LINGER_SECONDS)

    def close(self) -> None:
        """End every subscription."""
        for line in self._lines.values():
            if line.reader is not None:
                line.reader.cancel()

    async def _read(self, cluster: ClusterId, line: _Line) -> None:
        wanted = Filter(topic_filter=self._topics.channel(cluster))
        try:
            async with self._transport.subscribe(wanted) as inbox, asyncio.timeout(None) as line.limit:
                line.up.set()
                async for delivery in inbox:
                    self._hear(line, delivery.publication.payload)
                    await delivery.acknowledge()
        except TimeoutError:
            pass  # nobody listens any more
        except FabricError as error:  # the members waiting for it are told; a later Join tries again
            line.failure = error
        finally:
            line.up.set()
            if self._lines.get(cluster) is line:
                del self._lines[cluster]

    def _hear(self, line: _Line, payload: bytes) -> None:
        if not line.ears:
            return
        try:
            message = decode(payload, _CHANNEL)
        except BadMessage:
            self.ignored["bad message"] += 1
            return
        for hear in tuple(line.ears):
            hear(message)
