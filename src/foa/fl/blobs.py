"""Claim check: what is too big for a message goes into a folder that both ends reach, and the message carries its hash.

A claim names a blob by its SHA-256 only, never by a path, and what is read is checked against it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from foa.errors import BadMessage, StoreFailed

MAX_BLOB_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobClaim:
    """What is sent in place of the bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB_BYTES)]  #: bytes


class FolderBlobs:
    """Blobs as files of a shared folder (one machine, or a network mount)."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; it is created."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"blob folder {folder}: {error}") from error

    def put(self, blob: bytes) -> BlobClaim:
        """Store; a blob that is there already is not written again.

        Raises:
            StoreFailed: it is over 2 GB, or cannot be written.
        """
        if len(blob) > MAX_BLOB_BYTES:
            raise StoreFailed(f"a blob of {len(blob):,} bytes is over {MAX_BLOB_BYTES:,}")
        claim = BlobClaim(sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
        path = self._folder / claim.sha256
        try:
            if not path.exists():
                write_whole(path, blob)
        except OSError as error:
            raise StoreFailed(f"blob {path}: {error}") from error
        return claim

    def get(self, claim: BlobClaim) -> bytes:
        """Read what a claim names.

        Raises:
            BadMessage: it is not there, or is not what the claim says.
        """
        path = self._folder / claim.sha256
        try:
            if path.stat().st_size != claim.size:
                raise BadMessage(f"blob {claim.sha256[:12]}… has another size than claimed")
            blob = path.read_bytes()
        except OSError as error:
            raise BadMessage(f"blob {claim.sha256[:12]}… cannot be read: {error}") from error
        if hashlib.sha256(blob).hexdigest() != claim.sha256:
            raise BadMessage(f"blob {claim.sha256[:12]}… is not what its name says")
        return blob

    def clear(self) -> None:
        """Remove every blob: call it when the run is over."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill, sees all of it or none.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
