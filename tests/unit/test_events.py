"""Progress must not stop work: the event log ends whatever comes, and keeps what it can."""

import asyncio

import msgspec
from tests.fakes import HandClock

from foa.errors import PublishRefused
from foa.job import EventLog
from foa.state.memory import MemoryJournal
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values import events
from foa.values.ids import JobId
from foa.values.publication import Publication

JOB = JobId("job-1")


class Refusing(MemoryTransport):
    """A broker that takes no event."""

    async def publish(self, publication: Publication) -> None:
        raise PublishRefused("not authorised")


async def journal_with_job() -> MemoryJournal:
    journal = MemoryJournal(HandClock())
    await journal.open(JOB, b"{}", text="a task")
    return journal


def said(what: str) -> events.FellBack:
    return events.FellBack(at=1.0, what=what)


async def kept(journal: MemoryJournal) -> list[str]:
    return [msgspec.json.decode(raw, type=events.FellBack).what for _, raw in await journal.events(JOB)]


async def test_an_event_that_the_broker_refuses_is_kept_all_the_same():
    journal = await journal_with_job()
    log = EventLog(journal, Refusing(MemoryHub(), client_id="agent-0"), "foa/meta/job-1", JOB)
    log.tell(said("one"))
    log.tell(said("two"))
    log.close()
    async with asyncio.timeout(5):
        await log.run()
    assert await kept(journal) == ["one", "two"]


async def test_a_log_that_is_full_can_be_closed_and_ends():
    journal = await journal_with_job()
    async with asyncio.timeout(20), MemoryTransport(MemoryHub(), client_id="agent-0") as transport:
        log = EventLog(journal, transport, "foa/meta/job-1", JOB)
        for number in range(10_001):
            log.tell(said(str(number)))
        log.close()
        await log.run()
    assert await kept(journal) == [str(number) for number in range(10_000)]


async def test_what_is_told_after_the_end_does_not_keep_the_log_open():
    journal = await journal_with_job()
    async with asyncio.timeout(5), MemoryTransport(MemoryHub(), client_id="agent-0") as transport:
        log = EventLog(journal, transport, "foa/meta/job-1", JOB)
        log.tell(said("in time"))
        log.close()
        log.tell(said("too late"))
        await log.run()
    assert await kept(journal) == ["in time"]


async def test_an_event_too_long_for_a_message_is_dropped_and_the_next_one_is_kept():
    journal = await journal_with_job()
    async with asyncio.timeout(5), MemoryTransport(MemoryHub(), client_id="agent-0") as transport:
        log = EventLog(journal, transport, "foa/meta/job-1", JOB)
        log.tell(said("x" * 1_000_001))
        log.tell(said("short"))
        log.close()
        await log.run()
    assert await kept(journal) == ["short"]
