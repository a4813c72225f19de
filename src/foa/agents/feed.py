"""Progress of one piece of long work, for any number of listeners: each hears it from its first item to its last."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Items in order. Adding never waits for a listener."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._news = asyncio.Event()
        self._closed = False

    def add(self, item: T) -> None:
        """One more."""
        self._items.append(item)
        self._news.set()

    def extend(self, items: Iterable[T]) -> None:
        """Several more."""
        self._items.extend(items)
        self._news.set()

    def close(self) -> None:
        """No more will come; listeners end when they have heard all."""
        self._closed = True
        self._news.set()

    async def follow(self) -> AsyncIterator[T]:
        """Every item from the first, as they come, until `close`."""
        seen = 0
        while True:
            while seen < len(self._items):
                yield self._items[seen]
                seen += 1
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()


class Feeds(Generic[T]):
    """Feeds by key: each lives as long as somebody listens."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed[T]] = {}
        self._listeners: Counter[str] = Counter()

    def listeners(self, key: str) -> int:
        """How many listen to this one."""
        return self._listeners[key]

    def add(self, key: str, item: T) -> None:
        """One more item of a feed; nothing where nobody listens."""
        if (feed := self._feeds.get(key)) is not None:
            feed.add(item)

    @asynccontextmanager
    async def listen(self, key: str, past: Callable[[], Awaitable[Iterable[T]]]) -> AsyncGenerator[Feed[T]]:
        """Listen while the block lasts.

        Args:
            key: of the feed.
            past: gives what was there before, for the first listener.
        """
        self._listeners[key] += 1
        try:
            feed = self._feeds.get(key)
            if feed is None:
                feed = self._feeds[key] = Feed()
                feed.extend(await past())
            yield feed
        finally:
            self._listeners[key] -= 1
            if not self._listeners[key]:
                del self._listeners[key]
                self._feeds.pop(key, None)
