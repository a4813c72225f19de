"""A Qdrant server, or a cluster of them, behind the VectorIndex port: for registries of more than one machine.

Points, filters and payloads are those of the embedded shards. docs/howto/qdrant-server.md has a compose file.
"""

import hashlib
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client import models as q
from qdrant_client.http.exceptions import ApiException

from foa.errors import StoreFailed
from foa.index.found import best_hits
from foa.index.shard import digest
from foa.index.words import document_weights, query_weights
from foa.ports import Hit, IndexPoint, IndexQuery
from foa.values.ids import AgentId

_MAIN = q.Filter(must=[q.FieldCondition(key="n", range=q.Range(gte=1))])  # an agent's first point
_NEAR = 128  # agents looked at by vector where words count as well; by words twice as many
_SISTERS = 8  # points of one agent that may crowd a search


class QdrantIndex:
    """A VectorIndex in one Qdrant collection, made at the first use. `async with` is not needed; call `aclose`."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        dimension: int,
        *,
        collection: str = "foa-agents",
        shards: int = 1,
        replicas: int = 1,
        server: bool = True,
    ) -> None:
        """Take a client.

        Args:
            client: connected to a server, a cluster, or local.
            dimension: of the vectors.
            collection: its name; two registries that share it share their agents.
            shards: over the cluster's machines, at creation.
            replicas: copies of each shard, at creation.
            server: False for the client's local mode, which knows neither payload indexes nor search parameters.
        """
        self._client = client
        self._dimension = dimension
        self._collection = collection
        self._shards = shards
        self._replicas = replicas
        self._server = server
        self._ready = False
        self.written = 0  #: points stored since it was opened; those that were there, unchanged, are not counted

    @classmethod
    def local(cls, dimension: int, path: Path | None = None) -> "QdrantIndex":
        """Give an index in the client's local mode: exact, in memory or a folder, for tests."""
        client = AsyncQdrantClient(path=str(path)) if path else AsyncQdrantClient(location=":memory:")
        return cls(client, dimension, server=False)

    @classmethod
    def remote(
        cls,
        url: str,
        dimension: int,
        *,
        api_key: str = "",
        collection: str = "foa-agents",
        shards: int = 1,
        replicas: int = 1,
    ) -> "QdrantIndex":
        """Give an index on a server, e.g. `http://127.0.0.1:6333`. It is first spoken to when the index is first used."""
        client = AsyncQdrantClient(url=url, api_key=api_key or None, timeout=10, check_compatibility=False)
        return cls(client, dimension, collection=collection, shards=shards, replicas=replicas)

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; searchable when it returns. A point that is there already, unchanged, costs one look."""
        latest = {point.agent: (point, digest(point)) for point in points}
        if not latest:
            return
        known = await self._digests(list(latest))
        changed = {agent: one for agent, one in latest.items() if known.get(agent) != one[1]}
        if not changed:
            return
        await self.remove(list(changed))
        self.written += len(changed)
        # the main points last: whoever has one has all the others
        made = sorted(
            (one for each in changed.values() for one in self._points(*each)), key=lambda one: "n" in (one.payload or {})
        )
        for start in range(0, len(made), 500):
            await self._call(self._client.upsert(self._collection, made[start : start + 500], wait=True))

    async def remove(self, agents: Sequence[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        await self._open()
        if agents:
            only = q.Filter(must=[q.FieldCondition(key="agent", match=q.MatchAny(any=list(agents)))])
            await self._call(self._client.delete(self._collection, q.FilterSelector(filter=only), wait=True))

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        """The best k by vector, and where there is a text by words as well; best first."""
        await self._open()
        words, vector = query_weights(query.text), query.vector.tolist()
        similarity = await self._best(vector, "c", query, k=max(query.k, _NEAR) if words else query.k)
        lexical: dict[AgentId, float] = {}
        if words:
            sparse = q.SparseVector(indices=list(words), values=list(words.values()))
            lexical = await self._best(sparse, "w", query, k=2 * max(query.k, _NEAR))
            lexical |= await self._of(similarity.keys() - lexical.keys(), sparse, "w", query)
            similarity |= await self._of(lexical.keys() - similarity.keys(), vector, "c", query)
        return best_hits((Hit(agent=a, similarity=s, lexical=lexical.get(a, 0.0)) for a, s in similarity.items()), query)

    async def _of(self, agents: Collection[AgentId], vector: Any, using: str, query: IndexQuery) -> dict[AgentId, float]:
        """The best score of each of these agents that has one."""
        if not agents:
            return {}
        only = [q.FieldCondition(key="agent", match=q.MatchAny(any=list(agents)))]
        return await self._best(vector, using, query, also=only, k=len(agents))

    async def count(self) -> int:
        """How many agents are stored."""
        await self._open()
        return (await self._call(self._client.count(self._collection, count_filter=_MAIN, exact=True))).count

    async def agents(self) -> Sequence[AgentId]:
        """Everyone who is stored, those of before included."""
        await self._open()
        found: list[AgentId] = []
        offset: Any = None
        while True:
            records, offset = await self._call(
                self._client.scroll(
                    self._collection, scroll_filter=_MAIN, limit=10_000, offset=offset, with_payload=["agent"]
                )
            )
            found += [AgentId(record.payload["agent"]) for record in records]
            if offset is None:
                return found

    async def save(self) -> None:
        """Nothing: the server had saved what it acknowledged."""

    async def aclose(self) -> None:
        """Let go of the connection; the server has saved everything."""
        await self._client.close()

    async def _best(
        self, vector: Any, using: str, query: IndexQuery, *, also: Sequence[q.Condition] = (), k: int
    ) -> dict[AgentId, float]:
        """The best score of each agent, the best k agents; asked again, wider, while sister vectors crowd them out."""
        limit = k + _SISTERS
        while True:
            found = await self._call(
                self._client.query_points(
                    self._collection,
                    query=vector,
                    using=using,
                    query_filter=_filter(query, also),
                    limit=limit,
                    with_payload=["agent"],
                    search_params=q.SearchParams(hnsw_ef=max(128, limit)) if self._server else None,
                )
            )
            best: dict[AgentId, float] = {}
            for point in found.points:
                best.setdefault(AgentId((point.payload or {})["agent"]), point.score)
            if len(best) >= k or len(found.points) < limit:
                return dict(list(best.items())[:k])
            limit *= 4

    async def _digests(self, agents: Sequence[AgentId]) -> dict[AgentId, int]:
        """What is stored of these agents, of each by its digest."""
        await self._open()
        ids = [point_id(agent, 0) for agent in agents]
        found = await self._call(self._client.retrieve(self._collection, ids, with_payload=["agent", "h"]))
        payloads = [record.payload or {} for record in found]
        return {AgentId(payload["agent"]): payload["h"] for payload in payloads if "h" in payload}

    def _points(self, point: IndexPoint, mark: int) -> list[q.PointStruct]:
        payload: dict[str, Any] = {
            "agent": point.agent,
            "p": sorted(point.policies),
            "b": list(point.bloom),
            "k": list(point.kinds),
        }
        vectors: dict[str, Any] = {"c": point.vector.tolist()}
        if words := document_weights(point.text, point.proved):
            vectors["w"] = q.SparseVector(indices=list(words), values=list(words.values()))
        main = q.PointStruct(
            id=point_id(point.agent, 0),
            vector=vectors,
            payload=payload | {"n": 1 + len(point.more_vectors), "h": mark},
        )
        sisters = [
            q.PointStruct(id=point_id(point.agent, i), vector={"c": vector.tolist()}, payload=payload)
            for i, vector in enumerate(point.more_vectors, 1)
        ]
        return [main, *sisters]

    async def _open(self) -> None:
        if self._ready:
            return
        if self._server:
            _check_version(str((await self._call(self._client.info())).version))
        if not await self._call(self._client.collection_exists(self._collection)):
            await self._create()
        self._ready = True

    async def _create(self) -> None:
        await self._call(
            self._client.create_collection(
                self._collection,
                vectors_config={
                    "c": q.VectorParams(size=self._dimension, distance=q.Distance.COSINE, datatype=q.Datatype.FLOAT16)
                },
                sparse_vectors_config={"w": q.SparseVectorParams(modifier=q.Modifier.IDF)},
                shard_number=self._shards,
                replication_factor=self._replicas,
            )
        )
        for field in ("agent", "p", "k", "b", "n") if self._server else ():
            schema = q.PayloadSchemaType.INTEGER if field in "bn" else q.PayloadSchemaType.KEYWORD
            await self._call(self._client.create_payload_index(self._collection, field, field_schema=schema, wait=True))

    async def _call(self, awaitable: Any) -> Any:
        try:
            return await awaitable
        except (ApiException, OSError) as error:
            raise StoreFailed(f"the Qdrant server did not do it: {error}") from error


def _check_version(server: str) -> None:
    """Refuse a server whose minor release is further from the client's than one: Qdrant promises nothing for it.

    Raises:
        StoreFailed: it is.
    """
    client = version("qdrant-client")
    try:
        (major, minor), (ours, our_minor) = (tuple(map(int, one.split(".")[:2])) for one in (server, client))
    except ValueError as error:
        raise StoreFailed(f"what answers is no Qdrant server: its version is {server[:40]!r}") from error
    if major != ours or abs(minor - our_minor) > 1:
        raise StoreFailed(
            f"the Qdrant server is {server[:40]} and qdrant-client {client}: they may differ by one minor release; "
            f"run the image qdrant/qdrant:v{ours}.{our_minor}.0"
        )


def point_id(agent: AgentId, i: int) -> int:
    """Give the id of an agent's i-th vector: the same from every machine that shares the server."""
    return int.from_bytes(hashlib.blake2b(f"{agent}/{i}".encode(), digest_size=8).digest(), "little")


def _filter(query: IndexQuery, also: Sequence[q.Condition]) -> q.Filter | None:
    conditions: list[q.Condition] = [
        q.FieldCondition(key="p", match=q.MatchValue(value=policy)) for policy in sorted(query.policies)
    ]
    conditions += [q.FieldCondition(key="b", match=q.MatchValue(value=position)) for position in query.bloom]
    if query.kind:
        conditions.append(q.FieldCondition(key="k", match=q.MatchValue(value=query.kind)))
    conditions += also
    return q.Filter(must=conditions) if conditions else None
