"""Blobs over HTTP, at a site: fetches what the server of a run offers, and brings it the site's updates. Blocking."""

import hashlib
import logging
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from foa.errors import BadMessage, StoreFailed, Unreachable
from foa.fl.blobs import MAX_BLOB_BYTES, BlobClaim, BlobPlace, claim_of

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
SECONDS = 60.0  #: for each read and write
RETRIES = 2  #: of a connection that could not be made


class HttpBlobs:
    """The blobs of one run as one site reaches them. What it fetches goes to disk first and is checked before it is used."""

    def __init__(
        self,
        place: BlobPlace,
        folder: Path,
        *,
        hosts: tuple[str, ...] = (),
        ca: Path | None = None,
        blob_bytes: int = MAX_BLOB_BYTES,
    ) -> None:
        """Make it.

        Args:
            place: as the server said.
            folder: for what is being fetched.
            hosts: that the owner allows; empty: any.
            ca: certificate authorities that may sign the server's certificate; None: the system's.
            blob_bytes: most bytes of one blob.

        Raises:
            BadMessage: the address is none that blobs are fetched from.
        """
        self._url = _checked(place.url, hosts)
        self._token = place.token
        self._folder = folder
        self._ca = ca
        self._bytes = blob_bytes

    def put(self, blob: bytes) -> BlobClaim:
        """Bring a blob to the server.

        Raises:
            StoreFailed: it is too large for either end, or the server has no room.
            Unreachable: the server does not answer.
        """
        claim = claim_of(blob)
        if claim.size > self._bytes:
            raise StoreFailed(f"a blob of {claim.size:,} bytes is over the limit of {self._bytes:,} (FOA_FL_BLOB_BYTES)")
        with self._failing("bring"), self._client() as client:
            headers, address = {"content-length": str(claim.size)}, f"{self._url}/blobs/{claim.sha256}"
            with client.stream("PUT", address, content=_pieces(blob), headers=headers) as answer:
                if answer.status_code != 204:
                    raise StoreFailed(f"the server did not take an update: {_status(answer)}")
        return claim

    def get(self, claim: BlobClaim) -> bytes:
        """Fetch a blob.

        Raises:
            BadMessage: it is not there, is too large, or is not what the claim says.
            StoreFailed: there is no room for it here.
            Unreachable: the server does not answer.
        """
        if claim.size > self._bytes:
            raise BadMessage(f"a blob of {claim.size:,} bytes is over the limit of {self._bytes:,} (FOA_FL_BLOB_BYTES)")
        address = f"{self._url}/blobs/{claim.sha256}"
        with self._failing("fetch"), self._client() as client, client.stream("GET", address) as answer:
            if answer.status_code != 200:
                raise BadMessage(f"blob {claim.sha256[:12]}… cannot be fetched: {_status(answer)}")
            return self._checked(claim, answer.iter_raw(CHUNK_BYTES))

    def drop(self, claim: BlobClaim) -> None:
        """The server forgets by itself."""

    def _checked(self, claim: BlobClaim, chunks: Iterator[bytes]) -> bytes:
        digest, got = hashlib.sha256(), 0
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for chunk in chunks:
                got += len(chunk)
                if got > claim.size:
                    break
                digest.update(chunk)
                file.write(chunk)
            if got != claim.size or digest.hexdigest() != claim.sha256:
                raise BadMessage(f"blob {claim.sha256[:12]}… is not what its name says")
            file.seek(0)
            return file.read()

    def _client(self) -> httpx.Client:
        verify = ssl.create_default_context(cafile=self._ca)
        return httpx.Client(
            transport=httpx.HTTPTransport(retries=RETRIES, verify=verify),
            timeout=SECONDS,
            follow_redirects=False,
            headers={"authorization": f"Bearer {self._token}", "accept-encoding": "identity"},
        )

    def _failing(self, what: str) -> "_Failing":
        return _Failing(what, self._url)


class _Failing:
    """Turns foreign errors into ours."""

    def __init__(self, what: str, url: str) -> None:
        self._what = what
        self._url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | ssl.SSLError):
            why = str(error) or type(error).__name__
            raise Unreachable(
                f"cannot {self._what} a model at {self._url}: {why}; is FOA_FL_URL reachable from here?"
            ) from error
        if isinstance(error, OSError):
            raise StoreFailed(f"cannot {self._what} a model: {error}") from error


def _status(answer: httpx.Response) -> str:
    """What a no says, for an error that goes back to the server of the run: never a word of what stands at the address.

    The server names the address, and it may be one that only this site can read.
    """
    said = next(answer.iter_raw(), b"")[:200]
    log.warning("%s answered %d: %r", answer.url.host, answer.status_code, said)
    return f"status {answer.status_code}; the log of this site has the words"


def _checked(url: str, hosts: tuple[str, ...]) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadMessage(f"blobs are said to be at {url[:80]!r}, which is no address") from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query or parts.fragment:
        raise BadMessage(f"blobs are said to be at {url[:80]!r}, which is no plain http or https address")
    if hosts and parts.host not in hosts:
        raise BadMessage(f"this site fetches models from {', '.join(hosts)} only (FOA_FL_HOSTS), not from {parts.host[:80]}")
    return url.rstrip("/")


def _pieces(blob: bytes) -> Iterator[bytes]:
    return (blob[start : start + CHUNK_BYTES] for start in range(0, len(blob), CHUNK_BYTES))
