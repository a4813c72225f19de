"""A site's model beside its guardian's rules: wired to the event loop, every decision on record in the site's own folder."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from foa.errors import StoreFailed
from foa.fl.bidder import Consider
from foa.fl.guard import Guard, GuardEntry
from foa.fl.guardian import Guardian
from foa.fl.guardian_model import ModelGuardian, on_loop
from foa.fl.project import SiteSpec
from foa.ports import Clock, Model

log = logging.getLogger(__name__)

#: From the rules of a site to what asks its model within them; None: there is none to ask.
Advised = Callable[[Guardian], Consider | None]

MAX_LOG_BYTES = 10_000_000  #: above this the file is begun anew, and the one before is kept beside it


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a site's decisions: what its model was asked and what became of it. The prompt is there as its hash."""

    at: float  #: seconds since the epoch
    site: str
    entry: GuardEntry


class DecisionLog:
    """Appends a site's decisions to a file of JSON lines that only its owner needs."""

    def __init__(self, path: Path, site: str, clock: Clock) -> None:
        """Make it; the file comes with the first decision."""
        self._path = path
        self._site = site
        self._clock = clock

    def __call__(self, entry: GuardEntry) -> None:
        """Append one. A full disk is logged: the rules bound what the model may decide, on record or not."""
        line = msgspec.json.encode(Decision(at=self._clock.now(), site=self._site, entry=entry))
        try:
            if self._path.exists() and self._path.stat().st_size > MAX_LOG_BYTES:
                self._path.replace(self._path.with_suffix(".before.jsonl"))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            log.warning("a decision of %s is not on record: %s: %s", self._site, self._path, error)


def decisions_in(folder: Path) -> Sequence[Decision]:
    """Every decision of the sites that keep theirs in this folder, by site and then in order. Damaged lines are left out.

    Raises:
        StoreFailed: a file cannot be read.
    """
    found = list[Decision]()
    for path in sorted(folder.glob("decisions-*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise StoreFailed(f"{path}: {error}") from error
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Decision))
            except (msgspec.ValidationError, msgspec.DecodeError):
                log.warning("%s has a line that is no decision; it is left out", path)
    return found


def advised(spec: SiteSpec, model: Model | None, clock: Clock, path: Path) -> Advised:
    """What puts a site's model beside its rules; call it on the event loop on which the model lives.

    Args:
        spec: of the site; without the owner's wishes the rules stand alone.
        model: may be the server's own: what it is told of a site it is told in that site's questions only.
        clock: for patience with the model.
        path: file of its decisions.
    """
    loop = asyncio.get_running_loop()

    def beside(rules: Guardian) -> Consider | None:
        if model is None or not spec.spec:
            return None
        guard = Guard(model, clock, log=DecisionLog(path, spec.name, clock))
        return on_loop(ModelGuardian(rules, guard, spec=spec.spec), loop)

    return beside
