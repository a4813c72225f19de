"""The version v of each agent's VCV: +1 whenever what its peers can see has changed since the last run (eq. 1)."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock, Timeout

from foa.errors import StoreFailed
from foa.values.ids import AgentId

_LOCKED_SECONDS = 10.0  # longest wait for another process, which is done in a moment


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    digest: Annotated[str, msgspec.Meta(max_length=64)]


class Versions:
    """Last version and content hash of each agent, kept in a small JSON file, or only in memory.

    Several processes may keep theirs in one file; what one of them counted on, the next one goes on from.

    Args:
        path: the file; None: nothing outlives the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: dict[str, _Seen] = {}  # without a file

    async def next(self, digests: dict[AgentId, str]) -> dict[AgentId, int]:
        """Give the version of each agent with this content, and keep it.

        Raises:
            StoreFailed: the file cannot be read or written.
        """
        if self._path is None:
            seen = self._seen
            _count(seen, digests)
        else:
            seen = await asyncio.to_thread(_kept, self._path, digests)
        return {agent: seen[agent].version for agent in digests}


def _count(seen: dict[str, _Seen], digests: dict[AgentId, str]) -> bool:
    """Count every agent on whose content is another one; tells whether any is."""
    new = {agent: digest for agent, digest in digests.items() if agent not in seen or seen[agent].digest != digest}
    for agent, digest in new.items():
        seen[agent] = _Seen(version=seen[agent].version + 1 if agent in seen else 1, digest=digest)
    return bool(new)


def _kept(path: Path, digests: dict[AgentId, str]) -> dict[str, _Seen]:
    """What the file says when these are counted."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_LOCKED_SECONDS):
            seen = _read(path)
            if _count(seen, digests):
                _write(path, msgspec.json.encode(seen))
            return seen
    except (OSError, Timeout) as error:
        raise StoreFailed(f"{path}: cannot keep the agents' versions ({error})") from error


def _read(path: Path) -> dict[str, _Seen]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Seen])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreFailed(f"{path}: cannot read the agents' versions ({error}); mend or remove it") from error


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
