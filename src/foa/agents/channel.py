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


class _Line:
    """One cluster's subscription and who hears it."""

    def __init__(self) -> None:
        self.ears: list[Hear] = []
        self.up = asyncio.Event()
        self.failure: BaseException | None = None
        self.reader: asyncio.Task[None] | None = None


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
        if line is None:
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
            if not line.ears and self._lines.get(cluster) is line:
                del self._lines[cluster]
                if line.reader is not None:
                    line.reader.cancel()

    async def _read(self, cluster: ClusterId, line: _Line) -> None:
        wanted = Filter(topic_filter=self._topics.channel(cluster))
        try:
            async with self._transport.subscribe(wanted) as inbox:
                line.up.set()
                async for delivery in inbox:
                    try:
                        message = decode(delivery.publication.payload, _CHANNEL)
                    except BadMessage:
                        self.ignored["bad message"] += 1
                    else:
                        for hear in tuple(line.ears):
                            hear(message)
                    await delivery.acknowledge()
        except FabricError as error:  # the members waiting for it are told; a later Join tries again
            line.failure = error
        finally:
            line.up.set()
