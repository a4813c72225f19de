"""Notes that an agent keeps for the length of one job and puts in front of its next answers."""

from collections import OrderedDict, deque

from foa.values.ids import JobId

MAX_JOBS = 256  #: the jobs longest untouched are forgotten first
MAX_NOTES = 8  #: of one job; the oldest go first
MAX_NOTE = 240  #: characters of one note


class Scratchpad:
    """Bounded notes by job. Nothing outlives the process: what must be kept is in the replies."""

    def __init__(self) -> None:
        self._notes: OrderedDict[JobId, deque[str]] = OrderedDict()

    def write(self, job: JobId, note: str) -> None:
        """Keep a note; an empty one, or one that is there already, is left out."""
        text = " ".join(note.split())[:MAX_NOTE]
        notes = self._notes.setdefault(job, deque(maxlen=MAX_NOTES))
        self._notes.move_to_end(job)
        if text and text not in notes:
            notes.append(text)
        while len(self._notes) > MAX_JOBS:
            self._notes.popitem(last=False)

    def read(self, job: JobId, *, characters: int) -> str:
        """The newest notes that fit, oldest of them first, a line each."""
        kept: list[str] = []
        room = characters
        for note in reversed(self._notes.get(job, ())):
            room -= len(note) + 1
            if room < 0:
                break
            kept.append(note)
        return "\n".join(reversed(kept))

    def forget(self, job: JobId) -> None:
        """Drop a job's notes."""
        self._notes.pop(job, None)
