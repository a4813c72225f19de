"""Shards in layers: everything new goes into the fresh one, which is searched exactly; builds turn layers into an index.

    upsert ─► fresh ──(enough points)──► frozen ──(a process of its own builds)──► sealed (HNSW)
    search ─► fresh + frozen + sealed, every point at once

While a build runs its sources are not written: what leaves them is masked, and deleted from the result when it is there.
A build takes the sealed shards in that are not more than twice what it brings, so their number stays logarithmic.
"""

import logging
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from foa.errors import StoreFailed
from foa.index.builder import BuildJob
from foa.index.shard import EdgeOptions, Shard, digest, labels, point_id
from foa.ports import Hit, IndexPoint, IndexQuery
from foa.values.ids import AgentId

log = logging.getLogger(__name__)

_BATCH = 512


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Which shards there are, oldest first; the last one is the fresh one."""

    v: int = 1
    dimension: int
    shards: tuple[str, ...]
    next: int


@dataclass(slots=True, eq=False)
class _Layer:
    shard: Shard
    dead: set[int] = field(default_factory=set[int])  #: point ids that are masked
    building: bool = False


@dataclass(slots=True, eq=False)
class _Home:
    layer: _Layer
    vectors: int
    digest: int
    labels: tuple[str, ...]


class Partition:
    """The layers of one folder. Synchronous, for one thread."""

    def __init__(self, path: Path, *, dimension: int, options: EdgeOptions) -> None:
        self._path = path
        self._dimension = dimension
        self._options = options
        self._homes: dict[AgentId, _Home] = {}
        self._names: dict[int, AgentId] = {}
        self._labels: Counter[str] = Counter()
        self._next = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._layers: list[_Layer] = []
        self._load()

    def __len__(self) -> int:
        return len(self._homes)

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; a point that is there already, unchanged, costs nothing."""
        changed = [(point, mark) for point in points if (mark := digest(point)) != self._digest(point.agent)]
        for start in range(0, len(changed), _BATCH):
            batch = {point.agent: (point, mark) for point, mark in changed[start : start + _BATCH]}
            self.remove([agent for agent in batch if agent in self._homes])
            self._fresh.shard.upsert(list(batch.values()))
            for point, mark in batch.values():
                self._settle(point, mark)

    def remove(self, agents: Iterable[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        buried: dict[int, tuple[_Layer, list[int]]] = {}
        for agent in agents:
            home = self._homes.pop(agent, None)
            if home is None:
                continue
            ids = [point_id(agent, i) for i in range(home.vectors)]
            for one in ids:
                self._names.pop(one, None)
            self._labels.subtract(home.labels)
            buried.setdefault(id(home.layer), (home.layer, []))[1].extend(ids)
        for layer, ids in buried.values():
            self._bury(layer, ids)

    def _settle(self, point: IndexPoint, mark: int) -> None:
        counted = labels(point.policies, point.bloom, point.kinds)
        count = 1 + len(point.more_vectors)
        self._homes[point.agent] = _Home(self._fresh, count, mark, counted)
        self._labels.update(counted)
        for i in range(count):
            self._names[point_id(point.agent, i)] = point.agent

    def _bury(self, layer: _Layer, ids: Sequence[int]) -> None:
        if layer.building:
            layer.dead.update(ids)
        else:
            layer.shard.delete(ids)

    def _digest(self, agent: AgentId) -> int:
        home = self._homes.get(agent)
        return home.digest if home else -1

    # ── searching ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def search(self, query: IndexQuery) -> list[Hit]:
        """The best by vector, and where words are asked for, as many again by words; best vector first."""
        if not self._homes:
            return []
        query = self._simplified(query)
        similarity = self._nearest(query)
        lexical = self._by_words(query) if query.text and self._options.words else {}
        if missing := [agent for agent in lexical if agent not in similarity]:
            similarity |= self._similarities(query, missing)
        hits = [Hit(agent=a, similarity=s, lexical=lexical.get(a, 0.0)) for a, s in similarity.items()]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.agent))

    def _nearest(self, query: IndexQuery) -> dict[AgentId, float]:
        matches = self._matches(query)
        best: dict[AgentId, float] = {}
        for layer in self._layers:
            for agent, score in self._layer_nearest(layer, query, matches).items():
                best[agent] = max(score, best.get(agent, -1.0))
        order = sorted(best, key=lambda agent: (-best[agent], agent))[: query.k]
        return {agent: best[agent] for agent in order}

    def _layer_nearest(self, layer: _Layer, query: IndexQuery, matches: int) -> dict[AgentId, float]:
        """The best k agents of one layer; asked again, wider, while masked points or sister vectors crowd them out."""
        limit, size = query.k, len(layer.shard)
        while True:
            found = layer.shard.nearest(query, limit=limit, matches=matches)
            agents: dict[AgentId, float] = {}
            for one, score in found:
                if one not in layer.dead and (agent := self._names.get(one)) is not None:
                    agents.setdefault(agent, score)
            if len(agents) >= query.k or len(found) < limit or limit >= size:
                return dict(list(agents.items())[: query.k])
            limit = min(size, limit * 4)

    def _by_words(self, query: IndexQuery) -> dict[AgentId, float]:
        best: dict[AgentId, float] = {}
        for layer in self._layers:
            for one, score in layer.shard.by_words(query, limit=query.k + min(len(layer.dead), query.k)):
                if one not in layer.dead and (agent := self._names.get(one)) is not None:
                    best[agent] = score
        order = sorted(best, key=lambda agent: (-best[agent], agent))[: query.k]
        return {agent: best[agent] for agent in order}

    def _similarities(self, query: IndexQuery, agents: Sequence[AgentId]) -> dict[AgentId, float]:
        """The best cosine of each agent, of all its vectors."""
        found: dict[AgentId, float] = {}
        for layer in self._layers:
            homes = [(agent, self._homes[agent]) for agent in agents]
            ids = [point_id(agent, i) for agent, home in homes if home.layer is layer for i in range(home.vectors)]
            for one, score in (layer.shard.similarities(query.vector, ids) if ids else {}).items():
                agent = self._names[one]
                found[agent] = max(score, found.get(agent, -1.0))
        return found

    def _matches(self, query: IndexQuery) -> int:
        """At most how many agents pass the filter: the rarest label of it."""
        asked = labels(query.policies, query.bloom, [query.kind] if query.kind else ())
        return min((self._labels[label] for label in asked), default=len(self._homes))

    def _simplified(self, query: IndexQuery) -> IndexQuery:
        """Drop the conditions that every agent here meets: the engine is faster without."""
        every = len(self._homes)
        return replace(
            query,
            policies=frozenset(policy for policy in query.policies if self._labels[f"p:{policy}"] < every),
            bloom=[position for position in query.bloom if self._labels[f"b:{position}"] < every],
            kind=query.kind if self._labels[f"k:{query.kind}"] < every else "",
        )

    # ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _fresh(self) -> _Layer:
        return self._layers[-1]

    def wants_build(self) -> bool:
        """Tell whether enough is unindexed and no build runs."""
        return self._process is None and len(self._fresh.shard) >= self._options.index_from

    def start_build(self) -> subprocess.Popen[bytes]:
        """Freeze the fresh layer and start the process that indexes it; `finish_build` is due when it has ended."""
        bring = len(self._fresh.shard)
        sources: list[_Layer] = [self._fresh]
        for layer in sorted(self._layers[:-1], key=lambda layer: len(layer.shard)):
            if len(layer.shard) <= 2 * bring:
                sources.append(layer)
                bring += len(layer.shard)
        self._layers.append(_Layer(self._new_shard()))
        for layer in sources:
            layer.shard.flush()
            layer.building = True
        target = self._new_path()
        job = BuildJob(
            sources=tuple(str(layer.shard.path) for layer in sources),
            target=str(target),
            dimension=self._dimension,
            options=self._options,
        )
        file = target.with_suffix(".job")
        file.write_bytes(msgspec.json.encode(job))
        self._process = subprocess.Popen([sys.executable, "-m", "foa.index.builder", str(file)])
        self._target = target
        return self._process

    def finish_build(self) -> bool:
        """Swap the result of the ended process in; False where it failed, and everything stays as it was."""
        if self._process is None:
            return False
        ok, self._process = self._process.wait() == 0, None
        sources = [layer for layer in self._layers if layer.building]
        self._target.with_suffix(".job").unlink(missing_ok=True)
        if ok:
            self._swap(sources)
        else:
            level = logging.DEBUG if self._stopping else logging.WARNING
            log.log(
                level, "an index build failed; its points are still searched one by one", extra={"event": "build_failed"}
            )
            self._thaw(sources)
            _remove_folders(self._target.parent.glob(f"{self._target.name}*"))
        self._save()
        return ok

    def _swap(self, sources: Sequence[_Layer]) -> None:
        sealed = _Layer(Shard(self._target, dimension=self._dimension, options=self._options))
        sealed.shard.delete(sorted(set[int]().union(*(layer.dead for layer in sources))))
        gone = {id(layer) for layer in sources}
        for home in self._homes.values():
            if id(home.layer) in gone:
                home.layer = sealed
        self._layers = [sealed, *(layer for layer in self._layers if id(layer) not in gone)]
        for layer in sources:
            layer.shard.close()
            shutil.rmtree(layer.shard.path, ignore_errors=True)

    def _thaw(self, sources: Sequence[_Layer]) -> None:
        for layer in sources:
            layer.building = False
            layer.shard.delete(sorted(layer.dead))
            layer.dead.clear()

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def close(self) -> None:
        """Stop a build, write everything to disk and let go."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()
            self.finish_build()
        self._save()
        for layer in self._layers:
            layer.shard.close()

    def _load(self) -> None:
        file = self._path / "manifest.json"
        try:
            manifest = msgspec.json.decode(file.read_bytes(), type=_Manifest) if file.exists() else None
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreFailed(
                f"{file}: cannot read the index ({error}); remove the folder, it will be built again"
            ) from error
        if manifest is not None and manifest.dimension == self._dimension:
            self._next = manifest.next
            for name in manifest.shards:
                self._layers.append(_Layer(Shard(self._path / name, dimension=self._dimension, options=self._options)))
                self._recall(self._layers[-1])
        keep = {layer.shard.path for layer in self._layers}
        self._path.mkdir(parents=True, exist_ok=True)
        _remove_folders(folder for folder in self._path.iterdir() if folder not in keep)
        if not self._layers:
            self._layers.append(_Layer(self._new_shard()))
        self._save()

    def _recall(self, layer: _Layer) -> None:
        for row in layer.shard.rows():
            self.remove([row.agent])  # a later layer has the later word
            self._homes[row.agent] = _Home(layer, row.vectors, row.digest, row.labels)
            self._labels.update(row.labels)
            self._names |= {point_id(row.agent, i): row.agent for i in range(row.vectors)}

    def _save(self) -> None:
        for layer in self._layers:
            layer.shard.flush()
        names = tuple(layer.shard.path.name for layer in self._layers)
        part = self._path / "manifest.part"
        part.write_bytes(msgspec.json.encode(_Manifest(dimension=self._dimension, shards=names, next=self._next)))
        part.replace(self._path / "manifest.json")

    def _new_shard(self) -> Shard:
        return Shard(self._new_path(), dimension=self._dimension, options=self._options)

    def _new_path(self) -> Path:
        self._next += 1
        return self._path / f"layer-{self._next:06}"


def _remove_folders(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix in (".job", ".part"):
            path.unlink(missing_ok=True)
