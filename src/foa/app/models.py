"""Which language model and which embedder this process uses, by its settings."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from foa.app.settings import Settings
from foa.errors import BadInput
from foa.models.embedded import EmbeddedModel
from foa.models.endpoint import EndpointModel
from foa.models.endpoint_embedder import EndpointEmbedder
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder, Model


@asynccontextmanager
async def open_model(settings: Settings) -> AsyncGenerator[Model]:
    """The endpoint's model if one is set, else the embedded one."""
    if settings.model_url:
        model: Model = EndpointModel(
            settings.model_url,
            settings.model,
            settings.model_key or None,
            drives_tools=settings.model_tools,
        )
    else:
        model = EmbeddedModel(settings.cache_dir)
    try:
        yield model
    finally:
        await model.aclose()


@asynccontextmanager
async def open_embedder(settings: Settings) -> AsyncGenerator[Embedder]:
    """The embedded static embedder, or the one at an endpoint; answers are remembered.

    Raises:
        BadInput: an embedder is named and no endpoint is.
    """
    if settings.embedder == "wordllama":
        yield CachedEmbedder(WordLlamaEmbedder())
        return
    url = settings.embedder_url or settings.model_url
    if not url:
        raise BadInput(f"FOA_EMBEDDER is {settings.embedder!r}: give its endpoint in FOA_EMBEDDER_URL")
    inner = EndpointEmbedder(url, settings.embedder, settings.embedder_dimension, settings.model_key or None)
    try:
        yield CachedEmbedder(inner)
    finally:
        await inner.aclose()
