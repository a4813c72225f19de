"""Whose turn it is at a site: one run at a time, and the next one when it is over or silent."""

from foa.ports import Clock

SILENCE_SECONDS = 120.0  #: after which a run that asks nothing any more holds a site no longer


class Lease:
    """The run that a site works for. It belongs to one event loop."""

    def __init__(self, clock: Clock, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        """Nobody holds it at first.

        Args:
            clock: time.
            silence_seconds: how long a run may ask nothing and still hold it.
        """
        self._clock = clock
        self._silence = silence_seconds
        self._holder = ""
        self._working = 0
        self._heard = 0.0
        self._over = False

    @property
    def holder(self) -> str:
        """The run that holds it; empty: none."""
        return self._holder

    def admit(self, run: str) -> bool:
        """Give the site to this run, if it is free or its already. Follow a yes by `done`, when the work is done."""
        if run != self._holder:
            if self._holder and (self._working or not (self._over or self._is_silent())):
                return False
            self._holder = run
        self._over = False
        self._working += 1
        self._heard = self._clock.monotonic()
        return True

    def done(self) -> None:
        """One piece of admitted work is done."""
        self._working -= 1
        self._heard = self._clock.monotonic()

    def over(self, run: str) -> None:
        """The run says that it has ended; from another run it means nothing."""
        if run == self._holder:
            self._over = True

    def _is_silent(self) -> bool:
        return self._clock.monotonic() - self._heard >= self._silence
