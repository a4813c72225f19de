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
        self.items: list[T] = []
        self.news = asyncio.Event()  #: an item came, or a listener has heard enough

    def add(self, *items: T) -> None:
        """More of them."""
        self.items.extend(items)
        self.news.set()


class Listener(Generic[T]):
    """One that hears a feed, also what came before it."""

    def __init__(self, feed: Feed[T]) -> None:
        self._feed = feed
        self._closed = False

    def close(self) -> None:
        """No more will come for this one: it ends when it has heard all."""
        self._closed = True
        self._feed.news.set()

    async def follow(self) -> AsyncIterator[T]:
        """Every item from the first, as they come, until `close`."""
        seen = 0
        while True:
            while seen < len(self._feed.items):
                yield self._feed.items[seen]
                seen += 1
            if self._closed:
                return
            self._feed.news.clear()
            await self._feed.news.wait()


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
    async def listen(self, key: str, past: Callable[[], Awaitable[Iterable[T]]]) -> AsyncGenerator[Listener[T]]:
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
                feed.add(*await past())
            yield Listener(feed)
        finally:
            self._listeners[key] -= 1
            if not self._listeners[key]:
                del self._listeners[key]
                self._feeds.pop(key, None)
