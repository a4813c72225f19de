"""Cards that could not be embedded because the embedder did not answer: kept, a bounded number, for a later try.

put off ─► wait `again_seconds` ─► taken, half as many at once as failed ─► admitted │ put off again

Halving lets cards in of which one alone makes the embedder fail: that one ends by itself.
"""

from foa.errors import NotEmbedded
from foa.registry.admission import RegistryLimits
from foa.values.ids import AgentId

AT_ONCE = 256  #: most cards of one try


class Unembedded:
    """A line of cards, each with the id it came in under."""

    def __init__(self, limits: RegistryLimits) -> None:
        self._limits = limits
        self._line: dict[tuple[AgentId, bytes], str] = {}
        self._at_once = AT_ONCE
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._line)

    def put_off(self, agent: AgentId, payload: bytes, why: str, *, via: str = "") -> NotEmbedded:
        """Put a card at the end of the line; gives the refusal, which says whether there was room.

        Args:
            agent: whose card.
            payload: the card.
            why: the embedder did not answer.
            via: the orchestrator that told of it; empty: it was heard on the own broker.
        """
        if (agent, payload) not in self._line and not self._has_room(own=not via):
            return NotEmbedded(f"agent {agent}: its card could not be embedded, and too many wait; publish it again: {why}")
        self._line[agent, payload] = via
        return NotEmbedded(f"agent {agent}: its card could not be embedded and waits for another try: {why}")

    def _has_room(self, *, own: bool) -> bool:
        """Tell whether one more may wait; where peers' cards are in the way of one of the own broker, the oldest goes."""
        if len(self._line) < self._limits.unembedded:
            return True
        told = next((card for card, via in self._line.items() if via), None) if own else None
        if told is not None:
            del self._line[told]
        return told is not None

    def failed(self, cards: int, *, monotonic: float) -> None:
        """So many cards failed together: fewer at once are tried next, and not at once."""
        self._at_once = max(1, min(AT_ONCE, cards) // 2)
        self._due = monotonic + self._limits.again_seconds

    def drop(self, agent: AgentId, *, told: bool = False) -> None:
        """The agent left, or a card of it was admitted.

        Args:
            told: a peer said so: what was heard on the own broker still waits.
        """
        if self._line:
            self._line = {card: via for card, via in self._line.items() if card[0] != agent or (told and not via)}

    def seconds(self, *, monotonic: float) -> float | None:
        """How long until the next try; None: no card waits."""
        return max(0.0, self._due - monotonic) if self._line else None

    def take(self, *, monotonic: float) -> dict[str, list[tuple[AgentId, bytes]]]:
        """Take the cards of the next try out of the line, by who told of them; none before its time."""
        taken: dict[str, list[tuple[AgentId, bytes]]] = {}
        if monotonic < self._due:
            return taken
        for card in list(self._line)[: self._at_once]:
            taken.setdefault(self._line.pop(card), []).append(card)
        self._at_once = min(AT_ONCE, 2 * self._at_once)
        return taken
