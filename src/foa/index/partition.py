"""Shards in layers: everything new goes into the fresh one, which is searched exactly; builds turn layers into an index.

    upsert ─► fresh ──(enough points)──► frozen ──(a process of its own builds)──► sealed (HNSW)
    search ─► fresh + frozen + sealed, every point at once

While a build runs its sources are not written: what leaves them is masked, and deleted from the result when it is there.
A build takes the sealed shards in that are not more than twice what it brings, so their number stays logarithmic.
"""

import logging
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from foa.errors import StoreFailed
from foa.index.builder import BuildJob
from foa.index.counts import idf
from foa.index.files import all_to_disk, copy_folder
from foa.index.found import together
from foa.index.layer import Layer
from foa.index.shard import EdgeOptions, Shard, digest, labels
from foa.index.table import Row, Table
from foa.index.words import query_weights
from foa.ports import Hit, IndexPoint, IndexQuery
from foa.values.ids import AgentId

log = logging.getLogger(__name__)

_BATCH = 16  # agents that are stored at once: some 3 ms, in which the engine holds the interpreter
_FORMAT = 3  # of the folder; one of another format is emptied


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Which layers there are, oldest first; the last one is the fresh one."""

    v: int
    dimension: int
    layers: tuple[int, ...]
    sealed: tuple[int, ...]  #: those of them that are indexed
    next: int


class Partition:
    """The layers of one folder. Synchronous, for one thread, and another one while it builds."""

    def __init__(self, path: Path, *, dimension: int, options: EdgeOptions) -> None:
        self._path = path
        self._dimension = dimension
        self._options = options
        self._table = Table()
        self.written = 0  #: points stored since it was opened; those that were there, unchanged, are not counted
        self._unsaved = False
        self._next = 0
        self._due = options.index_from  # unindexed points from which a build starts
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()  # around _process and _stopping
        self._saving = threading.Lock()  # around the manifest
        self._stopping = False
        self._layers: list[Layer] = []  # oldest first; the last one is the fresh one
        self._load()

    def __len__(self) -> int:
        return len(self._table)

    def agents(self) -> list[AgentId]:
        """Everyone who is stored."""
        return list(self._table)

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; a point that is there already, unchanged, costs nothing."""
        latest = {point.agent: point for point in points}.values()
        changed = [(point, mark) for point in latest if (mark := digest(point)) != self._table.digest(point.agent)]
        self.written += len(changed)
        for start in range(0, len(changed), _BATCH):
            batch = {point.agent: (point, mark) for point, mark in changed[start : start + _BATCH]}
            self.remove(batch)
            rows = [(point, self._row(point, mark)) for point, mark in batch.values()]
            self._fresh.shard.upsert(rows)
            for _, row in rows:
                self._table.put(row, home=self._fresh.number)

    def remove(self, agents: Iterable[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        self._unsaved = True
        buried: dict[int, list[int]] = {}
        for agent in agents:
            if agent in self._table:
                home, ids = self._table.drop(agent)
                buried.setdefault(home, []).extend(ids)
        for layer in self._layers:
            layer.bury(buried.get(layer.number, ()))

    def _row(self, point: IndexPoint, mark: int) -> Row:
        return Row(
            agent=point.agent,
            slot=self._table.new_slot(),
            vectors=1 + len(point.more_vectors),
            digest=mark,
            labels=labels(point.policies, point.kinds),
        )

    # ── searching ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def search(self, query: IndexQuery) -> list[Hit]:
        """The best k by vector, and where there is a text by words as well; best first."""
        # asking an empty layer costs as much as asking a small one
        layers = [layer for layer in self._layers if len(layer.shard)]
        if not layers:
            return []
        simpler = self._simplified(query)
        words = self._weighed(query.text, layers)
        every = together([layer.search(simpler, words) for layer in layers])
        found = every if len(layers) == 1 else every.best(simpler)
        columns = zip(*(column.tolist() for column in found), strict=True)
        return [Hit(agent=self._table.agent(slot), similarity=near, lexical=worded) for slot, near, worded in columns]

    def _weighed(self, text: str, layers: Sequence[Layer]) -> dict[int, float]:
        """The words of a text that somebody here has, each weighed by its rarity among all."""
        if not text or not self._options.words:
            return {}
        words = query_weights(text)
        agents = len(self)
        having = map(sum, zip(*(layer.having(list(words)) for layer in layers), strict=True))
        rarity = [idf(agents, min(n, agents)) if n > 0 else 0.0 for n in having]
        return {word: weight * rare for (word, weight), rare in zip(words.items(), rarity, strict=True) if rare > 0}

    def _simplified(self, query: IndexQuery) -> IndexQuery:
        """Drop the conditions that every agent here meets: the engine is faster without."""
        every, count = len(self), self._table.labelled
        policies = frozenset(policy for policy in query.policies if count(f"p:{policy}") < every)
        kind = query.kind if count(f"k:{query.kind}") < every else ""
        return replace(query, policies=policies, kind=kind)

    # ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def _fresh(self) -> Layer:
        return self._layers[-1]

    # On this partition's thread: wants_build, freeze, swap. On a builder's, which may take its time: all else.
    def wants_build(self) -> bool:
        """Tell whether enough is unindexed."""
        return self._unindexed() >= self._due

    def prepare(self) -> Layer:
        """Make the layer that is to be the next fresh one."""
        return self._empty()

    def freeze(self, fresh: Layer) -> list[Layer]:
        """Write to this layer from now on; gives those to index: what is not yet, and what is of up to twice that size."""
        sources, bring = [layer for layer in self._layers if not layer.sealed], self._unindexed()
        for layer in sorted((layer for layer in self._layers if layer.sealed), key=lambda layer: len(layer.shard)):
            if len(layer.shard) <= 2 * bring:
                sources.append(layer)
                bring += len(layer.shard)
        for layer in sources:
            layer.building = True
        self._layers.append(fresh)
        self._save([])  # what is stored from now on must be known to be there
        return sources

    def build(self, sources: Sequence[Layer]) -> Layer | None:
        """Index frozen layers in a process of its own, and open what it made; None where it failed or was stopped."""
        for layer in sources:
            layer.shard.flush()
        # a name of its own: the builder of a process that was killed may still write to what it began
        target = self._path / f"build-{secrets.token_hex(8)}"
        job = BuildJob(
            sources=tuple(str(layer.shard.path) for layer in sorted(sources, key=lambda layer: -len(layer.shard))),
            target=str(target),
            dimension=self._dimension,
            options=self._options,
        )
        file = target.with_suffix(".job")
        file.write_bytes(msgspec.json.encode(job))
        ok = self._run([sys.executable, "-m", "foa.index.builder", str(file)])
        file.unlink(missing_ok=True)
        if ok:
            number = self._new_number()
            target.rename(self._folder(number))
            return self._open(number, sealed=True)
        level = logging.DEBUG if self._stopping else logging.WARNING
        log.log(level, "an index build failed; its points are still searched one by one", extra={"event": "build_failed"})
        _remove_folders(self._path.glob(f"{target.name}*"))
        return None

    def swap(self, sources: Sequence[Layer], sealed: Layer | None) -> None:
        """Put what was built into the place of its sources; None: let them be as they were."""
        self._due = self._options.index_from
        self._unsaved = True
        if sealed is None:
            for layer in sources:
                layer.thaw()
            self._due += self._unindexed()  # or a build that cannot succeed would be tried again at once
            return
        sealed.bury(sorted(set[int]().union(*(layer.dead for layer in sources))))
        gone = {layer.number for layer in sources}
        self._table.move(gone, sealed.number)
        self._layers = [sealed, *(layer for layer in self._layers if layer.number not in gone)]

    def tidy(self, sources: Sequence[Layer]) -> None:
        """Save, and let go of the layers that were replaced."""
        self._save()
        for layer in sources:
            if layer not in self._layers:
                layer.shard.close()
                shutil.rmtree(layer.shard.path, ignore_errors=True)

    def stop(self) -> None:
        """Cut a build off, and start none any more."""
        with self._starting:
            self._stopping = True
            if self._process is not None:
                self._process.kill()

    def _run(self, command: Sequence[str]) -> bool:
        with self._starting:
            if self._stopping:
                return False
            self._process = subprocess.Popen(command)
        ended = self._process.wait()
        with self._starting:
            self._process = None
        return ended == 0

    def _unindexed(self) -> int:
        return sum(len(layer.shard) for layer in self._layers if not layer.sealed)

    # ── on disk ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def close(self) -> None:
        """Write everything to disk and let go. No build runs."""
        self._save()
        for layer in self._layers:
            layer.shard.close()
        self._write("table", self._table.encode())

    def save(self) -> None:
        """Have what is new outlive a crash of the machine; what is being built from was written to disk before."""
        if self._unsaved:
            self._unsaved = False
            self._save([layer for layer in self._layers if not layer.building])

    def _load(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        manifest = self._manifest()
        if manifest is not None and (manifest.v, manifest.dimension) == (_FORMAT, self._dimension):
            self._next = manifest.next
            self._recall(manifest.layers, manifest.sealed)
        keep = {layer.shard.path for layer in self._layers}
        _remove_folders(folder for folder in self._path.iterdir() if folder not in keep)
        # to make an empty shard takes the engine some fifty writes to the disk, interpreter in hand; to open a copy, none
        Shard(self._template, dimension=self._dimension, options=self._options).close()
        if not self._layers:
            self._layers.append(self._empty())
        self._save()

    def _manifest(self) -> _Manifest | None:
        file = self._path / "manifest.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=_Manifest) if file.exists() else None
        except msgspec.ValidationError:
            return None  # of a format of before
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreFailed(
                f"{file}: cannot read the index ({error}); remove the folder, it will be built again"
            ) from error

    def _recall(self, layers: Collection[int], sealed: Collection[int]) -> None:
        """Know again who is here: from the table of a clean end, which holds once, else from the shards themselves."""
        saved = self._saved_table()
        self._table = saved or Table()
        self._layers = [self._open(number, sealed=number in sealed) for number in layers]
        for i, layer in enumerate(() if saved else self._layers):
            buried = self._table.restore(layer.shard.rows(), home=layer.number)
            for older in self._layers[:i]:
                older.bury(buried)

    def _saved_table(self) -> Table | None:
        file = self._path / "table"
        if not file.exists():
            return None
        table = Table.decode(file.read_bytes())
        file.unlink()
        return table or None

    def _save(self, layers: Sequence[Layer] | None = None) -> None:
        """Write these layers to disk, all by default, and which there are."""
        with self._saving:
            for layer in self._layers if layers is None else layers:
                layer.shard.flush()
            numbers = tuple(layer.number for layer in self._layers)
            sealed = tuple(layer.number for layer in self._layers if layer.sealed)
            manifest = _Manifest(v=_FORMAT, dimension=self._dimension, layers=numbers, sealed=sealed, next=self._next)
            self._write("manifest.json", msgspec.json.encode(manifest))

    def _write(self, name: str, data: bytes) -> None:
        part = self._path / f"{name}.part"
        part.write_bytes(data)
        part.replace(self._path / name)

    def _empty(self) -> Layer:
        """Make a layer of the empty shard."""
        number = self._new_number()
        copy_folder(self._template, self._folder(number))
        all_to_disk(self._folder(number))
        return self._open(number)

    def _open(self, number: int, *, sealed: bool = False) -> Layer:
        shard = Shard(self._folder(number), dimension=self._dimension, options=self._options)
        shard.know_words(sealed=sealed)
        return Layer(shard, number, self._table, sealed)

    def _new_number(self) -> int:
        self._next += 1
        return self._next

    @property
    def _template(self) -> Path:
        return self._path / "empty"

    def _folder(self, number: int) -> Path:
        return self._path / f"layer-{number:06}"


def _remove_folders(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix in (".job", ".part"):
            path.unlink(missing_ok=True)
