"""A registry full of made agents, in a folder that can be kept: filled once, measured as often as one likes.

The profiles are real authors' text, recombined (`_profiles.py`, seed 1); the vectors are WordLlama's of these texts. Policy
labels are drawn (seed 7): all agents have `p100`, one in ten `p10`, one in a hundred `p1`, one in a thousand `p01`.
Agents go straight into roster and index: signing a million cards would measure something else.
"""

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks._profiles import profiles
from foa.app.clock import SystemClock
from foa.index.edge import EdgeIndex
from foa.index.shard import EdgeOptions
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import IndexPoint
from foa.registry.admission import RegistryLimits
from foa.registry.bloom import bloom, set_positions
from foa.registry.registry import Registry
from foa.registry.shelf import FileShelf
from foa.values.ids import AgentId
from foa.values.resources import Price, Resources
from foa.values.vcv import Matrix, Vcv, Vector

LABELS = {"p100": 1.0, "p10": 0.1, "p1": 0.01, "p01": 0.001}
_CHUNK = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds."""

    open: float  #: the index of a kept folder
    fill: float  #: roster and index
    build: float  #: after the last agent was in


class Fleet:
    """Agents of one number, in one folder."""

    def __init__(self, folder: Path, count: int, embedder: WordLlamaEmbedder) -> None:
        self.count = count
        self._folder = folder / f"agents-{count}"
        self._embedder = embedder
        rng = np.random.default_rng(7)
        self.flags = {label: rng.random(count) < share for label, share in LABELS.items()}

    async def prepare(self, options: EdgeOptions, shards: int) -> None:
        """Have vectors and index in the folder, by one build."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self._embed()
        if not self._index(options).exists():
            build = self._index(options).with_suffix(".part")
            index = EdgeIndex(
                self._embedder.dimension,
                path=build,
                shards=shards,
                options=replace(options, index_from=self.count // shards),
            )
            for vcvs in self._agents():
                await index.upsert([point(vcv) for vcv in vcvs])
            await index.settled()
            await index.aclose()
            build.rename(self._index(options))

    async def open(self, place: Path, options: EdgeOptions, shards: int) -> tuple[Registry, Spent]:
        """Fill a registry in another folder; the index is a copy of the kept one where there is one."""
        await self._embed()
        if self._index(options).exists():
            shutil.copytree(self._index(options), place / "index")
        started = time.perf_counter()
        index = EdgeIndex(self._embedder.dimension, path=place / "index", shards=shards, options=options)
        opened = time.perf_counter() - started
        limits = RegistryLimits(updates_per_second=1e6, updates_burst=10**6)
        registry = Registry(index, self._embedder, clock=SystemClock(), limits=limits, shelf=FileShelf(place / "cards.db"))
        new, filled = await index.count() != self.count, 0.0
        for vcvs in self._agents():
            started = time.perf_counter()
            for vcv in vcvs:
                registry.roster.put(vcv, vcv.e)
            if new:
                await index.upsert([point(vcv) for vcv in vcvs])
            filled += time.perf_counter() - started
        started = time.perf_counter()
        await index.settled()
        return registry, Spent(open=opened, fill=filled, build=time.perf_counter() - started)

    def texts(self) -> Iterator[str]:
        """Every agent's text, by its number."""
        return profiles(self.count)

    def vectors(self) -> Matrix:
        """Every agent's c, by its number."""
        return np.fromfile(self._folder / "vectors.f32", np.float32).reshape(self.count, -1)

    def _index(self, options: EdgeOptions) -> Path:
        return self._folder / ("index-quantised" if options.quantised else "index")

    async def _embed(self) -> None:
        file = self._folder / "vectors.f32"
        if file.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        part, source = file.with_suffix(".part"), profiles(self.count)
        with part.open("wb") as out:
            while texts := list(itertools.islice(source, _CHUNK)):
                (await self._embedder.embed(texts)).tofile(out)
        part.rename(file)

    def _agents(self) -> Iterator[list[Vcv]]:
        source, width = profiles(self.count), self._embedder.dimension
        with (self._folder / "vectors.f32").open("rb") as file:
            for first in range(0, self.count, _CHUNK):
                texts = list(itertools.islice(source, _CHUNK))
                vectors = np.fromfile(file, np.float32, len(texts) * width).reshape(len(texts), width)
                cleared = [{label for label, flag in self.flags.items() if flag[first + i]} for i in range(len(texts))]
                yield [made(first + i, text, vectors[i], cleared[i]) for i, text in enumerate(texts)]


def made(i: int, text: str, vector: Vector, policies: set[str]) -> Vcv:
    """Agent number i."""
    skills = tuple(word for word in text.lower().split() if len(word) > 7)[:4]
    return Vcv(
        agent_id=AgentId(f"agent-{i:07}"), version=1, name=f"Agent {i}", description=text, skills=skills, c=vector,
        s=bloom(skills), r=Resources(price=Price(usd_per_call=0.001 * (i % 17)), latency_seconds=1.0 + i % 5),
        p=frozenset(policies), e=vector, embedder="bench",
    )  # fmt: skip


def point(vcv: Vcv) -> IndexPoint:
    """An agent as the registry indexes it, without vectors beside c."""
    return IndexPoint(
        agent=vcv.agent_id, vector=vcv.c, text=vcv.description, bloom=set_positions(vcv.s), policies=vcv.p, kinds=vcv.kinds
    )
