"""Two pieces of evidence that an agent can do something, meaning and words, as one."""

import numpy as np

from foa.values.vcv import Vector


def fuse(similarity: Vector, lexical: Vector, kappa: float) -> Vector:
    """Join two pieces of evidence, meaning and words: 1 − (1 − max(0, cosine)) · exp(−κ · BM25).

    Either may convince alone (a noisy or): where descriptions are short and loose BM25 is small and the cosine decides,
    where a rare word is named BM25 is large and decides. Without a word in common it is max(0, cosine).

    Args:
        similarity: cosines, shape (n,).
        lexical: BM25 scores, not negative, shape (n,).
        kappa: what one point of BM25 convinces, by the embedder that the cosines are of.

    Returns:
        Shape (n,), float32, 0 to 1.
    """
    return (1 - (1 - np.clip(similarity, 0, 1)) * np.exp(-kappa * lexical)).astype(np.float32)
