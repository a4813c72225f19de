"""Every seam of the project, a Protocol each. Adapters implement one; `foa.app.wiring` joins them by passing arguments.

Transport      messages between processes      memory · MQTT (mqttium) · MQTT (paho)
VectorIndex    filtered nearest neighbours      exact · Qdrant Edge · Qdrant server
Journal        jobs, step results, events       memory · SQL
Replies        an agent's answers, by key       memory · SQLite
Model          language model                   endpoint · embedded llama.cpp · recorded
Embedder       text to vectors                  wordllama · minilm · endpoint
Clock          time                             system · fake
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from foa.values.budget import Spend
from foa.values.ids import AgentId, JobId
from foa.values.publication import Filter, Publication
from foa.values.vcv import Matrix, Vector


# ── Transport ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Delivery(Protocol):
    """A publication that arrived and is not yet acknowledged."""

    @property
    def publication(self) -> Publication: ...

    async def acknowledge(self) -> None:
        """Tell the broker that it is safe (saved): it will not come again. Calling twice does nothing."""
        ...


class Transport(Protocol):
    """At-least-once publish and subscribe over one MQTT session. Use it as `async with` its adapter.

    Promises (the contract suite holds every adapter to them): QoS 1 is at least once, in order for one publisher and one
    topic; a cancelled publish gives its slot back; a slow reader is bounded in memory and holds up nobody else until the
    receive window is full; after a cut the link comes back by itself and every subscription with it.
    """

    async def publish(self, publication: Publication) -> None:
        """Send; returns when the broker has taken it (QoS 1: PUBACK). Waits while the link is down.

        Raises:
            PublishRefused: the broker said no (reason code ≥ 0x80), or the topic or size is not allowed.
        """
        ...

    def subscribe(self, *filters: Filter, capacity: int = 1024) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Hear what matches any of the filters while the block lasts; entering waits for SUBACK, leaving unsubscribes.

        A delivery is acknowledged when the reader calls `acknowledge`; a QoS 0 delivery needs none. What is not acknowledged
        when the session is taken up again comes again. `capacity` bounds waiting QoS 0 messages: the oldest are dropped and
        counted; QoS 1 is bounded by the receive window (MQTT v5, 3.1.2.11.3).

        Raises:
            BrokerUnreachable: the broker refused the filter.
        """
        ...

    async def connected(self) -> None:
        """Return as soon as the link is up."""
        ...


# ── VectorIndex ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexPoint:
    """One agent as the index stores it."""

    agent: AgentId
    vector: Vector  #: of what the agent says of itself: capability embedding c, or what its registry finds it by
    more_vectors: Sequence[Vector] = ()  #: per-skill and example vectors, for MaxSim
    text: str = ""  #: for lexical search: what the agent says of itself
    proved: str = ""  #: for lexical search: requests it has done well
    bloom: Sequence[int] = ()  #: positions of the set bits of s
    policies: frozenset[str] = frozenset()
    embedder: str = ""
    kinds: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexQuery:
    """A filtered nearest-neighbour question. All conditions are answered inside the search."""

    vector: Vector
    text: str = ""  #: not empty: its words count as well
    kappa: float = 0.025  #: what one point of BM25 convinces beside the cosine (`foa.values.evidence.fuse`)
    k: int = 32
    bloom: Sequence[int] = ()  #: every one of these positions must be set
    policies: frozenset[str] = frozenset()  #: every one must be cleared
    kind: str = ""  #: a request the agent must answer; empty: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One agent that the index found, best first."""

    agent: AgentId
    similarity: float  #: cosine of query and capability embedding, or the best of its vectors (MaxSim), −1 to 1
    lexical: float = 0.0  #: BM25 score, not negative; 0 where lexical search was not asked for


class VectorIndex(Protocol):
    """Who is near this vector, among those that may."""

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Store or replace; searchable when it returns."""
        ...

    async def remove(self, agents: Sequence[AgentId]) -> None:
        """Forget; unknown ids do nothing."""
        ...

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        """The best `k` by vector, or by vector and words together where there is a text; best first."""
        ...

    async def count(self) -> int:
        """How many agents are stored."""
        ...

    async def aclose(self) -> None:
        """Save and let go."""
        ...


@runtime_checkable
class KeptIndex(VectorIndex, Protocol):
    """A VectorIndex that knows at its next start who was stored; a point that is there unchanged costs it nothing."""

    @property
    def written(self) -> int:
        """How many points were stored since it was opened; those that were there, unchanged, are not counted."""
        ...

    async def agents(self) -> Sequence[AgentId]:
        """Everyone who is stored, those of before included."""
        ...

    async def save(self) -> None:
        """Have what was stored outlive a kill of this process."""
        ...


# ── Journal ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as the journal lists it."""

    job: JobId
    status: str  #: running · done · partial · failed · cancelled
    text: str  #: the task, shortened to 200 characters
    created_at: float  #: seconds since the epoch
    ended_at: float | None
    submission: bytes  #: the admitted submission, as encoded
    result: bytes | None  #: the published result, as encoded


class Journal(Protocol):
    """The one truth about jobs: what CLI, HTTP, dashboard and audit read. Every method is durable when it returns.

    Raises (every method): StoreFailed.
    """

    async def open(self, job: JobId, submission: bytes, *, text: str) -> bool:
        """Admit a job. False: it was there already (a repeated submission)."""
        ...

    async def load(self, job: JobId) -> Mapping[str, bytes]:
        """Every saved step of a job, by its name, in the order of saving."""
        ...

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        """Keep the result of a step. A step that is there already keeps its first result."""
        ...

    async def note(self, job: JobId, *events: bytes) -> int:
        """Append progress events together; gives the number of the last, counted from 1 in each job."""
        ...

    async def events(self, job: JobId, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """The events after this number, in order."""
        ...

    async def close_job(self, job: JobId, *, status: str, result: bytes) -> None:
        """The job ended. The first end holds."""
        ...

    async def jobs(self, *, status: str | None = None, job: JobId | None = None, limit: int = 100) -> Sequence[JobRow]:
        """Jobs, newest first."""
        ...


class Outcomes(Protocol):
    """Graded contributions, from which reputation is computed again at every start: bounded, decaying, replayable."""

    async def append(self, *outcomes: bytes) -> None:
        """Keep graded outcomes, all or none."""
        ...

    async def replay(self) -> Sequence[bytes]:
        """All of them, oldest first."""
        ...


class Replies(Protocol):
    """An agent's replies by deduplication key, so that a repeated request costs no second model call."""

    async def find(self, key: str) -> bytes | None:
        """The stored reply, if there is one."""
        ...

    async def keep(self, key: str, reply: bytes) -> None:
        """Store it; the first one holds."""
        ...


# ── Model and embedder ─────────────────────────────────────────────────────────────────────────────────────────────────
class Tool(Protocol):
    """A function a model may call. `foa.agents.tools` has them; a policy check stands before every call."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of the arguments, an object."""
        ...

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Run it. The text goes to the model, so it is bounded.

        Raises:
            FabricError: the arguments are not usable or the tool failed; the sentence goes to the model.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a language model."""

    instructions: str  #: system prompt
    prompt: str
    #: JSON Schema (an object) that the reply must fit; every string and list in it has a maximum. None: free text
    schema: Mapping[str, Any] | None = None
    tools: Sequence[Tool] = ()  #: offered only to a model that can drive them
    max_tokens: int = 256  #: of the reply
    calls: int = 4  #: most model calls, tool rounds and repairs included
    seconds: float = 60.0
    temperature: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What came back, already validated against the schema where one was given."""

    text: str
    value: Mapping[str, Any] | None = None  #: the decoded object, where a schema was given
    spend: Spend = field(default_factory=Spend)  #: usd is 0 here: price belongs to the agent
    estimated: bool = False  #: the server reported no usage: the tokens in `spend` are a guess from the length of the text
    repairs: int = 0  #: how often it had to be asked again, at most 2
    tool_calls: tuple[str, ...] = ()  #: names of the tools it called, in order


class Model(Protocol):
    """A language model."""

    @property
    def name(self) -> str:
        """For traces and bills, e.g. `smollm2-135m-instruct`."""
        ...

    @property
    def drives_tools(self) -> bool:
        """Whether it can call tools by itself. Small models cannot: retrieve first, then ask."""
        ...

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Ask once; structured replies are validated and repaired at most twice.

        Raises:
            ModelUnreachable: no answer from the endpoint in time, or it refused.
            ModelReplyInvalid: unusable after its repairs; carries the last raw text and the spend in its attributes.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and processes."""
        ...


class Embedder(Protocol):
    """ψ: text to unit vectors."""

    @property
    def id(self) -> str:
        """Model, dimension and a hash of the weights, e.g. `wordllama-l2-supercat-256:1f3a9c20`."""
        ...

    @property
    def dimension(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Embed; shape (len(texts), dimension), float32, unit rows. An empty text gives a fixed unit vector.

        Raises:
            ModelUnreachable: an endpoint does not answer.
        """
        ...


# ── Clock ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
