"""Names of things on the fabric, each its own type so that they are not mixed up.

An id travels inside MQTT topics (`foa/agents/{agent_id}/tasks`), so its alphabet is narrow:
letters, digits, `.`, `_`, `-`, 1 to 64 characters. `check_id` is the one place that says so.
"""

import re
import secrets
from typing import Annotated, NewType

import msgspec

AgentId = NewType("AgentId", str)
JobId = NewType("JobId", str)
SubtaskId = NewType("SubtaskId", str)
ClusterId = NewType("ClusterId", str)
OrchestratorId = NewType("OrchestratorId", str)

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: An id as it comes off the wire: same alphabet, checked by the decoder.
WireId = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, max_length=64)]


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


def new_job_id() -> JobId:
    """Make a job id that nobody else makes: 80 random bits, 16 base32-like characters."""
    return JobId("job-" + secrets.token_hex(8))
