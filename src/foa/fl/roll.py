"""Who may be asked in one run: the sites whose signed cards stand on the fabric, and why the others may not.

    capabilities/updates/+ ─► ours? ─► signature, bounds ─► owner, order ─► purpose, policies, key ─► present
    capabilities/vitals/+  ─► away, back                                             └─► barred, with its reason

It admits as the registry does and indexes nothing, so it needs no embedder; cards of other agents are passed over unread.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from foa.errors import BadCapability, BadMessage, FalseClaim
from foa.fl.block import FlBlock, block_of, node_id
from foa.fl.project import Project, SiteSpec, project_id
from foa.ports import Clock
from foa.registry.admission import Admission, Departed, RegistryLimits
from foa.registry.bounded import remember
from foa.registry.card import decode_card
from foa.registry.roster import Entry
from foa.registry.texts import same_card
from foa.registry.vitals import decode_gone
from foa.values.ids import AgentId, check_id
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Vcv

KIND = "fl"  #: what a site answers, in its card's `kinds`
MAX_SITES = 20_000
REMEMBERED = 20_000  #: of those who are not there: last wills, departures and reasons, each


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whom a run looks for."""

    project: str  #: id of the project; a site of another one runs another app
    purpose: str = "*"  #: what the model is for; `*`: not said
    policies: frozenset[str] = frozenset()  #: labels that every site has to be cleared for
    #: site → its public key, where the project names it; others belong to the key that was heard first
    keys: Mapping[str, str] = field(default_factory=dict[str, str])


def wanted_by(folder: Path, project: Project, sites: Sequence[SiteSpec]) -> Wanted:
    """Whom the runs of a project look for.

    Args:
        folder: of the project.
        project: what its FL.toml says.
        sites: that it names.

    Raises:
        BadInput: the project's name may not stand in a topic.
    """
    return Wanted(
        project=project_id(folder, project),
        purpose=project.purpose,
        policies=frozenset(project.policies),
        keys={site.name: site.key for site in sites if site.key},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    entry: Entry
    block: FlBlock
    card: bytes


class _Peek(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a card, not yet believed, as says whose it would be."""

    kinds: tuple[str, ...] = ()
    fl: dict[str, object] | None = None


class _PeekCard(msgspec.Struct, frozen=True, kw_only=True):
    vcv: _Peek


class Roll:
    """The sites of one run, kept up by whoever hears the fabric. Not thread-safe: one event loop owns it."""

    def __init__(self, wanted: Wanted, clock: Clock, *, limits: RegistryLimits | None = None) -> None:
        """Make an empty one.

        Args:
            wanted: whom the run looks for.
            clock: for cards that come from the future, and for quarantine.
            limits: of admission; as the registry's.
        """
        self.wanted = wanted
        self._clock = clock
        self._limits = limits or RegistryLimits()
        self._admission = Admission(self._limits)
        self._sites: dict[int, _Site] = {}  #: by Flower's number
        self._departed: OrderedDict[AgentId, Departed] = OrderedDict()
        self._gone: OrderedDict[AgentId, float] = OrderedDict()  #: since when the connection had been there that ended
        self._barred: OrderedDict[AgentId, str] = OrderedDict()

    @property
    def present(self) -> dict[int, FlBlock]:
        """Who may be asked now, by Flower's number."""
        # copied first: a Strategy asks from a thread of its own
        return {node: site.block for node, site in list(self._sites.items()) if not self._is_away(site)}

    @property
    def barred(self) -> dict[AgentId, str]:
        """Who says that it is of this project and may not be asked, and why. Bounded."""
        return {agent: why for agent, why in list(self._barred.items()) if node_id(agent) not in self._sites}

    def block(self, node: int) -> FlBlock | None:
        """The block of a site that is there, by Flower's number."""
        site = self._sites.get(node)
        return None if site is None or self._is_away(site) else site.block

    def is_here(self, agent: AgentId) -> bool:
        """Whether a site is there."""
        return self.block(node_id(agent)) is not None

    def key(self, agent: AgentId) -> str | None:
        """The public key that signed a site's card; None: there is no such site."""
        site = self._site(agent)
        return None if site is None else site.entry.key

    def hear(self, publication: Publication, topics: Topics) -> None:
        """Take a card, a leave, vitals or a last will off the fabric; whatever is not usable changes nothing."""
        try:
            agent = AgentId(check_id(topics.id_of(publication.topic), what="agent"))
        except ValueError:
            return
        if publication.topic == topics.capability(agent):
            self._hear_card(agent, publication.payload)
        else:
            self._hear_vitals(agent, publication.payload)

    def _hear_card(self, agent: AgentId, payload: bytes) -> None:
        if not payload:
            self._leave(agent)
        elif self._claims(payload):
            try:
                self._admit(agent, payload)
            except BadCapability as refusal:
                if isinstance(refusal, FalseClaim):
                    self._admission.strike(refusal.key, monotonic=self._clock.monotonic())
                remember(self._barred, agent, str(refusal)[:400], REMEMBERED)
        elif (key := self.key(agent)) is not None and self._signed_by(payload) == key:
            # it is a site of another project now
            self._leave(agent)

    def _signed_by(self, payload: bytes) -> str | None:
        try:
            return decode_card(payload, max_bytes=self._limits.card_bytes).public_key
        except BadCapability:
            return None

    def _claims(self, payload: bytes) -> bool:
        if len(payload) > self._limits.card_bytes:
            return False
        try:
            peek = msgspec.json.decode(payload, type=_PeekCard).vcv
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return False
        return KIND in peek.kinds and (peek.fl or {}).get("project") == self.wanted.project

    def _admit(self, agent: AgentId, payload: bytes) -> None:
        vcv = decode_card(payload, max_bytes=self._limits.card_bytes)
        if vcv.agent_id != agent:
            raise BadCapability(f"the card under this id says that it is {vcv.agent_id}")
        held = self._site(agent)
        if not same_card(None if held is None else held.card, payload):
            before = self._departed.get(agent) if held is None else held.entry
            self._admission.check(vcv, before, now=self._clock.now(), monotonic=self._clock.monotonic())
        block = self._checked(vcv)
        if held is None:
            self._admission.joined(vcv.public_key)
        self._sites[node_id(agent)] = _Site(entry=_entry(vcv), block=block, card=payload)
        self._departed.pop(agent, None)
        self._barred.pop(agent, None)

    def _checked(self, vcv: Vcv) -> FlBlock:
        """What a signed card says, if a run may rest on it; a site that may no longer be asked is dropped."""
        try:
            return self._fitting(vcv)
        except BadCapability:
            self._leave(vcv.agent_id)
            raise

    def _fitting(self, vcv: Vcv) -> FlBlock:
        wanted, block = self.wanted, block_of(vcv.agent_id, vcv.fl)
        if block is None:
            raise BadCapability("its fl block is not usable: update `foa` at the site")
        if (key := wanted.keys.get(vcv.agent_id)) and key != vcv.public_key:
            raise BadCapability("its card is signed by another key than the project's FL.toml names for it")
        if wanted.purpose != "*" and block.tasks and wanted.purpose not in block.tasks:
            raise BadCapability(f"its owner does not allow the purpose {wanted.purpose[:60]!r}")
        if missing := sorted(wanted.policies - vcv.p):
            raise BadCapability(f"it is not cleared for {', '.join(missing)[:200]}")
        if self._site(vcv.agent_id) is None and len(self._sites) >= MAX_SITES:
            raise BadCapability(f"a run takes {MAX_SITES:,} sites at most")
        return replace(block, policies=tuple(sorted(vcv.p))[:32])

    def _hear_vitals(self, agent: AgentId, payload: bytes) -> None:
        try:
            gone = decode_gone(payload) if payload else None
        except BadMessage:
            return
        if gone is None:
            return
        if gone.online:
            self._gone.pop(agent, None)
            return
        for one in map(AgentId, gone.agents or (agent,)):
            site = self._site(one)
            since = gone.since if gone.since is not None else (site.entry.issued_at if site else None)
            if since is not None:
                remember(self._gone, one, max(since, self._gone.get(one, 0.0)), REMEMBERED)

    def _is_away(self, site: _Site) -> bool:
        # a site that was announced again after a connection had begun has outlived that connection's will
        return self._gone.get(site.block.id, -1.0) >= site.entry.issued_at

    def _site(self, agent: AgentId) -> _Site | None:
        return self._sites.get(node_id(agent))

    def _leave(self, agent: AgentId) -> None:
        self._barred.pop(agent, None)
        site = self._sites.pop(node_id(agent), None)
        if site is not None:
            entry = site.entry
            self._admission.left(entry.key)
            left = Departed(version=entry.version, issued_at=entry.issued_at, key=entry.key)
            remember(self._departed, agent, left, REMEMBERED)


def _entry(vcv: Vcv) -> Entry:
    return Entry(version=vcv.version, issued_at=vcv.issued_at, key=vcv.public_key, policies=vcv.p, kinds=vcv.kinds)
