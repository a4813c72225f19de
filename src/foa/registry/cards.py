"""The cards of admitted agents: as they were signed, on the shelf, and as VCVs, of which the latest are kept decoded."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from foa.registry.bounded import remember
from foa.registry.card import decode_card
from foa.registry.shelf import Shelf
from foa.values.ids import AgentId
from foa.values.vcv import Vcv, Vector

_DECODED = 2_048  # cards kept decoded


class Cards:
    """Cards by agent. Raises (every method): StoreFailed, where the shelf is a file."""

    def __init__(self, shelf: Shelf, *, embedder: str, card_bytes: int) -> None:
        """Start with what nobody put there yet.

        Args:
            shelf: where the cards lie as they came.
            embedder: id of the registry's own.
            card_bytes: most bytes of one card.
        """
        self._shelf = shelf
        self._embedder = embedder
        self._card_bytes = card_bytes
        self._decoded: OrderedDict[AgentId, Vcv] = OrderedDict()
        self._foreign: dict[AgentId, Vector] = {}  # c by our embedder, of agents that use another

    def signed(self, agent: AgentId) -> bytes | None:
        """Give a card as it was signed, or None."""
        return self._shelf.get(agent)

    def get(self, agent: AgentId) -> Vcv | None:
        """Give an agent's VCV with a c of our embedder, or None."""
        found = self._decoded.get(agent)
        if found is None and (payload := self._shelf.get(agent)) is not None:
            found = decode_card(payload, allow_unsigned=True, max_bytes=self._card_bytes)
            if (ours := self._foreign.get(agent)) is not None:
                found = replace(found, c=ours, e=np.zeros_like(ours))
            remember(self._decoded, agent, found, _DECODED)
        return found

    def put(self, payload: bytes, vcv: Vcv) -> None:
        """Keep or replace a card that was admitted, and what was decoded of it."""
        agent = vcv.agent_id
        self._shelf.put(agent, payload)
        self._foreign.pop(agent, None)
        if vcv.embedder != self._embedder:
            self._foreign[agent] = vcv.c
        remember(self._decoded, agent, vcv, _DECODED)

    def drop(self, agent: AgentId) -> None:
        """Forget; an unknown id does nothing."""
        self._shelf.drop(agent)
        self._decoded.pop(agent, None)
        self._foreign.pop(agent, None)

    def close(self) -> None:
        """Close the shelf."""
        self._shelf.close()
