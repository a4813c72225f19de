"""Claim check: what is too big for a message is put where both ends reach it, and the message carries its hash.

    one machine    FolderBlobs      a folder that both see
    several        BlobServer       at the server of the run (`foa.fl.blob_server`); a site needs no open port
                   HttpBlobs        at a site              (`foa.fl.blob_client`)

A claim names a blob by its SHA-256 only, never by a path, and what is read is checked against it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from foa.errors import BadMessage, StoreFailed
from foa.values.ids import AgentId, WireId

MAX_BLOB_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobClaim:
    """What is sent in place of the bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB_BYTES)]  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPlace:
    """Where a server keeps the blobs of a run, as it tells one site beside each message."""

    at: Literal["folder", "http"]
    run: WireId
    url: Annotated[str, msgspec.Meta(max_length=500)] = ""  #: http: the address that `/blobs/{sha256}` is under
    token: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,300}\Z")] = (
        ""  #: http: bearer token of that site in that run
    )


class Blobs(Protocol):
    """Where one end puts and finds blobs. Blocking: call it from a thread."""

    def put(self, blob: bytes) -> BlobClaim:
        """Store for the other end.

        Raises:
            StoreFailed: it is too large, or there is no room.
            Unreachable: the place does not answer.
        """
        ...

    def get(self, claim: BlobClaim) -> bytes:
        """What the other end stored.

        Raises:
            BadMessage: it is not there, or is not what the claim says.
            Unreachable: the place does not answer.
        """
        ...

    def drop(self, claim: BlobClaim) -> None:
        """Forget a blob that nobody will ask for any more; one that is not there does nothing."""
        ...


class ServerBlobs(Blobs, Protocol):
    """The end that says where."""

    def place(self, agent: AgentId) -> BlobPlace:
        """Where one site finds and puts blobs."""
        ...


class FolderBlobs:
    """Blobs as files of a shared folder (one machine, or a network mount)."""

    def __init__(self, folder: Path, *, run: str = "run") -> None:
        """Use this folder; it is created.

        Args:
            folder: of one run.
            run: its name; with it the other end knows the folder too.
        """
        self.folder = folder
        self._run = run
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"blob folder {folder}: {error}") from error

    def place(self, agent: AgentId) -> BlobPlace:
        """The folder of the run."""
        return BlobPlace(at="folder", run=self._run)

    def put(self, blob: bytes) -> BlobClaim:
        """Store; a blob that is there already is not written again.

        Raises:
            StoreFailed: it is over 2 GB, or cannot be written.
        """
        claim = claim_of(blob)
        path = self.folder / claim.sha256
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
        path = self.folder / claim.sha256
        try:
            if path.stat().st_size != claim.size:
                raise BadMessage(f"blob {claim.sha256[:12]}… has another size than claimed")
            blob = path.read_bytes()
        except OSError as error:
            raise BadMessage(
                f"blob {claim.sha256[:12]}… cannot be read: {error}; a server and sites on several machines share no "
                "folder: set FOA_FL_LISTEN at the server"
            ) from error
        if hashlib.sha256(blob).hexdigest() != claim.sha256:
            raise BadMessage(f"blob {claim.sha256[:12]}… is not what its name says")
        return blob

    def drop(self, claim: BlobClaim) -> None:
        """Remove a blob."""
        (self.folder / claim.sha256).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove every blob: call it when the run is over."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)


def claim_of(blob: bytes) -> BlobClaim:
    """The claim to a blob.

    Raises:
        StoreFailed: it is over 2 GB.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise StoreFailed(f"a blob of {len(blob):,} bytes is over {MAX_BLOB_BYTES:,}")
    return BlobClaim(sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))


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
