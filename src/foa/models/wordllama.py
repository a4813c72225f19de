"""The embedded embedder: WordLlama, 256-d static vectors, 15 to 40 µs a text, weights inside its own package.

Source: Dillon Carter, WordLlama: token embeddings taken from language models, averaged over the text's tokens.
"""

import asyncio
import hashlib
import importlib.util
import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from foa.errors import ModelUnreachable
from foa.models.vectors import MAX_TEXT, unit_rows
from foa.values.vcv import Matrix

_NAME = "wordllama-l2-supercat"
_WEIGHTS = "l2_supercat_256.safetensors"
_DIMENSION = 256
_INLINE = 256  #: texts embedded on the event loop; more go to a thread
_INLINE_CHARACTERS = 40_000  #: about 5 ms
_AT_ONCE = 64  #: texts whose tokens are in memory


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    def encode_batch_fast(self, input: list[str], *, add_special_tokens: bool) -> list[_Encoding]: ...  # noqa: A002
    def no_padding(self) -> None: ...


class _Inference(Protocol):
    tokenizer: _Tokenizer
    embedding: Matrix


class WordLlamaEmbedder:
    """ψ without a server. The weights (16 MB) load at the first use, in a thread, once for all embedders of the process."""

    def __init__(self) -> None:
        """Look the weights up; nothing is loaded yet.

        Raises:
            ModelUnreachable: the package is not installed.
        """
        self._folder = _folder()

    @property
    def id(self) -> str:
        """E.g. `wordllama-l2-supercat-256:64b47a2d`: the hash is of the weights file."""
        return f"{_NAME}-{_DIMENSION}:{_fingerprint(self._folder)}"

    @property
    def dimension(self) -> int:
        """256."""
        return _DIMENSION

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; shape (len(texts), 256), float32, unit rows. Only the first 20,000 characters of a text count.

        Raises:
            ModelUnreachable: the weights are damaged.
        """
        few = len(texts) <= _INLINE and sum(len(text) for text in texts) <= _INLINE_CHARACTERS
        if few and _loaded.is_set():
            return _embed(self._folder, texts)
        return await asyncio.to_thread(_embed, self._folder, list(texts))


_loading = threading.Lock()
_loaded = threading.Event()


def _embed(folder: Path, texts: Sequence[str]) -> Matrix:
    inference = _inference(folder)
    rows = np.zeros((len(texts), _DIMENSION), dtype=np.float32)
    for start in range(0, len(texts), _AT_ONCE):
        part = [text[:MAX_TEXT] for text in texts[start : start + _AT_ONCE]]
        found = inference.tokenizer.encode_batch_fast(part, add_special_tokens=False)
        for row, (text, encoding) in enumerate(zip(part, found, strict=True), start):
            if text.strip() and encoding.ids:
                # what the package's own `embed` gives, bit for bit, in a third of its time
                inference.embedding.take(encoding.ids, axis=0, mode="clip").mean(axis=0, out=rows[row])
    return unit_rows(rows)


def _inference(folder: Path) -> _Inference:
    with _loading:
        loaded = _load(folder)
        _loaded.set()
        return loaded


@lru_cache(maxsize=1)
def _load(folder: Path) -> _Inference:
    root, guard = logging.getLogger(), logging.NullHandler()
    root.addHandler(guard)  # the package calls logging.basicConfig, which does nothing where there is a handler
    try:
        from wordllama import WordLlama

        loaded = WordLlama.load(cache_dir=folder, dim=_DIMENSION, disable_download=True)
        inference = cast("_Inference", loaded)
        inference.tokenizer.no_padding()
        return inference
    except (ImportError, OSError, ValueError) as error:
        raise ModelUnreachable(
            f"WordLlama's weights do not load ({error}). Install it again: pip install 'foa[local]'"
        ) from error
    finally:
        root.removeHandler(guard)


@lru_cache(maxsize=1)
def _fingerprint(folder: Path) -> str:
    with (folder / "weights" / _WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def _folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ModelUnreachable(
            "the embedder WordLlama is not installed: pip install 'foa[local]', or set FOA_EMBEDDER_URL to an "
            "OpenAI-compatible endpoint with embeddings"
        )
    return Path(spec.origin).parent
