"""The stores in memory: for tests, for trying things out, and for jobs whose history nobody needs.

They keep every promise of the ports but one: nothing outlives the process, and the oldest of many ended jobs not even that.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foa.errors import StoreFailed
from foa.ports import Clock, JobRow
from foa.state import bounds
from foa.values.ids import JobId


@dataclass(slots=True, kw_only=True)
class _Kept:
    submission: bytes
    text: str
    created_at: float
    status: str = "running"
    ended_at: float | None = None
    result: bytes | None = None
    steps: dict[str, bytes] = field(default_factory=dict[str, bytes])
    events: list[bytes] = field(default_factory=list[bytes])


class MemoryJournal:
    """`Journal` in a dictionary: every running job and the newest `kept` that ended."""

    def __init__(self, clock: Clock, *, kept: int = bounds.ENDED_JOBS_KEPT) -> None:
        self._clock = clock
        self._kept = kept
        self._ended: deque[JobId] = deque()
        self._jobs: dict[JobId, _Kept] = {}

    async def open(self, job: JobId, submission: bytes, *, text: str) -> bool:
        """Admit a job. False: it was there already."""
        bounds.check_name(job, bounds.MAX_NAME_CHARACTERS, what="job")
        bounds.check_bytes(submission, bounds.MAX_STEP_BYTES, what=f"the submission of job {job}")
        if job in self._jobs:
            return False
        self._jobs[job] = _Kept(submission=submission, text=bounds.shorten(text), created_at=self._clock.now())
        return True

    async def load(self, job: JobId) -> Mapping[str, bytes]:
        """Every saved step of a job, in the order of saving; empty for an unknown job."""
        return dict(self._jobs[job].steps) if job in self._jobs else {}

    async def save(self, job: JobId, step: str, result: bytes) -> None:
        """Keep the result of a step; the first one holds."""
        bounds.check_name(step, bounds.MAX_NAME_CHARACTERS, what="step")
        bounds.check_bytes(result, bounds.MAX_STEP_BYTES, what=f"the result of step {step}")
        self._known(job).steps.setdefault(step, result)

    async def note(self, job: JobId, *events: bytes) -> int:
        """Append progress events; gives the number of the last."""
        for event in events:
            bounds.check_bytes(event, bounds.MAX_EVENT_BYTES, what=f"an event of job {job}")
        kept = self._known(job).events
        kept.extend(events)
        return len(kept)

    async def events(self, job: JobId, *, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """The events after this number, in order."""
        if job not in self._jobs:
            return []
        start = max(after, 0)
        return list(enumerate(self._jobs[job].events[start:], start=start + 1))

    async def close_job(self, job: JobId, *, status: str, result: bytes) -> None:
        """The job ended. The first end holds."""
        bounds.check_ending(status)
        bounds.check_bytes(result, bounds.MAX_STEP_BYTES, what=f"the result of job {job}")
        kept = self._known(job)
        if kept.ended_at is None:
            kept.status, kept.result, kept.ended_at = status, result, self._clock.now()
            self._ended.append(job)
            while len(self._ended) > self._kept:
                del self._jobs[self._ended.popleft()]

    async def jobs(self, *, status: str | None = None, job: JobId | None = None, limit: int = 100) -> Sequence[JobRow]:
        """Jobs, newest first."""
        rows = [
            _row(found, kept)
            for found, kept in reversed(self._jobs.items())
            if status in (None, kept.status) and job in (None, found)
        ]
        return rows[: max(0, min(limit, bounds.MAX_JOBS_LISTED))]

    def _known(self, job: JobId) -> _Kept:
        try:
            return self._jobs[job]
        except KeyError:
            raise StoreFailed(f"job {job} is not in the journal: open it before anything else is kept of it") from None


def _row(job: JobId, kept: _Kept) -> JobRow:
    return JobRow(
        job=job,
        status=kept.status,
        text=kept.text,
        created_at=kept.created_at,
        ended_at=kept.ended_at,
        submission=kept.submission,
        result=kept.result,
    )


class MemoryOutcomes:
    """`Outcomes` in a list: the newest `kept` of them."""

    def __init__(self, *, kept: int = bounds.OUTCOMES_KEPT) -> None:
        self._outcomes: deque[bytes] = deque(maxlen=kept)

    async def append(self, *outcomes: bytes) -> None:
        """Keep graded outcomes, all or none."""
        for outcome in outcomes:
            bounds.check_bytes(outcome, bounds.MAX_OUTCOME_BYTES, what="an outcome")
        self._outcomes.extend(outcomes)

    async def replay(self) -> Sequence[bytes]:
        """All that are kept, oldest first."""
        return list(self._outcomes)


class MemoryReplies:
    """`Replies` in a dictionary: the newest `kept`, none older than `seconds`."""

    def __init__(self, clock: Clock, *, kept: int = bounds.REPLIES_KEPT, seconds: float = bounds.REPLY_SECONDS) -> None:
        self._clock = clock
        self._kept = kept
        self._seconds = seconds
        self._replies: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def find(self, key: str) -> bytes | None:
        """The stored reply, if there is one that is not too old."""
        self._forget()
        found = self._replies.get(key)
        return None if found is None else found[1]

    async def keep(self, key: str, reply: bytes) -> None:
        """Store it; the first one holds."""
        bounds.check_name(key, bounds.MAX_KEY_CHARACTERS, what="deduplication key")
        bounds.check_bytes(reply, bounds.MAX_REPLY_BYTES, what="a reply")
        self._forget()
        self._replies.setdefault(key, (self._clock.now(), reply))
        while len(self._replies) > self._kept:
            self._replies.popitem(last=False)

    def _forget(self) -> None:
        oldest = self._clock.now() - self._seconds
        while self._replies and next(iter(self._replies.values()))[0] < oldest:
            self._replies.popitem(last=False)
