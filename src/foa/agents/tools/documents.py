"""Retrieval over a folder of documents or source code, with the file and lines of everything found."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foa.agents.evidence import Evidence
from foa.agents.tools.chunks import Chunk, chunk, is_code, is_text
from foa.agents.tools.files import Limits, read_text, walk
from foa.agents.tools.guard import count_argument, render, text_argument
from foa.agents.tools.search import HybridIndex, build_index
from foa.agents.tools.vectors import VectorCache
from foa.errors import BadInput
from foa.ports import Embedder
from foa.values.draft import Source

MAX_CHUNKS = 60_000  #: of one folder

_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "what to look for, in words or names", "maxLength": 1_000},
        "k": {"type": "integer", "description": "how many pieces, 1 to 10", "minimum": 1, "maximum": 10},
    },
    "required": ["query"],
    "additionalProperties": False,
}


class FolderTool:
    """Searches a folder. The index is built at the first question, and again when files have changed.

    Args:
        folder: what is searched.
        name: the tool's name.
        description: for models.
        wanted: which file names belong to it.
        embedder: for meaning.
        cache: keeps vectors between starts.
        include, exclude: file patterns, as in `foa.agents.tools.files.walk`.
        limits: how much is read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        description: str,
        wanted: Callable[[str], bool],
        embedder: Embedder,
        cache: VectorCache | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.parameters = _PARAMETERS
        self._folder = folder
        self._wanted = wanted
        self._embedder = embedder
        self._cache = cache or VectorCache()
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._limits = limits
        self._index: HybridIndex | None = None
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._building = asyncio.Lock()

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Search for a model.

        Raises:
            BadInput: no query, or no such folder.
        """
        query = text_argument(arguments, "query")
        if not query.strip():
            raise BadInput(f"{self.name} needs a `query`: what to look for")
        return render(await self.retrieve(query, count_argument(arguments, "k", default=4, most=10)))

    async def retrieve(self, query: str, k: int) -> list[Evidence]:
        """The best `k` pieces.

        Raises:
            BadInput: no such folder.
            ModelUnreachable: the embedder does not answer.
        """
        index = await self._ready()
        if index is None:
            return []
        vector = (await self._embedder.embed([query]))[0]
        hits = await asyncio.to_thread(index.search, query, vector, k)
        return [
            Evidence(
                source=Source(kind="file", locator=piece.locator[-500:]), text=piece.text, score=score, defines=piece.defines
            )
            for piece, score in hits
        ]

    async def _ready(self) -> HybridIndex | None:
        async with self._building:
            stamp = await asyncio.to_thread(self._look)
            if stamp != self._stamp or self._index is None:
                pieces = await asyncio.to_thread(self._read, [name for name, _, _ in stamp])
                self._index = await build_index(pieces, self._embedder, self._cache) if pieces else None
                self._stamp = stamp
            return self._index

    def _look(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of every file that belongs to the tool."""
        files = walk(self._folder, include=self._include, exclude=self._exclude, limits=self._limits)
        wanted = [file for file in files if self._include or self._wanted(file.name)]
        return tuple((file.name, file.size, _changed(file.path)) for file in wanted)

    def _read(self, names: Sequence[str]) -> list[Chunk]:
        root = self._folder.resolve()
        pieces: list[Chunk] = []
        for name in names:
            text = read_text(root / name)
            if text is not None:
                pieces.extend(chunk(name, text))
            if len(pieces) >= MAX_CHUNKS:
                break
        return pieces[:MAX_CHUNKS]


def documents(folder: Path, embedder: Embedder, *, name: str = "documents", **more: Any) -> FolderTool:
    """Search written documents: Markdown, reStructuredText, plain text, configuration."""
    about = "Searches the documents of the folder; gives pieces with file and lines."
    return FolderTool(folder, name=name, description=about, wanted=is_text, embedder=embedder, **more)


def code(folder: Path, embedder: Embedder, *, name: str = "code", **more: Any) -> FolderTool:
    """Search source code, by definitions."""
    about = "Searches the source code of the folder; gives functions and classes with file and lines."
    return FolderTool(folder, name=name, description=about, wanted=is_code, embedder=embedder, **more)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
