"""What every embedder does with its vectors: unit length, a stand-in for empty texts, a bounded cache."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from foa.ports import Embedder
from foa.values.vcv import Matrix, Vector

MAX_TEXT = 20_000  #: characters of a text that are embedded; what is over has no weight in a mean


def empty_vector(dimension: int) -> Vector:
    """The unit vector that stands for a text without words: every component the same, so near to nothing in particular."""
    return np.full(dimension, 1.0 / math.sqrt(dimension), dtype=np.float32)


def unit_rows(rows: Matrix) -> Matrix:
    """Scale each row to unit length; a row of zeros or with anything not finite becomes `empty_vector`.

    Args:
        rows: shape (n, d), float32.

    Returns:
        Shape (n, d), float32, a new array.
    """
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    scaled = np.empty(rows.shape, dtype=np.float32)
    scaled[usable] = rows[usable] / lengths[usable, None]
    scaled[~usable] = empty_vector(rows.shape[1])
    return scaled


class CachedEmbedder:
    """An embedder that remembers the last `capacity` texts: Specs, skills and tasks come again and again."""

    def __init__(self, inner: Embedder, *, capacity: int = 4096) -> None:
        """Wrap an embedder.

        Raises:
            ValueError: a capacity below 1.
        """
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._inner = inner
        self._capacity = capacity
        self._known: OrderedDict[str, Vector] = OrderedDict()

    @property
    def id(self) -> str:
        """As the inner embedder: a cache changes no vector."""
        return self._inner.id

    @property
    def dimension(self) -> int:
        """As the inner embedder."""
        return self._inner.dimension

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; only texts that are not known reach the inner embedder, each once.

        Raises:
            ModelUnreachable: the inner embedder's endpoint does not answer.
        """
        # taken before the await: another caller may push a known text out meanwhile
        found = {text: self._known[text] for text in texts if text in self._known}
        new = list(dict.fromkeys(text for text in texts if text not in found))
        if new:
            found |= zip(new, await self._inner.embed(new), strict=True)
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = found[text]
        self._remember(texts, rows)
        return rows

    def _remember(self, texts: Sequence[str], rows: Matrix) -> None:
        for row, text in enumerate(texts):
            if text not in self._known:
                self._known[text] = rows[row].copy()
            self._known.move_to_end(text)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
