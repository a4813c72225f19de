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

import base64
import binascii
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import msgspec

from foa.errors import BadCapability, BadMessage, NotNow
from foa.ports import Clock
from foa.registry.admission import Departed
from foa.registry.bounded import remember
from foa.registry.canonical import canonical
from foa.registry.keys import SigningKey, sign, verify
from foa.registry.ledger import FINE, Comparisons, Ledger, Stamp
from foa.registry.registry import Registry
from foa.values.ids import AgentId, OrchestratorId, WireId

TYPE = "foa-gossip"
MAX_BYTES = 1_000_000
_DELTA_BYTES = 400_000  # of cards in one message
_MOST = 20_000  # stamps taken in one message
_WINDOW = 1_024  # numbers of a sender that are told apart; two of its messages may overtake each other

_Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
_Moment = Annotated[float, msgspec.Meta(ge=0.0, le=1e11)]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """One message. Which fields it has depends on what it does."""

    v: Literal[1]
    do: Literal["digest", "entries", "ask", "delta"]
    sender: WireId
    to: WireId | None = None  #: None: everybody
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]  #: grows with every message of a sender, over its restarts too
    at: _Moment  #: seconds since the epoch
    buckets: Annotated[int, msgspec.Meta(ge=1, le=FINE)] = 1
    digest: Annotated[str, msgspec.Meta(max_length=6 * FINE)] = ""  #: base64 of 32-bit little-endian numbers
    chosen: Annotated[tuple[int, ...], msgspec.Meta(max_length=FINE)] = ()  #: buckets that `entries` are of
    entries: Annotated[dict[WireId, tuple[_Version, _Moment, bool]], msgspec.Meta(max_length=_MOST)] = {}
    more: bool = False  #: more differs than `entries` tells
    asked: Annotated[tuple[WireId, ...], msgspec.Meta(max_length=_MOST)] = ()
    cards: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=10_000)] = ()
    tombstones: Annotated[
        dict[WireId, tuple[_Version, _Moment, Annotated[str, msgspec.Meta(max_length=64)]]], msgspec.Meta(max_length=_MOST)
    ] = {}


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    gossip: msgspec.Raw
    jws: Annotated[str, msgspec.Meta(max_length=512)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipRules:
    """How gossip goes."""

    period_seconds: float = 30.0  #: between digests
    push_seconds: float = 0.5  #: changes of this time go in one delta
    fresh_seconds: float = 600.0  #: how old, or how far ahead, a message may be
    entries: int = 8_000  #: stamps in one message, which must stay below 1 MB
    pending: int = 10_000  #: changes waiting for a push; more wait for the next digest


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
        self._refused: OrderedDict[AgentId, Stamp] = OrderedDict()
        self._applying: set[AgentId] = set()
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
        packed = base64.b64encode(b"".join(number.to_bytes(4, "little") for number in numbers)).decode()
        return self._message("digest", to=to, buckets=buckets, digest=packed)

    def push(self) -> list[bytes]:
        """Give what changed here since the last push, for everybody."""
        changed, self._pending = list(self._pending), {}
        return self._deltas(changed, to=None) if changed else []

    async def hear(self, payload: bytes) -> list[bytes]:
        """Take one message; give the answers to publish.

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
                return self._deltas([AgentId(agent) for agent in body.asked], to=body.sender)
            case "delta":
                await self._apply(body)
                return self._go_on(body)

    # ── answering ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _answer_digest(self, body: _Body) -> list[bytes]:
        chosen = self._compared.news(body.sender, self.ledger.digest(body.buckets), _numbers(body))
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
        told_of = [*agents[start:], *agents[:start]][: self.rules.entries]
        stamps = {agent: list(cast("Stamp", self.ledger.stamp(agent))) for agent in told_of}
        more = len(some) < len(chosen) or len(stamps) < len(agents)
        told: dict[str, object] = {"buckets": body.buckets, "chosen": some, "entries": stamps}
        return [self._message("entries", to=body.sender, **told, **({"more": True} if more else {}))]

    def _answer_entries(self, body: _Body) -> list[bytes]:
        theirs = {AgentId(agent): Stamp(*stamp) for agent, stamp in body.entries.items()}
        ours = self.ledger.members(body.buckets, [one for one in set(body.chosen) if 0 <= one < body.buckets])
        newer = [agent for agent in ours if _later(self.ledger.stamp(agent), theirs.get(agent))][: self.rules.entries]
        wanted = [agent for agent, stamp in theirs.items() if self._is_news(agent, stamp)][: self.rules.entries]
        answers = self._deltas(newer, to=body.sender)
        if wanted:
            answers.append(self._message("ask", to=body.sender, asked=wanted))
        if wanted and body.more:
            self._awaited[body.sender] = set(wanted)
        return answers

    def _go_on(self, body: _Body) -> list[bytes]:
        """When all came that was asked of a peer which has more to tell: ask it for that, without waiting for the period."""
        if (awaited := self._awaited.get(body.sender)) is None:
            return []
        awaited.difference_update(body.tombstones, (head.agent_id for card in body.cards if (head := _head(card))))
        if awaited:
            return []
        del self._awaited[body.sender]
        return [self.digest(to=body.sender)]

    def _deltas(self, agents: Iterable[AgentId], *, to: str | None) -> list[bytes]:
        """Give the cards and tombstones of these agents, in messages of bounded size."""
        messages: list[bytes] = []
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
                messages.append(self._message("delta", to=to, cards=cards, tombstones=tombstones))
                cards, tombstones, size = [], {}, 0
        if cards or tombstones:
            messages.append(self._message("delta", to=to, cards=cards, tombstones=tombstones))
        return messages

    # ── applying ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _apply(self, body: _Body) -> None:
        cards = {agent: card for card in body.cards if (agent := self._wanted(card)) is not None}
        # what comes from a peer is not pushed on: everybody on a broker hears everybody, digests do the rest
        applying = {*cards, *map(AgentId, body.tombstones)} - self._applying
        self._applying |= applying
        try:
            await self._admit(cards, body.sender)
            for name, (version, issued_at, key) in body.tombstones.items():
                await self._bury(AgentId(name), Departed(version=version, issued_at=issued_at, key=key))
        finally:
            self._applying -= applying

    async def _admit(self, cards: Mapping[AgentId, msgspec.Raw], sender: str) -> None:
        results = await self.registry.admit_many([(None, bytes(card)) for card in cards.values()], via=sender)
        for (agent, card), result in zip(cards.items(), results, strict=True):
            if isinstance(result, BadCapability) and not isinstance(result, NotNow):
                head = _heads.decode(card).vcv
                remember(self._refused, agent, Stamp(head.version, head.issued_at), self.rules.pending)

    def _wanted(self, card: msgspec.Raw) -> AgentId | None:
        """Give, before any signature is checked, whose card it is; None: it would not be newer than what is known."""
        if (head := _head(card)) is None:
            return None
        agent = AgentId(head.agent_id)
        return agent if self._is_news(agent, Stamp(head.version, head.issued_at)) else None

    def _is_news(self, agent: AgentId, stamp: Stamp) -> bool:
        """Tell whether a stamp is later than what is known, and not of a card that was refused."""
        return _later(stamp, self.ledger.stamp(agent)) and _later(stamp, self._refused.get(agent))

    async def _bury(self, agent: AgentId, left: Departed) -> None:
        held = self.ledger.stamp(agent)
        if not _later(Stamp(left.version, left.issued_at, True), held):
            return
        if left.issued_at > self._clock.now() + self.registry.limits.skew_seconds:
            return  # no card could have been admitted with that date
        entry = self.registry.roster.entry(agent)
        if entry is not None and entry.key != left.key:
            return  # a tombstone for somebody else of that name
        await self.registry.leave(agent)
        self.registry.bury(agent, left)

    def _note(self, agent: AgentId) -> None:
        entry, left = self.registry.roster.entry(agent), self.registry.departed(agent)
        if entry is not None:
            self.ledger.put(agent, Stamp(entry.version, entry.issued_at))
        elif left is not None:
            self.ledger.put(agent, Stamp(left.version, left.issued_at, True))
        else:
            self.ledger.put(agent, None)
        if agent not in self._applying and len(self._pending) < self.rules.pending:
            self._pending[agent] = None

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _message(self, do: str, *, to: str | None = None, **fields: object) -> bytes:
        self._seq = max(self._seq + 1, int(self._clock.now() * 1_000_000))
        body: dict[str, object] = {"v": 1, "do": do, "sender": self._me, "seq": self._seq, "at": self._clock.now(), **fields}
        if to is not None:
            body["to"] = to
        return canonical({"gossip": body, "jws": sign(body, self._key, typ=TYPE)})

    def _open(self, payload: bytes) -> _Body:
        if len(payload) > MAX_BYTES:
            raise BadMessage(f"gossip of {len(payload):,} bytes is over the limit of {MAX_BYTES:,}")
        try:
            envelope = msgspec.json.decode(payload, type=_Envelope)
            body = msgspec.json.decode(envelope.gossip, type=_Body)
            raw = cast("Mapping[str, object]", msgspec.json.decode(envelope.gossip))
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise BadMessage(f"not usable gossip: {str(error)[:200]}") from error
        if body.sender != self._me:
            self._check(body, raw, envelope.jws)
        return body

    def _check(self, body: _Body, raw: Mapping[str, object], signature: str) -> None:
        x = self._peers.get(body.sender)
        if x is None:
            raise BadMessage(f"gossip of {body.sender}: not one of the orchestrators that are heard here")
        if reason := verify(raw, signature, x=x, typ=TYPE):
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


class _Head(msgspec.Struct):
    agent_id: WireId
    version: _Version
    issued_at: _Moment


class _Card(msgspec.Struct):
    vcv: _Head


_heads = msgspec.json.Decoder(_Card)


def _head(card: msgspec.Raw) -> _Head | None:
    try:
        return _heads.decode(card).vcv
    except msgspec.MsgspecError:
        return None


def _later(one: Stamp | None, other: Stamp | None) -> bool:
    return one is not None and (other is None or one > other)


def _numbers(body: _Body) -> Sequence[int]:
    try:
        packed = base64.b64decode(body.digest, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"gossip of {body.sender}: its digest is not base64") from error
    if len(packed) != 4 * body.buckets or body.buckets & (body.buckets - 1):
        raise BadMessage(f"gossip of {body.sender}: its digest has not {body.buckets} buckets, a power of two")
    return [int.from_bytes(packed[i : i + 4], "little") for i in range(0, len(packed), 4)]
