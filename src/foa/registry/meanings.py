"""What the registry asks the embedder: whether c is the embedding of the card's own text, and what an agent is found under.

An embedder that hangs costs one wait of `embed_seconds`; until the next try is due, nothing more is asked of it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foa.errors import FalseClaim, ModelUnreachable
from foa.ports import Clock, Embedder
from foa.registry.admission import RegistryLimits
from foa.registry.calibration import calibration_of
from foa.registry.texts import profile_texts, search_texts, text_lie, text_of
from foa.values.vcv import Matrix, Vcv

_AT_ONCE = 256  #: texts that `embed_seconds` are for, so that a slow embedder is not taken for one that hangs


class Meanings:
    """The registry's way to its embedder.

    Raises (every method that asks): ModelUnreachable.
    """

    def __init__(self, embedder: Embedder, limits: RegistryLimits, clock: Clock) -> None:
        self._embedder = embedder
        self._calibration = calibration_of(embedder.id)
        self._limits = limits
        self._clock = clock
        self._silent_until = 0.0

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; shape (len(texts), d)."""
        if not texts:
            return np.zeros((0, self._embedder.dimension), np.float32)
        if (left := self._silent_until - self._clock.monotonic()) > 0:
            raise ModelUnreachable(f"the embedder {self._embedder.id} hung, and is asked again in {left:.0f} s")
        parts = [await self._embed_part(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        return np.concatenate(parts)

    async def requests(self, texts: Sequence[str]) -> Matrix:
        """Embed requests as the router does, so that they compare with those it asks about; shape (len(texts), d)."""
        return await self.embed([self._calibration.request(text) for text in texts])

    async def _embed_part(self, texts: Sequence[str]) -> Matrix:
        limit = asyncio.timeout(self._limits.embed_seconds)
        try:
            async with limit:
                return await self._embedder.embed(texts)
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._silent_until = self._clock.monotonic() + self._limits.again_seconds
            raise ModelUnreachable(
                f"the embedder {self._embedder.id} did not answer within {self._limits.embed_seconds:g} s"
            ) from error

    async def checked(self, vcvs: Sequence[Vcv]) -> list[Vcv | FalseClaim]:
        """Compare every c with the embedding of its card's text; put ours in where another embedder made it."""
        checked: list[Vcv | FalseClaim] = [self._wrong_width(vcv) or vcv for vcv in vcvs]
        opened = [(i, vcv) for i, vcv in enumerate(checked) if isinstance(vcv, Vcv) and self._must_embed(vcv)]
        vectors = await self.embed([text_of(vcv) for _, vcv in opened])
        for (i, vcv), ours in zip(opened, vectors, strict=True):
            if self._ours(vcv):
                checked[i] = text_lie(vcv, ours, self._limits.text_similarity) or vcv
            else:
                # e of another embedder is no evidence: a row of zeros gives g = 1/2
                checked[i] = replace(vcv, c=ours, e=np.zeros_like(ours))
        return checked

    async def views(self, vcvs: Sequence[Vcv]) -> list[Matrix]:
        """Give the vectors that each agent is found under, the nearest of which counts (MaxSim); unit rows.

        The first is of what it says of itself, the others are of its examples and skills, one by one.
        """
        profiles = [profile_texts(vcv, self._calibration) for vcv in vcvs]
        texts = [
            [*profile, *search_texts(vcv, self._calibration, self._limits.search_vectors)]
            for profile, vcv in zip(profiles, vcvs, strict=True)
        ]
        vectors = await self.embed([text for some in texts for text in some])
        ends = np.cumsum([len(some) for some in texts])
        parts = [vectors[end - len(some) : end] for end, some in zip(ends, texts, strict=True)]
        return [self._view(vcv, len(profile), part) for vcv, profile, part in zip(vcvs, profiles, parts, strict=True)]

    def _view(self, vcv: Vcv, profile: int, rows: Matrix) -> Matrix:
        if not profile:
            return np.vstack([vcv.c, rows])
        told = rows[0] + self._calibration.name * rows[1]
        return np.vstack([told / np.linalg.norm(told), rows[profile:]])

    def _wrong_width(self, vcv: Vcv) -> FalseClaim | None:
        if not self._ours(vcv) or len(vcv.c) == self._embedder.dimension:
            return None
        given = f"{vcv.embedder} gives {self._embedder.dimension}"
        return FalseClaim(f"agent {vcv.agent_id}: c has {len(vcv.c)} dimensions, {given}")

    def _ours(self, vcv: Vcv) -> bool:
        return vcv.embedder == self._embedder.id

    def _must_embed(self, vcv: Vcv) -> bool:
        return self._limits.check_text or not self._ours(vcv)
