"""Which language model and which embedder this process uses, by its settings.

The clients of models are an optional part (`foa[local]`) and slow to import, so they are loaded when a model is first
asked: a process that only looks, or whose agents are functions, never does.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from foa.app.settings import Settings
from foa.errors import BadInput, ModelUnreachable
from foa.models.minilm import MiniLmEmbedder
from foa.models.vectors import CachedEmbedder
from foa.models.weights import SMOLLM2
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder, Model, ModelReply, ModelRequest

_PORTS = {"http": 80, "https": 443}
_EMBEDDED: Mapping[str, Callable[[], Embedder]] = {"wordllama": WordLlamaEmbedder, "minilm": MiniLmEmbedder}
_MISSING = "the clients of language models are not installed: `pip install 'foa[local]'` adds them"


class ModelOnDemand:
    """The endpoint's model if one is set, else the embedded one; loaded at the first question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: Model | None = None
        self._loading = asyncio.Lock()

    @property
    def name(self) -> str:
        """For traces and bills."""
        return self._settings.model or SMOLLM2.name

    @property
    def drives_tools(self) -> bool:
        """What the settings say of the endpoint's model; the embedded one cannot."""
        return bool(self._settings.model_url) and self._settings.model_tools

    async def ask(self, request: ModelRequest) -> ModelReply:
        """See `foa.ports.Model.ask`.

        Raises:
            ModelUnreachable: also where the optional part is not installed.
        """
        async with self._loading:
            if self._model is None:
                self._model = await asyncio.to_thread(_load, self._settings)
        return await self._model.ask(request)

    async def aclose(self) -> None:
        """Close what was loaded."""
        if self._model is not None:
            await self._model.aclose()


async def check_endpoint(settings: Settings, *, seconds: float = 5.0) -> None:
    """See whether anything listens where the settings say the model is; nothing is sent.

    Raises:
        ModelUnreachable: nobody does. Said before work begins, because agents would answer by rule for the whole job.
    """
    if not settings.model_url:
        return
    parts = urlsplit(settings.model_url)
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORTS.get(parts.scheme, 80))
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise ModelUnreachable(
            f"no model answers at {settings.model_url}: is it running, and is FOA_MODEL_URL right? For Ollama: "
            f"`ollama serve`, then `ollama pull {settings.model}`; without FOA_MODEL_URL the embedded model answers"
        ) from error
    writer.close()


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncGenerator[Model]:
    """The model of the settings, closed when the block ends."""
    model = ModelOnDemand(settings)
    try:
        yield model
    finally:
        await model.aclose()


@asynccontextmanager
async def open_embedder(settings: Settings) -> AsyncGenerator[Embedder]:
    """One of the embedded embedders, or the one at an endpoint; answers are remembered.

    Raises:
        BadInput: an embedder is named and no endpoint is.
        ModelUnreachable: the optional part is not installed.
    """
    if embedded := _EMBEDDED.get(settings.embedder):
        yield CachedEmbedder(embedded())
        return
    url = settings.embedder_url or settings.model_url
    if not url:
        raise BadInput(
            f"FOA_EMBEDDER is {settings.embedder!r}: give its endpoint in FOA_EMBEDDER_URL, or take one of those that need "
            f"none ({', '.join(_EMBEDDED)})"
        )
    try:
        found = importlib.import_module("foa.models.endpoint_embedder")
    except ModuleNotFoundError as error:
        raise ModelUnreachable(_MISSING) from error
    inner = found.EndpointEmbedder(url, settings.embedder, settings.embedder_dimension, settings.model_key or None)
    try:
        yield CachedEmbedder(inner)
    finally:
        await inner.aclose()


def _load(settings: Settings) -> Model:
    try:
        if not settings.model_url:
            return importlib.import_module("foa.models.embedded").EmbeddedModel(settings.cache_dir)
        return importlib.import_module("foa.models.endpoint").EndpointModel(
            settings.model_url, settings.model, settings.model_key or None, drives_tools=settings.model_tools
        )
    except ModuleNotFoundError as error:
        raise ModelUnreachable(_MISSING) from error
