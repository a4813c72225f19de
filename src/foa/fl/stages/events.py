"""The nodes of a round as they begin and end, told to whoever runs the job. Each is told once a round, in order."""

from typing import Literal

from foa.fl.outcomes import outcomes
from foa.fl.rounds import NodeEvent, OnNode, RoundRow


class Events:
    """Tells one listener; without one it does nothing."""

    def __init__(self, listener: OnNode | None) -> None:
        """Make it."""
        self._listener = listener
        self._round = 0
        self._told = set[tuple[str, str]]()

    def enter(self, number: int) -> None:
        """Say which round the next events are of."""
        if number != self._round:
            self._round, self._told = number, set()

    def began(self, node: str) -> None:
        """A node begins. Whatever the listener raises goes on: it stops the run."""
        self._tell(node, "began", None)

    def ended(self, node: str, found: RoundRow | object) -> None:
        """A node ended, with a value of its own or its part of a row. One that never began, begins and ends."""
        self.began(node)
        self._tell(node, "ended", outcomes(found)[node] if isinstance(found, RoundRow) else found)

    def _tell(self, node: str, state: Literal["began", "ended"], value: object) -> None:
        # a choice is made again where a chosen site left: what was told stands
        if self._listener is None or (node, state) in self._told:
            return
        self._told.add((node, state))
        self._listener(NodeEvent(round=self._round, node=node, state=state, value=value))
