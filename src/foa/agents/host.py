"""Any number of agents on one connection: announces them, answers for them, and says goodbye.

    async with AgentHost(transport, agents, embedder=…, replies=…, clock=…).serve() as host:
        ...                                  # announced and answering while the block lasts

Leaving the block: take nothing new, wait a little for the work at hand, cancel the rest (it comes again), leave cleanly.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from logging import getLogger

from foa.agents.announce import card_publication, gone_agents, leaving, take_back, vitals_publication
from foa.agents.brain import Agent
from foa.agents.desk import Desk
from foa.agents.profile import AgentProfile
from foa.agents.seat import Seat
from foa.agents.tasks import owning_tasks
from foa.agents.versions import Versions
from foa.errors import BadInput, FabricError
from foa.ports import Clock, Delivery, Embedder, Replies, Transport
from foa.registry.keys import SigningKey
from foa.values.ids import AgentId
from foa.values.publication import Filter
from foa.values.topics import Topics
from foa.values.vcv import Vitals

log = getLogger(__name__)

FILTERS_AT_ONCE = 256  #: topic filters in one SUBSCRIBE, so that its packet stays small
VITALS_PER_SECOND = 200.0  #: how many unchanged vitals a host repeats; more agents repeat theirs less often


class AgentHost:
    """Runs agents over one Transport.

    Args:
        transport: an open one; its last will should be `foa.agents.announce.last_will`.
        agents: who lives here; their ids differ.
        embedder: makes c and e of their cards.
        replies: keeps their replies; a durable one answers repeated requests after a restart too.
        clock: time.
        topics: topic names under the federation's root.
        key: signs the cards; None: unsigned, for registries that allow it.
        versions: remembers the versions of the cards.
        vitals_seconds: how often vitals are repeated when nothing changes.
        drain_seconds: how long leaving waits for work at hand.
        host: id under which the last will of the connection is published; with it the host hears that it was called gone
            while it was only cut off, and says that it is not.
        began: when the connection began, as its last will says, seconds since the epoch; the cards are dated so, too.

    Raises:
        BadInput: two agents have one id.
    """

    def __init__(
        self,
        transport: Transport,
        agents: Sequence[Agent],
        *,
        embedder: Embedder,
        replies: Replies,
        clock: Clock,
        topics: Topics | None = None,
        key: SigningKey | None = None,
        versions: Versions | None = None,
        vitals_seconds: float = 15.0,
        drain_seconds: float = 5.0,
        host: str = "",
        began: float | None = None,
    ) -> None:
        twice = [agent for agent, count in Counter(one.profile.agent_id for one in agents).items() if count > 1]
        if twice:
            raise BadInput(f"two agents are called {twice[0]!r}; give one of them another `name` or an `id`")
        self._transport = transport
        self._seats = {agent.profile.agent_id: Seat(agent) for agent in agents}
        self._embedder = embedder
        self._replies = replies
        self._clock = clock
        self._topics = topics or Topics()
        self._key = key
        self._versions = versions or Versions()
        self._vitals_seconds = max(vitals_seconds, len(agents) / VITALS_PER_SECOND)
        self._drain_seconds = drain_seconds
        self._host = host
        self._began = began
        self._told: dict[AgentId, tuple[Vitals, float]] = {}
        self._desk: Desk | None = None

    @property
    def counts(self) -> Counter[str]:
        """Requests answered so far, by what became of them."""
        return Counter(self._desk.counts) if self._desk is not None else Counter()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.serve():
            await asyncio.Event().wait()

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator["AgentHost"]:
        """Answer while the block lasts; entering returns when every agent listens and is announced.

        Raises:
            BadCapability: a profile breaks a bound of cards.
            BrokerUnreachable, PublishRefused, ModelUnreachable, StoreFailed: starting failed.
        """
        async with owning_tasks() as work:
            self._desk = Desk(
                self._seats,
                transport=self._transport,
                topics=self._topics,
                replies=self._replies,
                clock=self._clock,
                group=work,
            )
            loops: list[asyncio.Task[None]] = []
            async with AsyncExitStack() as subscriptions:
                subscriptions.callback(self._desk.drop)
                try:
                    for inbox in await self._subscribe(subscriptions):
                        loops.append(work.create_task(self._listen(self._desk, inbox), name="requests"))
                    await self._announce([seat.profile for seat in self._seats.values()])
                    if self._host:
                        wills = Filter(topic_filter=self._topics.vitals(AgentId(self._host)))
                        inbox = await subscriptions.enter_async_context(self._transport.subscribe(wills))
                        loops.append(work.create_task(self._deny(inbox), name="own last will"))
                    loops.append(work.create_task(self._beat(), name="vitals"))
                    yield self
                finally:
                    for loop in loops:
                        loop.cancel()
                    if loops:
                        await asyncio.wait(loops)
                    await self._leave(self._desk)

    async def _subscribe(self, stack: AsyncExitStack) -> list[AsyncIterator[Delivery]]:
        filters = [Filter(topic_filter=self._topics.tasks(agent)) for agent in self._seats]
        return [
            await stack.enter_async_context(self._transport.subscribe(*filters[first : first + FILTERS_AT_ONCE]))
            for first in range(0, len(filters), FILTERS_AT_ONCE)
        ]

    async def _listen(self, desk: Desk, inbox: AsyncIterator[Delivery]) -> None:
        async for delivery in inbox:
            await desk.take(AgentId(self._topics.id_of(delivery.publication.topic)), delivery)

    def seat(self, agent: AgentId) -> Seat:
        """The place that an agent of this host works at: hold its slot while it does other work than answering requests."""
        return self._seats[agent]

    async def renew(self, profile: AgentProfile) -> None:
        """Tell everyone that an agent of this host has changed: a new card, of the next version (eq. 1).

        Raises:
            BadCapability, PublishRefused, ModelUnreachable, StoreFailed: it was not told.
        """
        self._seats[profile.agent_id].profile = profile
        await self._announce([profile])

    async def _announce(self, profiles: Sequence[AgentProfile]) -> None:
        issued_at = self._clock.now() if self._began is None else self._began
        versions = await self._versions.next({profile.agent_id: profile.digest() for profile in profiles})
        for profile in profiles:
            card = await card_publication(
                profile,
                version=versions[profile.agent_id],
                embedder=self._embedder,
                key=self._key,
                issued_at=issued_at,
                topics=self._topics,
            )
            await self._transport.publish(card)
            await self._tell(profile.agent_id, self._seats[profile.agent_id].vitals())
        log.info("%d agents announced", len(profiles))

    async def _beat(self) -> None:
        """Publish vitals that changed, at most once a second each, and the others now and then."""
        while True:
            await self._clock.sleep(min(1.0, self._vitals_seconds))
            for agent, seat in self._seats.items():
                vitals, (told, at) = seat.vitals(), self._told[agent]
                if (vitals.load, vitals.queue) != (
                    told.load,
                    told.queue,
                ) or self._clock.monotonic() - at >= self._vitals_seconds:
                    await self._tell(agent, vitals)

    async def _deny(self, wills: AsyncIterator[Delivery]) -> None:
        """Say that everybody is here whenever the broker took this host for dead."""
        async for delivery in wills:
            await delivery.acknowledge()
            if gone_agents(delivery.publication, self._topics):
                await self._transport.publish(take_back(self._topics, self._host))
                for agent, seat in self._seats.items():
                    await self._tell(agent, seat.vitals())

    async def _tell(self, agent: AgentId, vitals: Vitals) -> None:
        self._told[agent] = (vitals, self._clock.monotonic())
        await self._transport.publish(vitals_publication(agent, vitals, self._topics))

    async def _leave(self, desk: Desk) -> None:
        """Take the cards back, wait a bounded time for work at hand, say gone; also when this host is being cancelled."""
        said = [leaving(agent, self._topics) for agent in self._seats]
        try:
            async with asyncio.timeout(self._drain_seconds):
                for card, _ in said:
                    await self._transport.publish(card)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._drain_seconds / 2):
                        await desk.idle()
                for _, gone in said:
                    await self._transport.publish(gone)
        except TimeoutError:
            log.warning("left without a word: the broker does not answer")
        except FabricError as error:
            log.warning("left without a word: %s", error)
