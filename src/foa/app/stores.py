"""Where jobs, outcomes and replies are kept: files under the state folder, a database URL, or memory."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foa.ports import Clock, Journal, Outcomes, Replies
from foa.state.database import Database
from foa.state.memory import MemoryJournal, MemoryOutcomes, MemoryReplies
from foa.state.sql import SqlJournal, SqlOutcomes, SqlReplies


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The three stores of one process."""

    journal: Journal
    outcomes: Outcomes
    replies: Replies


def memory_stores(clock: Clock) -> Stores:
    """Stores that end with the process."""
    return Stores(journal=MemoryJournal(clock), outcomes=MemoryOutcomes(), replies=MemoryReplies(clock))


@asynccontextmanager
async def open_stores(where: Path | str | None, clock: Clock) -> AsyncGenerator[Stores]:
    """Open the stores.

    Args:
        where: a file, a database URL, or None for memory.
        clock: time.

    Raises:
        StoreFailed: it cannot be opened, or was written by a newer release.
    """
    if where is None:
        yield memory_stores(clock)
        return
    async with Database(where) as database:
        yield Stores(
            journal=SqlJournal(database, clock),
            outcomes=SqlOutcomes(database),
            replies=SqlReplies(database, clock),
        )
