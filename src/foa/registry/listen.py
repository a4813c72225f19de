"""The registry's ear: cards and vitals off the fabric, refusals back onto it for the auditors.

    foa/capabilities/updates/+ ─► queue ─► admitted in batches ─► acknowledged
    foa/capabilities/remote/+  ─► likewise: agents of other brokers, known and not asked
    foa/capabilities/vitals/+  ─► at once; behind the cards of the same agent, where some wait
    refusal ─► foa/policies/enforcement
    embedder away ─► kept, and tried again later
    foa/orchestrators/{name}/echo ─► oneself: what was retained before it has been taken

Cards come in bursts (a late joiner gets every retained one at once), so that a batch costs one embedding call and one index
update. Whatever needs no embedder does not wait for it: an agent that leaves is gone at once, however slow the embedder is.
Under a flood of bad cards the oldest refusals are not published; the registry keeps its own list of them.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection

import msgspec

from foa.errors import BadCapability, BadMessage, FabricError, PublishRefused
from foa.ports import Clock, Delivery, Transport
from foa.registry.echo import Echo
from foa.registry.registry import Registry
from foa.registry.remote import told_by
from foa.registry.vitals import decode_gone
from foa.values.ids import AgentId, check_id
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)

BATCH = 64  #: most deliveries taken before they are acknowledged
WAITING = 1_024  #: most deliveries read ahead; then the transport's own window holds the broker back
UNTOLD = 256  #: most refusals that wait to be published
CATCH_UP_SECONDS = 5.0  #: how long no retained card may be taken before the listener is called ready all the same
CATCH_UP_ROUNDS = 24  #: of so many seconds: longer than that no start waits for cards, however many still come


async def listen(
    registry: Registry,
    transport: Transport,
    *,
    topics: Topics,
    clock: Clock,
    ready: asyncio.Event | None = None,
    name: str = "",
) -> None:
    """Keep the registry up to date until cancelled.

    Args:
        registry: who takes the cards.
        transport: its subscriptions live as long as this runs.
        topics: topic names.
        clock: for the times of refusals.
        ready: set when it listens and, with a `name`, the cards that were retained by then have been taken.
        name: whose registry this is: the listener publishes an echo to itself, which comes behind the retained cards;
            without a name, cards may still be on their way.

    Raises:
        BrokerUnreachable: the broker refuses the subscription.
    """
    line = _Line()
    untold: asyncio.Queue[Publication] = asyncio.Queue(UNTOLD)
    ready = ready or asyncio.Event()
    filters = [Filter(topic_filter=each) for each in (topics.capability(), topics.vitals(), topics.remote())]
    echo = Echo(topics, name or "-")
    if name:
        filters.append(echo.filter)
    async with transport.subscribe(*filters) as inbox, asyncio.TaskGroup() as group:
        group.create_task(_read(registry, inbox, line, topics), name="registry.read")
        group.create_task(_tell(untold, transport), name="registry.tell")
        if name:
            group.create_task(_catch_up(echo.publication, transport, ready, line), name="registry.catch_up")
        else:
            ready.set()
        while True:
            batch = await line.batch(registry.again_seconds)
            await _take(registry, [delivery for delivery, _ in batch], untold, topics, clock)
            for delivery, agents in batch:
                line.done(delivery, agents)
                await delivery.acknowledge()
                if echo.is_heard(delivery.publication):
                    await registry.reconcile()
                    ready.set()
            await registry.try_again()


class _Line:
    """Deliveries that wait for the embedder, each with the agents that it concerns, in their order."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[Delivery, Collection[AgentId]]] = asyncio.Queue(WAITING)
        self._concerned: Counter[AgentId] = Counter()
        self.taken = 0  #: deliveries that are done, in the line or beside it
        self.retained = 0  #: deliveries that are done, in the line or beside it, which were retained before it was listened

    def concerns(self, agents: Collection[AgentId]) -> bool:
        """Tell whether something of one of these agents waits."""
        return any(agent in self._concerned for agent in agents)

    async def put(self, delivery: Delivery, agents: Collection[AgentId]) -> None:
        """Stand in line; waits while the line is full."""
        self._concerned.update(agents)
        await self._waiting.put((delivery, agents))

    def done(self, delivery: Delivery, agents: Collection[AgentId] = ()) -> None:
        """A delivery was taken; of one that stood in line, whom it concerned."""
        self.taken += 1
        self.retained += delivery.publication.retain
        self._concerned.subtract(agents)
        for agent in agents:
            if self._concerned[agent] <= 0:
                del self._concerned[agent]

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._waiting.empty()

    async def batch(self, seconds: float | None) -> list[tuple[Delivery, Collection[AgentId]]]:
        """What is there, at least one delivery; nothing where none comes within `seconds`."""
        batch: list[tuple[Delivery, Collection[AgentId]]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                batch.append(await self._waiting.get())
        while len(batch) < BATCH and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch


async def _catch_up(echo: Publication, transport: Transport, ready: asyncio.Event, line: _Line) -> None:
    """Publish to oneself, and wait until it came while what was retained is taken before it.

    A broker that does not allow it, or an embedder that hangs, holds nobody up for long.
    """
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await transport.publish(echo)
        await _came(ready, line)
    except (TimeoutError, PublishRefused) as error:
        log.warning("retained cards may be missing", extra={"event": "no_echo", "reason": str(error)[:200]})
        ready.set()


async def _came(ready: asyncio.Event, line: _Line) -> None:
    """Wait for the echo.

    Raises:
        TimeoutError: it did not come, and nothing was taken that was retained, or that still stands in line; or too long.
    """
    for _ in range(CATCH_UP_ROUNDS):
        taken, retained = line.taken, line.retained
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await ready.wait()
                return
        # what comes now and then, and is taken at once, is no reason to wait
        if line.taken == taken or (line.retained == retained and line.empty):
            break
    raise TimeoutError(f"{line.taken:,} deliveries were taken, and the listener's own was not among them")


async def _read(registry: Registry, inbox: AsyncIterator[Delivery], line: _Line, topics: Topics) -> None:
    """Take at once what needs no embedder; the rest, and what comes behind it of the same agent, stands in line."""
    async for delivery in inbox:
        publication = delivery.publication
        agent = _agent_of(publication, topics)
        agents = () if agent is None else _concerned(agent, publication)
        if agent is None or _is_card(publication, topics) or line.concerns(agents) or not registry.away.isdisjoint(agents):
            await line.put(delivery, agents)
        else:
            await _hear(registry, agent, publication, topics)
            line.done(delivery)
            await delivery.acknowledge()


def _is_card(publication: Publication, topics: Topics) -> bool:
    return bool(publication.payload) and not publication.topic.startswith(topics.vitals(""))


def _concerned(agent: AgentId, publication: Publication) -> tuple[AgentId, ...]:
    """Of whom a card or vitals speak: a last will may name others than its topic."""
    with contextlib.suppress(BadMessage):
        return (agent, *map(AgentId, decode_gone(publication.payload).agents))
    return (agent,)


async def _take(
    registry: Registry, batch: list[Delivery], untold: asyncio.Queue[Publication], topics: Topics, clock: Clock
) -> None:
    """Cards of one batch together, in order; a leave or vitals between them keeps its place."""
    cards: dict[str, list[tuple[AgentId, bytes]]] = {}  # by who told of them

    async def admit() -> None:
        for via, told in cards.items():
            for (agent, _), outcome in zip(told, await registry.admit_many(told, via=via), strict=True):
                if isinstance(outcome, BadCapability):
                    log.info("card refused", extra={"event": "card_refused", "agent": agent, "reason": str(outcome)[:200]})
                    _offer(untold, _denial(agent, str(outcome), topics, clock))
        cards.clear()

    for delivery in batch:
        publication = delivery.publication
        if (agent := _agent_of(publication, topics)) is None:
            continue
        if _is_card(publication, topics):
            via = told_by(publication) if publication.topic == topics.remote(agent) else ""
            cards.setdefault(via, []).append((agent, publication.payload))
            continue
        await admit()
        await _hear(registry, agent, publication, topics)
    await admit()


async def _hear(registry: Registry, agent: AgentId, publication: Publication, topics: Topics) -> None:
    """Take a leave, vitals or a last will; what has a payload and is no card."""
    if publication.topic == topics.capability(agent):
        await registry.leave(agent)
        return
    if publication.topic == topics.remote(agent):
        await registry.forget(agent)
        return
    if not publication.payload:  # a retained last will was taken back
        return
    try:
        gone = decode_gone(publication.payload)
        for one in () if gone.online else map(AgentId, gone.agents):
            if not registry.outlived(one, gone.since):
                await registry.lost(one, gone.since)
        if gone.online or not (gone.agents or registry.outlived(agent, gone.since)):
            await registry.hear_vitals(agent, publication.payload, since=gone.since)
    except BadMessage as error:
        log.info("vitals refused", extra={"event": "vitals_refused", "agent": agent, "reason": str(error)[:200]})


async def _tell(untold: asyncio.Queue[Publication], transport: Transport) -> None:
    while True:
        publication = await untold.get()
        try:
            await transport.publish(publication)
        except FabricError as error:
            log.warning("refusal not published", extra={"event": "refusal_not_published", "reason": str(error)[:200]})


def _agent_of(publication: Publication, topics: Topics) -> AgentId | None:
    """The id in the topic, or None where nobody may have it."""
    try:
        return AgentId(check_id(topics.id_of(publication.topic), what="agent"))
    except ValueError:
        return None


def _denial(agent: AgentId, reason: str, topics: Topics, clock: Clock) -> Publication:
    # the form of foa.policy.gate.Enforcement, which this folder may not import
    event = {"v": 1, "at": clock.now(), "decision": "deny", "gate": "admission", "agent": agent, "reason": reason[:2_000]}
    return Publication(topic=topics.enforcement(), payload=msgspec.json.encode(event))


def _offer(queue: asyncio.Queue[Publication], publication: Publication) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(publication)
