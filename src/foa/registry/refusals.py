"""Why cards were refused, and whose keys were quarantined for it."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

from foa.errors import BadCapability, FalseClaim
from foa.ports import Clock
from foa.registry.admission import Admission
from foa.registry.bounded import remember
from foa.values.ids import AgentId

log = logging.getLogger(__name__)

_MOST = 10_000  # reasons remembered
_CHARACTERS = 500  # of each


class Refusals:
    """The last refusal by agent, a bounded number."""

    def __init__(self, admission: Admission, *, clock: Clock) -> None:
        self._admission = admission
        self._clock = clock
        self._most = min(_MOST, admission.limits.remembered)
        self._reasons: OrderedDict[AgentId, str] = OrderedDict()
        self._expelled: set[str] = set()
        self.reasons: Mapping[AgentId, str] = MappingProxyType(self._reasons)  #: by agent, as they are now

    def note(self, agent: AgentId, reason: str) -> None:
        """Remember why."""
        remember(self._reasons, agent, reason[:_CHARACTERS], self._most)

    def clear(self, agent: AgentId) -> None:
        """A card of it was admitted."""
        self._reasons.pop(agent, None)

    def refuse(self, agent: AgentId | None, refusal: BadCapability, key: str) -> BadCapability:
        """Note a refusal, and count it against a key where it is for a false claim; gives it back.

        Args:
            agent: whose card; None: it does not say.
            refusal: why.
            key: that signed it; empty: none did.
        """
        if agent is not None:
            self.note(agent, str(refusal))
        if isinstance(refusal, FalseClaim) and self._admission.strike(key, monotonic=self._clock.monotonic()):
            log.warning("key quarantined", extra={"event": "key_quarantined", "key": key, "agent": agent})
            self._expelled.add(key)
        return refusal

    def expelled(self) -> set[str]:
        """Give, once, the keys that were quarantined."""
        keys, self._expelled = self._expelled, set[str]()
        return keys
