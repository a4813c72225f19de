"""The version v of each agent's VCV: +1 whenever what its peers can see has changed since the last run (eq. 1)."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import msgspec

from foa.errors import StoreFailed
from foa.values.ids import AgentId


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    digest: Annotated[str, msgspec.Meta(max_length=64)]


class Versions:
    """Last version and content hash of each agent, kept in a small JSON file, or only in memory.

    Args:
        path: the file; None: nothing outlives the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: dict[str, _Seen] | None = {} if path is None else None

    async def next(self, digests: dict[AgentId, str]) -> dict[AgentId, int]:
        """Give the version of each agent with this content, and keep it.

        Raises:
            StoreFailed: the file cannot be read or written.
        """
        if self._seen is None:
            self._seen = await asyncio.to_thread(self._read)
        changed = False
        for agent, digest in digests.items():
            seen = self._seen.get(agent)
            if seen is None or seen.digest != digest:
                self._seen[agent] = _Seen(version=seen.version + 1 if seen else 1, digest=digest)
                changed = True
        if changed and self._path is not None:
            await asyncio.to_thread(self._write, msgspec.json.encode(self._seen))
        return {agent: self._seen[agent].version for agent in digests}

    def _read(self) -> dict[str, _Seen]:
        assert self._path is not None
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Seen])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise StoreFailed(f"{self._path}: cannot read the agents' versions ({error}); mend or remove it") from error

    def _write(self, content: bytes) -> None:
        assert self._path is not None
        part = self._path.with_name(self._path.name + ".part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            raise StoreFailed(f"{self._path}: cannot keep the agents' versions ({error})") from error
