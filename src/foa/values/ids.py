"""Names of things on the fabric, each its own type so that they are not mixed up.

An id travels inside MQTT topics (`foa/agents/{agent_id}/tasks`), so its alphabet is narrow:
letters, digits, `.`, `_`, `-`, 1 to 64 characters. `check_id` is the one place that says so.
"""

import hashlib
import re
import secrets
from typing import Annotated, NewType

import msgspec

AgentId = NewType("AgentId", str)
JobId = NewType("JobId", str)
SubtaskId = NewType("SubtaskId", str)
ClusterId = NewType("ClusterId", str)
OrchestratorId = NewType("OrchestratorId", str)

#: "$" alone lets a newline stand behind the id in Python, which brings down whoever publishes to such a topic.
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

MAX_ID_CHARACTERS = 64

#: An id as it comes off the wire: same alphabet, checked by the decoder.
WireId = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, max_length=MAX_ID_CHARACTERS)]


def check_id(text: str, *, what: str) -> str:
    """Give back `text` if it may be an id, so that it can go into a topic unescaped.

    Args:
        text: the proposed id.
        what: the thing it names, for the message ("agent", "job").

    Raises:
        ValueError: it has another alphabet, is empty or is longer than 64 characters.
    """
    if not _ID.fullmatch(text):
        raise ValueError(
            f"{what} id {text[:80]!r} will not do: use 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or a digit"
        )
    return text


def cluster_id(job: JobId, subtask: SubtaskId, number: int) -> ClusterId:
    """Name the n-th cluster of a subtask; the same every time. A job id too long for it is shortened to its digest.

    Args:
        job: whose cluster it is.
        subtask: `s1` to `s…`, as plans name them.
        number: counted from 1.
    """
    name = f"{job}.{subtask}.c{number}"
    if len(name) > MAX_ID_CHARACTERS:
        name = f"{hashlib.sha256(job.encode()).hexdigest()[:32]}.{subtask}.c{number}"
    return ClusterId(name)


#: How the jobs of federated runs begin, which run by themselves: no Agent-0 takes one up.
RUN_PREFIX = "fl-"


def new_job_id() -> JobId:
    """Make a job id that nobody else makes: 80 random bits, 16 base32-like characters."""
    return JobId("job-" + secrets.token_hex(8))
