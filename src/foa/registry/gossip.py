"""Registries of several orchestrators, kept alike by exchanging only what differs; between brokers too.

    a ── digest (bucket hashes) ──────────────► b       every period, and at the start
    a ◄── entries (stamps of what differs) ──── b       only where a bucket differs
    a ── delta (cards, tombstones) + ask ─────► b       what a has newer; what b has newer is asked for
    a ◄── delta ─────────────────────────────── b
    a ── digest ──────────────────────────────► b       at once, where b had more to tell than one message holds
    a ── delta (what changed here) ───────────► all     pushed between the periods

Last writer wins by stamp (ledger.py); leavers leave tombstones. Cards are admitted as if they came from their agents: their
own signatures hold. Every message is signed by its orchestrator, and heard only from known ones, once, while it is fresh.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import cast

import msgspec

from foa.errors import BadCapability, BadMessage, NotNow
from foa.ports import Clock
from foa.registry.admission import Departed
from foa.registry.bounded import remember
from foa.registry.gossip_wire import TYPE, Body, Message, digest_of, packed, stamp_of, stamps_of, write
from foa.registry.keys import SigningKey
from foa.registry.ledger import Comparisons, Ledger, Stamp
from foa.registry.registry import Registry
from foa.values.ids import AgentId, OrchestratorId

_DELTA_BYTES = 400_000  # of cards in one message
_WINDOW = 1_024  # numbers of a sender that are told apart; two of its messages may overtake each other


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipRules:
    """How gossip goes."""

    period_seconds: float = 30.0  #: between digests
    push_seconds: float = 0.5  #: changes of this time go in one delta
    fresh_seconds: float = 600.0  #: how old, or how far ahead, a message may be
    entries: int = 8_000  #: stamps in one message, which must stay below 1 MB
    pending: int = 10_000  #: changes waiting for a push; more wait for the next digest
    doubted: int = 256  #: agents that the own broker is asked for in one period


class Gossip:
    """One orchestrator's end. No I/O: messages in, messages out."""

    def __init__(
        self,
        registry: Registry,
        *,
        me: OrchestratorId,
        key: SigningKey,
        peers: Mapping[str, str],
        clock: Clock,
        rules: GossipRules | None = None,
    ) -> None:
        """Follow a registry.

        Args:
            peers: public key of every orchestrator that is heard, by its id.
        """
        self.rules = rules or GossipRules()
        self.ledger = Ledger()
        self.registry = registry
        self._me = me
        self._key = key
        self._peers = dict(peers)
        self._clock = clock
        self._seq = 0
        self._heard: dict[str, _Window] = {}
        self._pending: dict[AgentId, None] = {}
        self._refused: OrderedDict[tuple[str, AgentId], Stamp] = OrderedDict()
        self._applying: set[AgentId] = set()
        self._doubted: dict[AgentId, None] = {}
        self._compared = Comparisons()
        self._part = 0  # where the next message begins that cannot hold a whole bucket
        self._awaited: dict[str, set[AgentId]] = {}  # what was asked of a peer that has more to tell
        registry.watch(self._note)
        for agent in registry.agents():
            self._note(agent)
        self._pending.clear()

    def digest(self, *, to: str | None = None) -> bytes:
        """Give what to tell everybody each period."""
        buckets = self.ledger.buckets()
        numbers = self.ledger.digest(buckets)
        return self._message("digest", to=to, buckets=buckets, digest=packed(numbers))

    def doubted(self) -> dict[AgentId, Stamp]:
        """Give, once, agents of the own broker that a peer says left, with the stamps of their cards: ask the broker."""
        some = list(self._doubted)[: self.rules.doubted]
        for agent in some:
            del self._doubted[agent]
        return {agent: stamp for agent in some if (stamp := self.ledger.stamp(agent)) is not None and not stamp.gone}

    async def left(self, agents: Mapping[AgentId, Stamp]) -> None:
        """The own broker has no card of these agents; of whom another card came since is here."""
        for agent, stamp in agents.items():
            if self.ledger.stamp(agent) == stamp:
                await self.registry.leave(agent)

    def push(self) -> list[bytes]:
        """Give what changed here since the last push, for everybody."""
        changed, self._pending = list(self._pending), {}
        return list(self._deltas(changed, to=None))

    async def hear(self, payload: bytes) -> Iterable[bytes]:
        """Take one message; give the answers to publish, each made when it is taken: all together may be large.

        Raises:
            BadMessage: not decodable, not signed by a known orchestrator, replayed, or too old.
        """
        body = self._open(payload)
        if body.sender == self._me or body.to not in (None, self._me):
            return []
        match body.do:
            case "digest":
                return self._answer_digest(body)
            case "entries":
                return self._answer_entries(body)
            case "ask":
                return self._deltas(map(AgentId, dict.fromkeys(body.asked)), to=body.sender)
            case "delta":
                await self._apply(body)
                return self._go_on(body)

    # ── answering ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _answer_digest(self, body: Body) -> list[bytes]:
        chosen = self._compared.news(body.sender, self.ledger.digest(body.buckets), digest_of(body))
        if not chosen:
            return []
        # as many buckets as fit into a message, and of one that alone does not fit, another part each time
        agents, some = self.ledger.members(body.buckets, chosen), chosen
        while len(agents) > self.rules.entries and len(some) > 1:
            some = some[: len(some) // 2]
            agents = self.ledger.members(body.buckets, some)
        self._compared.put_off(body.sender, body.buckets, set(chosen).difference(some))
        start = self._part % len(agents) if len(agents) > self.rules.entries else 0
        self._part += self.rules.entries
        told_of = sorted([*agents[start:], *agents[:start]][: self.rules.entries])
        stamps = [cast("Stamp", self.ledger.stamp(agent)) for agent in told_of]
        entries = {agent: list(stamp[:3]) for agent, stamp in zip(told_of, stamps, strict=True)}
        marks = packed(stamp.mark for stamp in stamps)
        more = len(some) < len(chosen) or len(stamps) < len(agents)
        told: dict[str, object] = {"buckets": body.buckets, "chosen": some, "entries": entries, "marks": marks}
        return [self._message("entries", to=body.sender, **told, **({"more": True} if more else {}))]

    def _answer_entries(self, body: Body) -> Iterable[bytes]:
        theirs = {agent: self._as_told(agent, *told) for agent, told in stamps_of(body).items()}
        ours = self.ledger.members(body.buckets, [one for one in set(body.chosen) if 0 <= one < body.buckets])
        newer = [agent for agent in ours if _later(self.ledger.stamp(agent), theirs.get(agent))][: self.rules.entries]
        wanted = [agent for agent, stamp in theirs.items() if self._is_news(body.sender, agent, stamp)]
        wanted = wanted[: self.rules.entries]
        if wanted and body.more:
            self._awaited[body.sender] = set(wanted)
        asking = [self._message("ask", to=body.sender, asked=wanted)] if wanted else []
        return chain(asking, self._deltas(newer, to=body.sender))

    def _as_told(self, agent: AgentId, stamp: Stamp, with_mark: bool) -> Stamp:
        """A stamp whose mark was not told has ours: what cannot be compared does not differ."""
        known = self.ledger.stamp(agent)
        return stamp if with_mark or known is None else stamp._replace(mark=known.mark)

    def _go_on(self, body: Body) -> list[bytes]:
        """When all came that was asked of a peer which has more to tell: ask it for that, without waiting for the period."""
        if (awaited := self._awaited.get(body.sender)) is None:
            return []
        awaited.difference_update(body.tombstones, (found[0] for card in body.cards if (found := stamp_of(bytes(card)))))
        if awaited:
            return []
        del self._awaited[body.sender]
        return [self.digest(to=body.sender)]

    def _deltas(self, agents: Iterable[AgentId], *, to: str | None) -> Iterator[bytes]:
        """Give the cards and tombstones of these agents, in messages of bounded size."""
        cards: list[object] = []
        tombstones: dict[str, object] = {}
        size = 0
        for agent in agents:
            if (card := self.registry.card(agent)) is not None:
                cards.append(msgspec.json.decode(card))
                size += len(card)
            elif (left := self.registry.departed(agent)) is not None:
                tombstones[agent] = [left.version, left.issued_at, left.key]
                size += 150
            if size > _DELTA_BYTES:
                yield self._message("delta", to=to, cards=cards, tombstones=tombstones)
                cards, tombstones, size = [], {}, 0
        if cards or tombstones:
            yield self._message("delta", to=to, cards=cards, tombstones=tombstones)

    # ── applying ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _apply(self, body: Body) -> None:
        told = [(*found, bytes(card)) for card in body.cards if (found := stamp_of(bytes(card))) is not None]
        cards = {agent: (stamp, card) for agent, stamp, card in told if self._is_news(body.sender, agent, stamp)}
        # what comes from a peer is not pushed on: everybody on a broker hears everybody, digests do the rest
        applying = {*cards, *map(AgentId, body.tombstones)} - self._applying
        self._applying |= applying
        try:
            await self._admit(cards, body.sender)
            for name, (version, issued_at, key) in body.tombstones.items():
                # + 0.0: of the two zeros the one that a canonical message has
                await self._bury(AgentId(name), Departed(version=version, issued_at=issued_at + 0.0, key=key))
        finally:
            self._applying -= applying

    async def _admit(self, cards: Mapping[AgentId, tuple[Stamp, bytes]], sender: str) -> None:
        results = await self.registry.admit_many([(None, card) for _, card in cards.values()], via=sender)
        for (agent, (stamp, _)), result in zip(cards.items(), results, strict=True):
            if isinstance(result, BadCapability) and not isinstance(result, NotNow):
                remember(self._refused, (sender, agent), stamp, self.rules.pending)

    def _is_news(self, sender: str, agent: AgentId, stamp: Stamp) -> bool:
        """Tell whether a stamp is later than what is known, and not of a card of this sender's that was refused.

        A refused card says nothing of the agent's other cards, nor of what others have: its stamp may be forged.
        """
        return _later(stamp, self.ledger.stamp(agent)) and self._refused.get((sender, agent)) != stamp

    async def _bury(self, agent: AgentId, left: Departed) -> None:
        if not _later(Stamp(left.version, left.issued_at, True), self.ledger.stamp(agent)):
            return
        if left.issued_at > self._clock.now() + self.registry.limits.skew_seconds:
            return  # no card could have been admitted with that date
        known = self.registry.roster.entry(agent) or self.registry.departed(agent)
        if known is not None and known.key != left.key:
            return  # a tombstone for somebody else of that name
        if self.registry.is_here(agent):
            # who is away is asked for nothing, and its card, delivered again, would be a sign of life
            if agent not in self.registry.away and len(self._doubted) < self.rules.pending:
                self._doubted[agent] = None
            return
        await self.registry.leave_elsewhere(agent, left)

    def _note(self, agent: AgentId) -> None:
        stamp = self.registry.stamp(agent)
        if stamp is None and (left := self.registry.departed(agent)) is not None:
            stamp = Stamp(left.version, left.issued_at, True)
        self.ledger.put(agent, stamp)
        if agent not in self._applying and len(self._pending) < self.rules.pending:
            self._pending[agent] = None

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _message(self, do: str, *, to: str | None = None, **fields: object) -> bytes:
        self._seq = max(self._seq + 1, int(self._clock.now() * 1_000_000))
        body: dict[str, object] = {"v": 1, "do": do, "sender": self._me, "seq": self._seq, "at": self._clock.now(), **fields}
        if to is not None:
            body["to"] = to
        return write(body, self._key)

    def _open(self, payload: bytes) -> Body:
        message = Message(payload)
        if message.body.sender != self._me:
            self._check(message)
        return message.body

    def _check(self, message: Message) -> None:
        body = message.body
        x = self._peers.get(body.sender)
        if x is None:
            raise BadMessage(f"gossip of {body.sender}: not one of the orchestrators that are heard here")
        if reason := message.fault(x):
            raise BadMessage(f"gossip of {body.sender}: {reason}")
        if abs(self._clock.now() - body.at) > self.rules.fresh_seconds:
            raise BadMessage(
                f"gossip of {body.sender} is dated {self._clock.now() - body.at:,.0f} s ago; is its clock right?"
            )
        if not self._heard.setdefault(body.sender, _Window()).take(body.seq):
            raise BadMessage(f"gossip of {body.sender} was heard before (number {body.seq})")


class _Window:
    """Which numbers of one sender were heard: each once, and none from long before the newest."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._floor = 0

    def take(self, number: int) -> bool:
        """Tell whether this number is new, and remember it."""
        if number <= self._floor or number in self._seen:
            return False
        self._seen.add(number)
        if len(self._seen) > _WINDOW:
            self._floor = sorted(self._seen)[_WINDOW // 2]
            self._seen = {one for one in self._seen if one > self._floor}
        return True


def _later(one: Stamp | None, other: Stamp | None) -> bool:
    return one is not None and (other is None or one > other)


__all__ = ["TYPE", "Gossip", "GossipRules"]
