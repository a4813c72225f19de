"""All that is held of admitted agents, changed in one go: no embedder is asked here, no index written, nobody waited for.

card that was opened ─► may it follow what is held? (admission.py) ─► roster (columns) + cards + presence
left                 ─► out of all of them
"""

from dataclasses import replace

from foa.errors import NotNow
from foa.ports import Clock
from foa.registry.admission import Admission
from foa.registry.cards import Cards
from foa.registry.departures import Departures
from foa.registry.ledger import Stamp, mark_of
from foa.registry.presence import Presence
from foa.registry.roster import Entry, Roster
from foa.registry.texts import same_card
from foa.values.ids import AgentId
from foa.values.vcv import Vcv


class Admitted:
    """What a registry holds by agent."""

    def __init__(self, roster: Roster, cards: Cards, admission: Admission, *, clock: Clock) -> None:
        """Begin with nobody; the bounds are those of `admission`."""
        self.roster = roster
        self.cards = cards
        self.admission = admission
        self.presence = Presence(admission.limits.remembered)
        self.departures = Departures(admission.limits.remembered)
        self._clock = clock

    def is_here(self, agent: AgentId) -> bool:
        """Tell whether an agent was heard on the own broker."""
        return agent in self.roster and not self.presence.origin(agent)

    def stamp(self, agent: AgentId) -> Stamp | None:
        """Which card of an agent is held, or None."""
        if (entry := self.roster.entry(agent)) is None:
            return None
        return Stamp(entry.version, entry.issued_at, mark=mark_of(self.cards.signed(agent) or b""))

    def put(self, payload: bytes, vcv: Vcv, *, via: str) -> None:
        """Take a card, or refuse it.

        Args:
            payload: as it was signed.
            vcv: what it says.
            via: the orchestrator that told of it; empty: it was heard on the own broker.

        Raises:
            FalseClaim, NotNow, BadCapability: as `Admission.check`; the registry is full.
        """
        agent, entry = vcv.agent_id, self.roster.entry(vcv.agent_id)
        # a name that was only told of is free for who is here
        yields = entry is not None and not via and self.presence.origin(agent) != "" and entry.key != vcv.public_key
        held = None if yields else entry
        if entry is None and len(self.roster) >= self.admission.limits.agents:
            raise NotNow(f"agent {agent}: the registry is full ({self.admission.limits.agents:,} agents)")
        same = held is not None and same_card(self.cards.signed(agent), payload)
        if not same:
            self._check(payload, vcv, held, via)
        elif payload != self.cards.signed(agent):
            self.admission.check_again(vcv, now=self._clock.now(), monotonic=self._clock.monotonic())
        if entry is not None and yields:
            self.admission.left(entry.key)
            self.presence.forget(agent)
        if held is None:
            self.admission.joined(vcv.public_key)
        self._keep(payload, vcv, via=via, known=same)

    def drop(self, agent: AgentId) -> Entry | None:
        """Forget an agent; gives what was held, or None."""
        if (entry := self.roster.drop(agent)) is not None:
            self.admission.left(entry.key)
            self.cards.drop(agent)
            self.presence.forget(agent)
        return entry

    def _check(self, payload: bytes, vcv: Vcv, held: Entry | None, via: str) -> None:
        agent, now, monotonic = vcv.agent_id, self._clock.now(), self._clock.monotonic()
        left = self.departures.latest(agent) if via else self.departures.heard(agent)
        # of two cards of one moment that come from here and elsewhere, the signer of the one that came here is told
        rival = via or (self.presence.origin(agent) and held is not None and vcv.issued_at != held.issued_at)
        if held is None or not rival or (ours := self.stamp(agent)) is None:
            self.admission.check(vcv, held or left, now=now, monotonic=monotonic)
            return
        wins = Stamp(vcv.version, vcv.issued_at, mark=mark_of(payload)) > ours
        self.admission.check(vcv, held, now=now, monotonic=monotonic, wins=wins)

    def _keep(self, payload: bytes, vcv: Vcv, *, via: str, known: bool) -> None:
        agent = vcv.agent_id
        vitals = self.presence.announce(agent, issued_at=vcv.issued_at, via=via, known=known)
        # an agent of another broker answers no request that is sent on this one
        self.roster.put(replace(vcv, kinds=()) if self.presence.origin(agent) else vcv, vcv.e)
        self.cards.put(payload, vcv)
        self.departures.forget(agent)
        self.roster.set_vitals(agent, vitals)
