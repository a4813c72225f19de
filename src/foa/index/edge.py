"""The default index: Qdrant's engine in this process, in n partitions by hash of agent id, each with a thread of its own.

A partition's thread does all its work, so nothing overlaps. The engine holds the interpreter while it works, so partitions
take turns: they keep what is rebuilt at once small, and make no search faster.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from foa.errors import StoreFailed
from foa.index.found import best_hits
from foa.index.partition import Partition
from foa.index.shard import EdgeOptions
from foa.ports import Hit, IndexPoint, IndexQuery
from foa.values.ids import AgentId

T = TypeVar("T")


class EdgeIndex:
    """A VectorIndex of Qdrant Edge shards."""

    def __init__(
        self, dimension: int, *, path: Path | None = None, shards: int = 1, options: EdgeOptions | None = None
    ) -> None:
        """Open the index in this folder, or make it.

        Args:
            dimension: of the vectors; a folder of another dimension is emptied.
            path: None: a temporary folder, removed at `aclose`.
            shards: partitions; more than one keeps builds small, and makes no search faster.

        Raises:
            StoreFailed: the folder cannot be read.
        """
        self._temporary = path is None
        self._path = path or Path(tempfile.mkdtemp(prefix="foa-index-"))
        folders = [self._path / f"part-{i:03}-of-{shards:03}" for i in range(shards)]
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"index-{i}") for i in range(shards)]
        self._watcher = ThreadPoolExecutor(shards, thread_name_prefix="index-build")
        chosen = options or EdgeOptions()
        self._parts = [_opened(folder, dimension, chosen) for folder in folders]
        self._builds: dict[int, Future[None]] = {}
        self._closed = False
        for i, thread in enumerate(self._threads):  # a build that was cut off is done now
            thread.submit(self._build_if_due, i).result()

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; searchable when it returns."""
        split: dict[int, list[IndexPoint]] = {}
        for point in points:
            split.setdefault(self._part_of(point.agent), []).append(point)
        await self._all({i: lambda i=i: self._upsert(i, split[i]) for i in split})

    async def remove(self, agents: Sequence[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        split: dict[int, list[AgentId]] = {}
        for agent in agents:
            split.setdefault(self._part_of(agent), []).append(agent)
        await self._all({i: lambda i=i: self._parts[i].remove(split[i]) for i in split})

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        """The best k by vector, and where there is a text by words as well; best first."""
        found = await self._all({i: lambda part=part: part.search(query) for i, part in enumerate(self._parts)})
        return found[0] if len(found) == 1 else best_hits((hit for hits in found for hit in hits), query)

    async def count(self) -> int:
        """How many agents are stored."""
        return sum(await self._all({i: lambda part=part: len(part) for i, part in enumerate(self._parts)}))

    async def agents(self) -> Sequence[AgentId]:
        """Everyone who is stored, those of before included."""
        found = await self._all({i: part.agents for i, part in enumerate(self._parts)})
        return [agent for some in found for agent in some]

    @property
    def written(self) -> int:
        """How many points were stored since it was opened; those that were there, unchanged, are not counted."""
        return sum(part.written for part in self._parts)

    async def save(self) -> None:
        """Write what is new to disk, so that it outlives a crash of the machine."""
        await self._all({i: part.save for i, part in enumerate(self._parts)})

    async def settled(self) -> None:
        """Return when no build runs or is due."""
        while builds := list(self._builds.values()):
            for build in builds:
                await asyncio.wrap_future(build)

    async def aclose(self) -> None:
        """Stop builds, save and let go."""
        self._closed = True
        for part in self._parts:
            part.stop()
        await asyncio.to_thread(self._watcher.shutdown)
        await self._all({i: part.close for i, part in enumerate(self._parts)})
        for thread in self._threads:
            thread.shutdown()
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self._path, ignore_errors=True)

    def _part_of(self, agent: AgentId) -> int:
        if len(self._parts) == 1:
            return 0
        return int.from_bytes(hashlib.blake2b(agent.encode(), digest_size=4).digest(), "little") % len(self._parts)

    async def _all(self, calls: dict[int, Callable[[], T]]) -> list[T]:
        """Run a call on each partition's thread, at once.

        Raises:
            StoreFailed: the disk is full, or what it has is damaged.
        """
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(self._threads[i], call) for i, call in calls.items()]
        try:
            return [await future for future in futures]
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, OSError):  # the engine raises `Exception` itself
                raise
            raise StoreFailed(f"the index in {self._path} could not be read or written: {_why(error)}") from error

    # ── on a partition's thread ────────────────────────────────────────────────────────────────────────────────────────
    def _upsert(self, i: int, points: Sequence[IndexPoint]) -> None:
        self._parts[i].upsert(points)
        self._build_if_due(i)

    def _build_if_due(self, i: int) -> None:
        if not self._closed and i not in self._builds and self._parts[i].wants_build():
            self._builds[i] = self._watcher.submit(self._build, i)

    def _built(self, i: int) -> None:
        del self._builds[i]
        self._build_if_due(i)

    # ── on a watcher's thread ──────────────────────────────────────────────────────────────────────────────────────────
    def _build(self, i: int) -> None:
        part, thread = self._parts[i], self._threads[i]
        try:
            fresh = part.prepare()
            sources = thread.submit(part.freeze, fresh).result()
            sealed = part.build(sources)
            thread.submit(part.swap, sources, sealed).result()
            part.tidy(sources)
        finally:
            thread.submit(self._built, i).result()


def _opened(folder: Path, dimension: int, options: EdgeOptions) -> Partition:
    try:
        return Partition(folder, dimension=dimension, options=options)
    except StoreFailed:
        raise
    except BaseException as error:
        # the engine raises `Exception` itself, and what it panics with is none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise StoreFailed(
            f"{folder}: cannot read the index ({_why(error)}); remove the folder, it will be built again"
        ) from error


def _why(error: BaseException) -> str:
    """What the engine says, without the trace that it adds."""
    return str(error).partition("\n")[0][:300]
