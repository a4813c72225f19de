"""Embeddings from an OpenAI-compatible endpoint: Ollama, vLLM, llama.cpp, OpenAI."""

import asyncio
import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from openai import APIConnectionError, APIStatusError
from pydantic_ai.exceptions import ModelHTTPError

from foa.errors import ModelUnreachable
from foa.models import faults
from foa.models.connection import connect
from foa.models.vectors import MAX_TEXT, empty_vector, unit_rows
from foa.values.vcv import Matrix

_BATCH = 64  #: texts in one request


class _Embedding(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Embedding]


class EndpointEmbedder:
    """ψ behind an OpenAI-compatible address. Belongs to one event loop; close it with `aclose`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        dimension: int,
        api_key: str | None = None,
        *,
        prefix: str = "",
        at_once: int = 2,
        attempts: int = 3,
        seconds: float = 60.0,
        proxied: bool = True,
    ) -> None:
        """Point at an endpoint; nothing is sent yet.

        Args:
            base_url: address of the API, usually ending in `/v1`.
            model: the embedding model's name there.
            dimension: length of the vectors wanted. Longer ones are cut to it and scaled again, as Matryoshka models
                (Nomic Embed 768 → 256) allow.
            api_key: sent as a bearer token; None where none is needed.
            prefix: put before every text, where the model was trained with one (`clustering: ` for Nomic Embed).
            at_once: `embed` calls under way at the same time; each sends 64 texts a request, one request after the other.
            attempts: how often a request is sent where the server answers 429 or 5xx or cuts the connection.
            seconds: most that one `embed` may take.
            proxied: obey the proxy settings of the environment; off for a loopback address.

        Raises:
            ValueError: not an http(s) address, no model name, or a number below 1.
        """
        if not model or dimension < 1 or at_once < 1:
            raise ValueError("model must be named, dimension and at_once must be at least 1")
        self.base_url = base_url
        self._model_id = model
        self._dimension = dimension
        self._prefix = prefix
        self._seconds = seconds
        self._slots = asyncio.Semaphore(at_once)
        self._provider = connect(base_url, api_key, attempts=attempts, seconds=seconds, proxied=proxied)

    @property
    def id(self) -> str:
        """E.g. `nomic-embed-text-256:5d41402a`. An endpoint does not show its weights: the hash is of name and prefix."""
        digest = hashlib.sha256(f"{self._model_id}\n{self._prefix}".encode()).hexdigest()
        return f"{self._model_id}-{self._dimension}:{digest[:8]}"

    @property
    def dimension(self) -> int:
        """As given."""
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; shape (len(texts), dimension), float32, unit rows. Only the first 20,000 characters of a text count.

        Raises:
            ModelUnreachable: no answer in time, or vectors that are not usable; the sentence says what to do.
        """
        rows = np.tile(empty_vector(self._dimension), (len(texts), 1))
        places = [place for place, text in enumerate(texts) if text.strip()]
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit, self._slots:
                for start in range(0, len(places), _BATCH):
                    batch = places[start : start + _BATCH]
                    rows[batch] = await self._request([f"{self._prefix}{texts[place][:MAX_TEXT]}" for place in batch])
        except TimeoutError as error:
            if not limit.expired():
                raise
            why = f"nothing within {self._seconds:g} s"
            raise ModelUnreachable(faults.unreachable(self.base_url, self._model_id, why=why)) from error
        return rows

    async def aclose(self) -> None:
        """Close the connections."""
        await self._provider.client.close()

    async def _request(self, texts: Sequence[str]) -> Matrix:
        embeddings = self._provider.client.embeddings.with_raw_response
        try:
            response = await embeddings.create(model=self._model_id, input=list(texts), encoding_format="float")
        except APIStatusError as error:
            refusal = ModelHTTPError(error.status_code, self._model_id, error.body)
            raise ModelUnreachable(faults.explain(refusal, url=self.base_url, model=self._model_id)) from error
        except APIConnectionError as error:
            raise ModelUnreachable(faults.unreachable(self.base_url, self._model_id, why=error.message)) from error
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unusable(f"not in OpenAI's format: {error}") from error
        return self._checked(answer.data, len(texts))

    def _checked(self, data: Sequence[_Embedding], expected: int) -> Matrix:
        if sorted(item.index for item in data) != list(range(expected)):
            raise self._unusable(f"{len(data)} vectors for {expected} texts")
        if any(len(item.embedding) < self._dimension for item in data):
            raise self._unusable(f"vectors shorter than the {self._dimension} wanted")
        rows = np.empty((expected, self._dimension), dtype=np.float32)
        with np.errstate(over="ignore"):
            for item in data:
                rows[item.index] = item.embedding[: self._dimension]
        if not np.isfinite(rows).all() or not rows.any(axis=1).all():
            raise self._unusable("a vector of zeros, or with a number too large")
        return unit_rows(rows)

    def _unusable(self, why: str) -> ModelUnreachable:
        return ModelUnreachable(
            f"the embedding model {self._model_id} at {self.base_url} gave unusable vectors ({why}). "
            "Name an embedding model with the right dimension"
        )
