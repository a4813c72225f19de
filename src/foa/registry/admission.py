"""What the registry refuses, each with its reason: order, identity, clock, rate, and keys that lie.

card ─► signature and bounds (card.py) ─► quarantine? ─► same owner? ─► newer? ─► clock? ─► rate? ─► in
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from foa.errors import BadCapability, FalseClaim, NotNow
from foa.registry.bounded import remember
from foa.registry.card import decode_card
from foa.registry.roster import Entry
from foa.values.ids import AgentId
from foa.values.vcv import Vcv

_CARDS_AT_ONCE = 32  # some 0.3 ms each: signature, embedding, roster
_BYTES_AT_ONCE = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLimits:
    """What one registry takes."""

    agents: int = 2_000_000  #: most agents at once
    card_bytes: int = 65_536  #: most bytes of one card
    agents_per_key: int = 100_000  #: most agents that one key signs for
    updates_per_second: float = 2.0  #: sustained updates of one key
    updates_burst: int = 600  #: updates of one key at once
    skew_seconds: float = 300.0  #: how far ahead a card's clock may be
    strikes: int = 3  #: false claims after which a key is quarantined
    quarantine_seconds: float = 3_600.0
    allow_unsigned: bool = False  #: take cards without a signature
    policies: frozenset[str] = frozenset()  #: labels that a card may claim, `region:*` for a family; empty: any
    check_text: bool = True  #: compare c with the embedding of the card's own text
    text_similarity: float = 0.95  #: least cosine of that comparison
    search_vectors: int = 8  #: skill and example vectors indexed beside c; 0: c alone
    unembedded: int = 1_024  #: cards kept for a later try when the embedder does not answer
    again_seconds: float = 15.0  #: how long until that try
    embed_seconds: float = 20.0  #: how long the embedder may take for 256 texts of cards
    remembered: int = 100_000  #: tombstones, refusals, keys, and vitals without a card remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """An agent that left: what it was, so that an older card does not bring it back."""

    version: int
    issued_at: float
    key: str


def open_card(payload: bytes, agent: AgentId | None, limits: RegistryLimits) -> Vcv:
    """Give a VCV that holds together and is the one that its topic says, or refuse it.

    Args:
        payload: the card.
        agent: the id it came in under; None: whatever it says.
        limits: size, signature and labels.

    Raises:
        FalseClaim, BadCapability: as `decode_card`; another agent's; a label that nobody here knows.
    """
    vcv = decode_card(payload, allow_unsigned=limits.allow_unsigned, max_bytes=limits.card_bytes)
    if agent is not None and vcv.agent_id != agent:
        raise BadCapability(f"agent {agent}: the card under this id says it is {vcv.agent_id}")
    if unknown := sorted(label for label in vcv.p if not _is_known(label, limits.policies)):
        raise BadCapability(
            f"agent {vcv.agent_id}: this federation knows no policy label {', '.join(unknown[:5])}; "
            f"it knows {', '.join(sorted(limits.policies)[:20])}"
        )
    return vcv


def _is_known(label: str, known: Collection[str]) -> bool:
    return not known or label in known or any(one.endswith(":*") and label.startswith(one[:-1]) for one in known)


def parts(cards: Sequence[tuple[AgentId | None, bytes]]) -> Iterator[list[tuple[AgentId | None, bytes]]]:
    """Cut a burst, in order, into parts that hold the event loop for some 10 ms each: the larger the cards, the fewer."""
    part: list[tuple[AgentId | None, bytes]] = []
    room = _BYTES_AT_ONCE
    for agent, payload in cards:
        if part and (len(part) == _CARDS_AT_ONCE or len(payload) > room):
            yield part
            part, room = [], _BYTES_AT_ONCE
        part.append((agent, payload))
        room -= len(payload)
    if part:
        yield part


class Admission:
    """Memory of keys: their strikes, their rate, how many agents they sign for."""

    def __init__(self, limits: RegistryLimits) -> None:
        self.limits = limits
        self._strikes: OrderedDict[str, int] = OrderedDict()
        self._quarantined: OrderedDict[str, float] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._agents: dict[str, int] = {}

    def check(
        self, vcv: Vcv, held: Entry | Departed | None, *, now: float, monotonic: float, wins: bool | None = None
    ) -> None:
        """Refuse what may not come in.

        Args:
            vcv: the card's.
            held: what this id was or is.
            now: seconds since the epoch.
            monotonic: seconds of a clock that is never set.
            wins: whether the card holds against another content of its version at another broker; None: there is none.

        Raises:
            FalseClaim: one version, two contents.
            NotNow: quarantined, from the future, too many, too often.
            BadCapability: another owner, going back.
        """
        who, key = f"agent {vcv.agent_id}", vcv.public_key
        if (until := self._quarantined.get(key, 0.0)) > monotonic and key:
            raise NotNow(f"{who}: its key is quarantined for {until - monotonic:.0f} s more for false claims")
        if held is not None:
            _check_succession(vcv, held, wins)
        self._check_date(vcv, now)
        if not isinstance(held, Entry):
            self._check_room(vcv)
        if isinstance(held, Departed):
            self._check_pace(vcv, monotonic)
        elif held is not None and not self._take_token(key or vcv.agent_id, monotonic):
            rate = self.limits.updates_per_second
            raise NotNow(f"{who}: its key updates too often; {rate:g} a second is the limit")

    def check_again(self, vcv: Vcv, *, now: float, monotonic: float) -> None:
        """Refuse what may not come in though only its date is new. It costs its key nothing: hosts of many start again.

        Raises:
            NotNow: from the future, too often.
        """
        self._check_date(vcv, now)
        self._check_pace(vcv, monotonic)

    def strike(self, key: str, *, monotonic: float) -> bool:
        """Count a false claim against a key; True when it is quarantined for it."""
        if not key:
            return False
        count = self._strikes.pop(key, 0) + 1
        remember(self._strikes, key, count, self.limits.remembered)
        if count < self.limits.strikes:
            return False
        self._strikes.pop(key)
        remember(self._quarantined, key, monotonic + self.limits.quarantine_seconds, self.limits.remembered)
        return True

    def joined(self, key: str) -> None:
        """A key signs for one agent more."""
        self._agents[key] = self._agents.get(key, 0) + 1

    def left(self, key: str) -> None:
        """A key signs for one agent less."""
        if (count := self._agents.get(key, 0) - 1) > 0:
            self._agents[key] = count
        else:
            self._agents.pop(key, None)

    def _check_date(self, vcv: Vcv, now: float) -> None:
        ahead, most = vcv.issued_at - now, self.limits.skew_seconds
        if ahead > most:
            raise NotNow(
                f"agent {vcv.agent_id}: its card is dated {ahead:,.0f} s ahead, at most {most:,.0f} s will do; set its clock"
            )

    def _check_pace(self, vcv: Vcv, monotonic: float) -> None:
        if not self._take_token(f"agent {vcv.agent_id}", monotonic):
            rate = self.limits.updates_per_second
            raise NotNow(f"agent {vcv.agent_id}: it is signed again too often; {rate:g} a second is the limit")

    def _check_room(self, vcv: Vcv) -> None:
        if vcv.public_key and self._agents.get(vcv.public_key, 0) >= self.limits.agents_per_key:
            raise NotNow(f"agent {vcv.agent_id}: its key signs for {self.limits.agents_per_key:,} agents already")

    def _take_token(self, key: str, monotonic: float) -> bool:
        tokens, at = self._buckets.pop(key, (float(self.limits.updates_burst), monotonic))
        tokens = min(self.limits.updates_burst, tokens + (monotonic - at) * self.limits.updates_per_second)
        allowed = tokens >= 1
        remember(self._buckets, key, (tokens - allowed, monotonic), self.limits.remembered)
        return allowed


def _check_succession(vcv: Vcv, held: Entry | Departed, wins: bool | None) -> None:
    who = f"agent {vcv.agent_id}"
    if held.key != vcv.public_key:
        raise BadCapability(f"{who}: this id belongs to another key ({(held.key or 'unsigned')[:12]}); choose another id")
    if vcv.version < held.version:
        raise BadCapability(f"{who}: version {vcv.version} goes back behind {held.version}; publish a higher one")
    if vcv.version > held.version:
        return
    if isinstance(held, Departed):
        if vcv.issued_at <= held.issued_at:
            raise BadCapability(f"{who}: it left, and this card is not newer than the one it left with; sign it again")
        return
    if wins:
        return  # last writer wins: it was signed later than what is known of that version from elsewhere
    # the registry has already let a card of the same content pass
    if wins is None and vcv.issued_at == held.issued_at:
        raise FalseClaim(f"{who}: version {vcv.version} of one moment has two contents")
    raise BadCapability(f"{who}: version {vcv.version} is known with another content; raise the version at every change")
