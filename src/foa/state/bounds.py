"""How large a thing the stores keep, the same in every adapter, and the sentence for what is larger."""

from foa.errors import StoreFailed

MAX_STEP_BYTES = 16 * 1024 * 1024  #: a submission, a step's result, a job's result
MAX_EVENT_BYTES = 1_000_000  #: a progress event: it is also published, so the wire's limit
MAX_REPLY_BYTES = 1_000_000  #: a stored reply: the wire's limit
MAX_OUTCOME_BYTES = 64 * 1024  #: one graded contribution
MAX_NAME_CHARACTERS = 200  #: a step's name
MAX_KEY_CHARACTERS = 512  #: a deduplication key
MAX_JOBS_LISTED = 10_000  #: rows of one `jobs` call
SHOWN_CHARACTERS = 200  #: of a job's text, in a listing

OUTCOMES_KEPT = 100_000  #: older outcomes are forgotten: reputation decays, so they weigh nothing by then
ENDED_JOBS_KEPT = 1_000  #: of a journal in memory; one in a database keeps them all
REPLIES_KEPT = 10_000  #: newest replies of an agent
REPLY_SECONDS = 7 * 86_400.0  #: how long a reply is kept: far beyond the deadline of any job

#: How a job may end.
ENDINGS = frozenset({"done", "partial", "failed", "cancelled"})


def check_bytes(value: bytes, limit: int, *, what: str) -> bytes:
    """Give back `value` if it is not over `limit` bytes.

    Raises:
        StoreFailed: it is; trying the same again does not help.
    """
    if len(value) > limit:
        raise StoreFailed(f"{what} is {len(value):,} bytes, over the limit of {limit:,}: store a shorter one")
    return value


def check_name(name: str, limit: int, *, what: str) -> str:
    """Give back `name` if it is 1 to `limit` characters without NUL (PostgreSQL keeps none).

    Raises:
        ValueError: it is not.
    """
    if not 0 < len(name) <= limit or "\0" in name:
        raise ValueError(f"{what} {name[:40]!r} will not do: use 1 to {limit} characters, none of them NUL")
    return name


def shorten(text: str) -> str:
    """One line of at most `SHOWN_CHARACTERS` characters, as listings show it."""
    # a chat front end may send half a surrogate pair; no database stores one
    line = " ".join(text.encode("utf-8", "replace").decode().replace("\0", " ").split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def check_ending(status: str) -> str:
    """Give back `status` if a job may end with it.

    Raises:
        ValueError: it may not.
    """
    if status not in ENDINGS:
        raise ValueError(f"a job ends as one of {', '.join(sorted(ENDINGS))}, not {status!r}")
    return status
