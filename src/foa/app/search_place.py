"""Where an orchestrator searches its agents, and where their cards lie, as the settings say.

A kept folder is of one orchestrator:

    registry.lock          held while it serves
    registry.json          whose vectors the index has; of another embedder or in other parts: it is built again
    index/                 outlives the process, so that an unchanged card costs no indexing at the next start
    cards.db, cards.rows   what the broker retains, as it came: out of memory, and heard again at every start
"""

import asyncio
import contextlib
import importlib
import logging
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from foa.app.alive import held
from foa.app.places import made
from foa.app.settings import Settings
from foa.errors import BadInput, FabricError, StoreFailed
from foa.index.edge import EdgeIndex
from foa.index.exact import ExactIndex
from foa.index.shard import EdgeOptions
from foa.ports import Embedder, VectorIndex
from foa.registry.shelf import FileShelf, Shelf

log = logging.getLogger(__name__)

_LOCK = "registry"
_FORMAT = 1
_OURS = {f"{_LOCK}.lock", "registry.part"}  # what a start may leave that was killed before the index was there


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a registry needs to hold its agents; whoever has it closes both."""

    index: VectorIndex
    shelf: Shelf


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    """Of what the index in a folder is made."""

    v: int
    embedder: str
    dimension: int
    shards: int


@asynccontextmanager
async def open_place(
    settings: Settings, embedder: Embedder, *, orchestrator: str, folder: Path | None
) -> AsyncGenerator[Place]:
    """Open index and shelf; the folder is held while the block lasts.

    Args:
        settings: which index, and how.
        embedder: whose vectors it has.
        orchestrator: its name, for a server's collection.
        folder: where both are kept; None: nowhere.

    Raises:
        BadInput: another orchestrator has the folder, or the client of a Qdrant server is not installed.
        StoreFailed: the folder cannot be read or written or holds something else; the server does not answer.
    """
    if folder is None:
        yield await _open(settings, embedder, orchestrator, None)
        return
    taken = f"another orchestrator keeps its agents in {folder}: give this one another folder (FOA_INDEX_DIR)"
    with held(made(folder), _LOCK, taken=taken):
        yield await _open(settings, embedder, orchestrator, folder)


async def _open(settings: Settings, embedder: Embedder, orchestrator: str, folder: Path | None) -> Place:
    if folder is not None:
        await asyncio.to_thread(_claim, settings, embedder, folder)
    shelf = FileShelf(folder / "cards.db") if folder is not None else Shelf()
    try:
        return Place(index=await _index(settings, embedder, orchestrator, folder), shelf=shelf)
    except BaseException:
        shelf.close()
        raise


async def _index(settings: Settings, embedder: Embedder, orchestrator: str, folder: Path | None) -> VectorIndex:
    if settings.index == "qdrant":
        return await _server(settings, embedder, orchestrator)
    if settings.index == "exact":
        return ExactIndex(embedder.dimension)
    # reading a large one takes a while, and the broker hears from us meanwhile
    opening = asyncio.get_running_loop().run_in_executor(None, _edge, settings, embedder, folder)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # a thread is not cancelled: nobody else may have the folder before it is done
        with contextlib.suppress(FabricError):
            await (await opening).aclose()
        raise


def _edge(settings: Settings, embedder: Embedder, folder: Path | None) -> EdgeIndex:
    options = EdgeOptions(quantised=settings.index_quantised)
    path = folder / "index" if folder else None
    return EdgeIndex(embedder.dimension, path=path, shards=settings.index_shards, options=options)


async def _server(settings: Settings, embedder: Embedder, orchestrator: str) -> VectorIndex:
    """Give the index at a server that answered."""
    try:
        adapter = importlib.import_module("foa.index.qdrant")
    except ModuleNotFoundError as error:
        raise BadInput("FOA_INDEX is qdrant and its client is not installed: pip install 'foa[qdrant]'") from error
    index: VectorIndex = adapter.QdrantIndex.remote(
        settings.index_url,
        embedder.dimension,
        api_key=settings.index_key,
        collection=collection_of(settings, embedder, orchestrator),
        shards=settings.index_shards,
    )
    try:
        await index.count()
    except StoreFailed as error:
        await index.aclose()
        address = urlsplit(settings.index_url)
        raise StoreFailed(f"FOA_INDEX_URL, {address.scheme}://{address.netloc.rpartition('@')[2]}: {error}") from error
    return index


def collection_of(settings: Settings, embedder: Embedder, orchestrator: str) -> str:
    """Name a collection of a server: one for each orchestrator and embedder, as none may take the other's agents out."""
    made_by = re.sub(r"[^A-Za-z0-9._-]+", "-", embedder.id)[:100]
    return f"{settings.index_collection}-{orchestrator}-{made_by}-{embedder.dimension}"


# ── a folder ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _claim(settings: Settings, embedder: Embedder, folder: Path) -> None:
    """Have in the folder an index of these vectors in this many parts, or none.

    Raises:
        StoreFailed: it cannot be read or written, or holds something else.
    """
    wanted = _Made(v=_FORMAT, embedder=embedder.id, dimension=embedder.dimension, shards=settings.index_shards)
    file = folder / "registry.json"
    try:
        if (found := _read(file)) == wanted:
            return
        if found is not None:
            log.warning(
                "%s has an index of other vectors or parts: it is built again", folder, extra={"event": "index_emptied"}
            )
        elif others := sorted(path.name for path in folder.iterdir() if path.name not in _OURS):
            raise StoreFailed(f"{folder} is no folder of an index, it has {others[0]}: give an empty one in FOA_INDEX_DIR")
        if (index := folder / "index").exists():
            shutil.rmtree(index)
        part = file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(wanted))
        part.replace(file)
    except OSError as error:
        why = error.strerror or error
        raise StoreFailed(f"the folder of the index, {folder}, cannot be written: {why}") from error


def _read(file: Path) -> _Made | None:
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Made)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise StoreFailed(
            f"{file} cannot be read ({error}): remove {file.parent}, it is made again from the agents' cards"
        ) from error
