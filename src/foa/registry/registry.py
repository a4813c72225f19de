"""Who can do what: the registry of admitted agents, in front of a `VectorIndex`.

foa/capabilities/updates/+ ─► open ─► embed (meanings.py) ─► admit (admitted.py) ─► index (vectors)
foa/capabilities/vitals/+  ─► vitals: load, price now, gone
refused ─► foa/policies/enforcement, and kept for `foa agents show` (refusals.py)
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from foa.errors import BadCapability, FalseClaim, ModelUnreachable
from foa.ports import Clock, Embedder, Hit, IndexPoint, IndexQuery, VectorIndex
from foa.registry.admission import Admission, Departed, RegistryLimits, open_card, parts
from foa.registry.admitted import Admitted
from foa.registry.bloom import set_positions
from foa.registry.cards import Cards
from foa.registry.kept import Kept
from foa.registry.learned import Learned
from foa.registry.ledger import Stamp
from foa.registry.meanings import Meanings
from foa.registry.news import News
from foa.registry.refusals import Refusals
from foa.registry.reputation import Outcome
from foa.registry.roster import Facts, Roster
from foa.registry.shelf import Shelf
from foa.registry.texts import text_of
from foa.registry.unembedded import Unembedded
from foa.registry.vitals import decode_vitals
from foa.values.ids import AgentId
from foa.values.vcv import Matrix, Vcv, Vitals

log = logging.getLogger(__name__)


class Registry:
    """Admits cards, holds what scoring needs, and searches.

    Calls may overlap while one of them waits for the embedder: what each changes, it changes in one go, index included.
    """

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        *,
        clock: Clock,
        limits: RegistryLimits | None = None,
        shelf: Shelf | None = None,
        learned: Learned | None = None,
    ) -> None:
        self.index = index
        self.embedder = embedder
        self.limits = limits or RegistryLimits()
        self.roster = Roster(embedder.dimension, rows=shelf.rows if shelf else None)
        self.learned = learned or Learned()
        self._clock = clock
        self._cards = Cards(shelf or Shelf(), embedder=embedder.id, card_bytes=self.limits.card_bytes)
        admission = Admission(self.limits)
        self._admitted = Admitted(self.roster, self._cards, admission, clock=clock)
        self._presence = self._admitted.presence
        self._departures = self._admitted.departures
        self._refusals = Refusals(admission, clock=clock)
        self._news = News()
        self._unembedded = Unembedded(self.limits)
        self._meanings = Meanings(embedder, self.limits, clock)
        self._kept = Kept(index)

    def __len__(self) -> int:
        return len(self.roster)

    def __contains__(self, agent: AgentId) -> bool:
        return agent in self.roster

    def agents(self) -> Iterator[AgentId]:
        """Every admitted agent, in order of admission."""
        return iter(self.roster)

    @property
    def refusals(self) -> Mapping[AgentId, str]:
        """Why the last card of an agent was refused; an admitted card clears it. Bounded."""
        return self._refusals.reasons

    @property
    def arrivals(self) -> int:
        """A number that grows whenever there are agents to be found that were not there before."""
        return self._news.arrivals

    def get(self, agent: AgentId) -> Vcv | None:
        """Give an agent's VCV, or None where it is not admitted."""
        return self._cards.get(agent)

    def card(self, agent: AgentId) -> bytes | None:
        """Give an agent's card as it was signed, or None."""
        return self._cards.signed(agent)

    def stamp(self, agent: AgentId) -> Stamp | None:
        """Which card of an agent is held, or None."""
        return self._admitted.stamp(agent)

    def is_here(self, agent: AgentId) -> bool:
        """Tell whether an agent is admitted and was heard on the own broker."""
        return self._admitted.is_here(agent)

    def departed(self, agent: AgentId) -> Departed | None:
        """What is remembered of an agent that left, or None."""
        return self._departures.latest(agent)

    def vitals(self, agent: AgentId) -> Vitals:
        """Give what an agent last said of itself; the default where it said nothing."""
        return self._presence.vitals(agent)

    @property
    def away(self) -> AbstractSet[AgentId]:
        """Admitted agents whose connection was lost: no search finds them until they are back."""
        return self._presence.away

    def origin(self, agent: AgentId) -> str:
        """Which orchestrator told of an agent; empty: its card was heard on the own broker.

        An agent that was only told of is at another broker: it is known, and no work can be sent to it from here.
        """
        return self._presence.origin(agent)

    def facts(self, agents: Sequence[AgentId]) -> Facts:
        """Give the columns of admitted agents that scoring needs."""
        return self.roster.facts(agents)

    async def search(self, query: IndexQuery) -> Sequence[Hit]:
        """Ask the index for those that are admitted."""
        return await self._kept.search(query, self.roster)

    async def reconcile(self) -> None:
        """Every retained card was heard: take out of a kept index whoever is not here any more.

        While cards wait for the embedder nobody is taken out; then it is done when the last of them was taken.
        """
        waiting = self.again_seconds is not None
        await self._kept.take_out(lambda agent: agent in self.roster and agent not in self.away, wait=waiting)

    async def admit(self, payload: bytes, *, agent: AgentId | None = None) -> Vcv:
        """Take one card.

        Args:
            payload: the card's bytes.
            agent: the id it came in under (the topic's); None: whatever it says.

        Raises:
            BadCapability: refused; the reason is also kept in `refusals`.
        """
        results = await self.admit_many([(agent, payload)])
        if isinstance(results[0], BadCapability):
            raise results[0]
        return results[0]

    async def admit_many(self, cards: Sequence[tuple[AgentId | None, bytes]], *, via: str = "") -> list[Vcv | BadCapability]:
        """Take cards in order; gives a VCV or its refusal for each.

        Where the embedder does not answer, that is NotEmbedded, and `try_again` takes the card later.
        Many are taken part by part, each with one embedding call and one index update, and others have a turn in between.

        Args:
            cards: each with the id it came in under (the topic's); None: whatever it says.
            via: the orchestrator that told of them; empty: they were heard on the own broker.
        """
        results: list[Vcv | BadCapability] = []
        for part in parts(cards):
            if results:
                await asyncio.sleep(0)  # an embedder and an index that never wait would hold the loop
            results += await self._admit(part, via)
        return results

    async def _admit(self, cards: Sequence[tuple[AgentId | None, bytes]], via: str) -> list[Vcv | BadCapability]:
        results: list[Vcv | BadCapability] = [self._open(agent, payload) for agent, payload in cards]
        vectors: list[Matrix] = []
        try:
            await self._check_texts(results)
            vectors = await self._meanings.views([vcv for vcv in results if isinstance(vcv, Vcv)])
        except ModelUnreachable as error:
            self._put_off([payload for _, payload in cards], results, str(error), via)
        points: dict[AgentId, IndexPoint | None] = {}  # None: not to be found
        opened = [(i, vcv) for i, vcv in enumerate(results) if isinstance(vcv, Vcv)]
        for (i, vcv), views in zip(opened, vectors, strict=True):
            try:
                self._take(cards[i][1], vcv, via)
                points[vcv.agent_id] = None if vcv.agent_id in self.away else self._point(vcv, views)
            except BadCapability as refusal:
                results[i] = self._refusals.refuse(cards[i][0] or vcv.agent_id, refusal, vcv.public_key)
        await self._kept.write(points)
        if any(points.values()):
            self._news.arrived()
        await self._expel()
        self._news.heard()
        return results

    @property
    def again_seconds(self) -> float | None:
        """How long until `try_again` has something to do; None: no card waits for the embedder."""
        return self._unembedded.seconds(monotonic=self._clock.monotonic())

    async def try_again(self) -> None:
        """Take the cards that could not be embedded, where their time has come."""
        while taken := self._unembedded.take(monotonic=self._clock.monotonic()):
            for via, cards in taken.items():
                await self.admit_many(cards, via=via)
        if self._kept.owed:
            await self.reconcile()

    async def known(self, agents: Collection[AgentId]) -> None:
        """Wait until every one of these was admitted or refused."""
        await self._news.until(lambda: all(agent in self.roster or agent in self.refusals for agent in agents))

    async def arrived(self, *, after: int) -> None:
        """Wait until `arrivals` is another number: agents came, came back, or have another card."""
        await self._news.until(lambda: self.arrivals != after)

    def watch(self, watcher: Callable[[AgentId], None]) -> None:
        """Call this with every agent whose card came, changed or went."""
        self._news.watch(watcher)

    async def leave(self, agent: AgentId) -> bool:
        """An agent left the own broker (its retained card was emptied); False where it was not there."""
        self._unembedded.drop(agent)
        if self.origin(agent) or (entry := self._admitted.drop(agent)) is None:
            return False
        self._bury(agent, Departed(version=entry.version, issued_at=entry.issued_at, key=entry.key), told=False)
        await self._kept.write({agent: None})
        return True

    async def leave_elsewhere(self, agent: AgentId, left: Departed) -> None:
        """A peer says that an agent left; one that was heard on the own broker stays, whose retained cards are the truth."""
        if self.is_here(agent):
            return
        self._unembedded.drop(agent, told=True)
        known = self._admitted.drop(agent) is not None
        self._bury(agent, left, told=True)
        if known:
            await self._kept.write({agent: None})

    async def forget(self, agent: AgentId) -> None:
        """An agent of another broker is not told of any more: it may have left, or not; one that is here stays."""
        if self.origin(agent):
            self._unembedded.drop(agent, told=True)
            await self._drop([agent])

    def _bury(self, agent: AgentId, left: Departed, *, told: bool) -> None:
        if (forgotten := self._departures.bury(agent, left, told=told)) is not None:
            self._news.tell(forgotten)
        self._news.tell(agent)

    async def hear_vitals(self, agent: AgentId, payload: bytes, *, since: float | None = None) -> None:
        """Take vitals. Gone: out of the index until it is back. Before the card came: kept for it.

        An agent that is back stays out where the embedder does not answer; its next vitals try again.

        Args:
            agent: whose.
            payload: the vitals, or a last will.
            since: of a last will: when its connection began, seconds since the epoch; None: nobody said.

        Raises:
            BadMessage: not usable.
        """
        await self._take_vitals(agent, decode_vitals(payload), since)

    async def lost(self, agent: AgentId, since: float | None = None) -> None:
        """A last will of others' connection, which began then, says that this agent is gone, too."""
        await self._take_vitals(agent, replace(self.vitals(agent), online=False), since)

    def outlived(self, agent: AgentId, since: float | None) -> bool:
        """Whether an agent was announced after a connection had begun: that one's last will does not concern it any more.

        Args:
            agent: whose card.
            since: when the connection began, seconds since the epoch; None: nobody said.
        """
        entry = self.roster.entry(agent)
        return since is not None and entry is not None and entry.issued_at > since

    async def _take_vitals(self, agent: AgentId, vitals: Vitals, since: float | None) -> None:
        self._presence.hear(agent, vitals, admitted=agent in self.roster, since=since)
        if agent not in self.roster:
            return
        self.roster.set_vitals(agent, vitals)
        if vitals.online and agent in self.away:
            try:
                await self._show(agent)
            except ModelUnreachable as error:
                log.warning("agent %s is back and not found yet: %s", agent, error)
        elif not vitals.online and agent not in self.away:
            self._presence.leave(agent)
            await self._kept.write({agent: None})

    async def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Let graded requests adjust what their agents are believed to be good at.

        Give it what `Reputation.record` counted, at the start everything that was stored. Outcomes of agents that are not
        here yet are kept for them; those without a text teach nothing.

        Raises:
            ModelUnreachable: the embedder does not answer.
        """
        told = self.learned.newest([outcome for outcome in outcomes if outcome.text])
        if not told:
            return
        self.learned.record(told, await self._meanings.requests([outcome.text for outcome in told]))
        for agent in dict.fromkeys(AgentId(outcome.agent) for outcome in told):
            if agent in self.roster and agent not in self.away:
                await self._show(agent)

    async def aclose(self) -> None:
        """Close the index and the shelf."""
        try:
            await self.index.aclose()
        finally:
            self._cards.close()

    # ── one card, step by step ─────────────────────────────────────────────────────────────────────────────────────────
    def _open(self, agent: AgentId | None, payload: bytes) -> Vcv | BadCapability:
        try:
            return open_card(payload, agent, self.limits)
        except BadCapability as refusal:
            return self._refusals.refuse(agent, refusal, refusal.key if isinstance(refusal, FalseClaim) else "")

    async def _check_texts(self, results: list[Vcv | BadCapability]) -> None:
        """Refuse every card whose c is not the embedding of its text."""
        opened = [(i, vcv) for i, vcv in enumerate(results) if isinstance(vcv, Vcv)]
        for (i, vcv), checked in zip(opened, await self._meanings.checked([vcv for _, vcv in opened]), strict=True):
            results[i] = (
                checked if isinstance(checked, Vcv) else self._refusals.refuse(vcv.agent_id, checked, vcv.public_key)
            )

    def _put_off(self, payloads: Sequence[bytes], results: list[Vcv | BadCapability], why: str, via: str) -> None:
        """Refuse for now every card that was not refused already, and keep it for another try."""
        opened = [(i, vcv) for i, vcv in enumerate(results) if isinstance(vcv, Vcv)]
        for i, vcv in opened:
            refusal = self._unembedded.put_off(vcv.agent_id, payloads[i], why, via=via)
            results[i] = self._refusals.refuse(vcv.agent_id, refusal, "")
        self._unembedded.failed(len(opened), monotonic=self._clock.monotonic())
        log.warning("%d cards could not be embedded: %s", len(opened), why)

    def _take(self, payload: bytes, vcv: Vcv, via: str) -> None:
        agent = vcv.agent_id
        self._admitted.put(payload, vcv, via=via)
        self._refusals.clear(agent)
        self._unembedded.drop(agent, told=via != "")
        self._news.tell(agent)

    async def _expel(self) -> None:
        """Take every agent of a key that was just quarantined out: they did not leave, and nobody is told that they did."""
        if not (keys := self._refusals.expelled()):
            return
        expelled = [agent for agent in self.roster if (held := self.roster.entry(agent)) and held.key in keys]
        for agent in expelled:
            self._refusals.note(agent, f"agent {agent}: its key was quarantined for false claims")
            self._unembedded.drop(agent)
        await self._drop(expelled)

    async def _drop(self, agents: Sequence[AgentId]) -> None:
        for agent in agents:
            self._admitted.drop(agent)
            self._news.tell(agent)
        await self._kept.write(dict.fromkeys(agents))

    async def _show(self, agent: AgentId) -> None:
        """Put an agent into the index (again), with what it has proved."""
        if (vcv := self.get(agent)) is None:
            return
        [views] = await self._meanings.views([vcv])
        entry = self.roster.entry(agent)
        if entry is None or entry.issued_at != vcv.issued_at or not self.vitals(agent).online:
            return  # it left, or has another card, which was put there, or is away again
        self._presence.back(agent)
        await self._kept.write({agent: self._point(vcv, views)})
        self._news.arrived()

    def _point(self, vcv: Vcv, views: Matrix) -> IndexPoint:
        proved = self.learned.prototype(vcv.agent_id, views[0])
        return IndexPoint(
            agent=vcv.agent_id,
            vector=views[0],
            more_vectors=(*views[1:], *([] if proved is None else [proved])),
            text=text_of(vcv),
            proved="\n".join(self.learned.texts(vcv.agent_id)),
            bloom=set_positions(vcv.s),
            policies=vcv.p,
            embedder=self.embedder.id,
            kinds=() if self.origin(vcv.agent_id) else vcv.kinds,
        )
