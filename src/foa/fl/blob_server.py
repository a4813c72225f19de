"""Blobs over HTTP, at the server of a run: sites fetch the model and bring their updates, and need no open port themselves.

    GET /blobs/{sha256}   what the server offers at the moment      Authorization: Bearer {agent}.{expires}.{mac}
    PUT /blobs/{sha256}   what a site brings; only the server reads it, from its own disk

A token is made for one site, lives as long as the run or its expiry, and cannot be guessed. Uploads go straight to disk, are
checked against their name and their size before they count, and are bounded for each site. Needs the extra `fl`.
"""

import asyncio
import contextlib
import errno
import hashlib
import hmac
import logging
import os
import secrets
import shutil
import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from foa.errors import BadInput
from foa.fl.blobs import MAX_BLOB_BYTES, BlobClaim, BlobPlace, FolderBlobs
from foa.job import one_error
from foa.ports import Clock
from foa.values.ids import AgentId

log = logging.getLogger(__name__)

WAITING = 2  #: uploads of one site that may lie here; an older one that nobody read goes
AT_ONCE = 256  #: connections
CHUNK_TIMEOUT_SECONDS = 60.0  #: how long a site may send nothing in the middle of an upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where and how blobs are served."""

    host: str
    port: int  #: 0: any free one
    url: str = ""  #: how sites reach it, where that is another address (a proxy, a public name)
    certificate: Path | None = None  #: PEM; with it, HTTPS
    key: Path | None = None  #: PEM, without a passphrase
    blob_bytes: int = MAX_BLOB_BYTES  #: most bytes of one blob
    token_seconds: float = 86_400.0  #: how long a token is good; each message brings a new one


class BlobServer:
    """The blobs of one run: offered to sites, brought by sites. Its methods are the server's end of `foa.fl.blobs.Blobs`."""

    def __init__(self, folder: Path, run: str, listen: Listen, clock: Clock) -> None:
        """Make it over a folder of its own, which is emptied.

        Args:
            folder: of the run.
            run: its name.
            listen: limits; `serving` starts listening.
            clock: for the expiry of tokens.
        """
        shutil.rmtree(folder, ignore_errors=True)
        self._offered = FolderBlobs(folder / "offered")
        self._brought = FolderBlobs(folder / "brought")
        self._run = run
        self._listen = listen
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._waiting: dict[str, OrderedDict[str, None]] = {}
        self._coming: dict[str, int] = {}
        self.url = listen.url

    # ── the server's end; called from threads ──────────────────────────────────────────────────────────────────────────
    def place(self, agent: AgentId) -> BlobPlace:
        """Where one site finds and brings blobs, with a token of its own."""
        return BlobPlace(at="http", run=self._run, url=self.url, token=self._token(agent))

    def put(self, blob: bytes) -> BlobClaim:
        """Offer a blob.

        Raises:
            StoreFailed: it cannot be written.
        """
        return self._offered.put(blob)

    def get(self, claim: BlobClaim) -> bytes:
        """What a site brought.

        Raises:
            BadMessage: it is not there, or is not what the claim says.
        """
        return self._brought.get(claim)

    def drop(self, claim: BlobClaim) -> None:
        """Forget a blob, offered or brought."""
        self._offered.drop(claim)
        self._brought.drop(claim)

    # ── HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/blobs/{name}", self._give, methods=["GET"]),
                Route("/blobs/{name}", self._take, methods=["PUT"]),
            ]
        )

    async def _give(self, request: Request) -> Response:
        if self._bearer(request) is None:
            return _no(401, "this address needs the token that the server of the run sent")
        path = self._offered.folder / _name(request)
        if not await asyncio.to_thread(path.is_file):
            return _no(404, "no such blob is offered any more")
        return FileResponse(path, media_type="application/octet-stream")

    async def _take(self, request: Request) -> Response:
        agent, name, size = self._bearer(request), _name(request), request.headers.get("content-length", "")
        if agent is None:
            return _no(401, "this address needs the token that the server of the run sent")
        if not name:
            return _no(404, "a blob is called by its SHA-256")
        if not size.isascii() or not size.isdigit() or len(size) > 15:
            return _no(411, "say the size: Content-Length")
        if int(size) > self._listen.blob_bytes:
            return _no(413, f"{int(size):,} bytes are over the limit of {self._listen.blob_bytes:,}")
        if self._coming.get(agent, 0) >= WAITING:
            return _no(429, f"{WAITING} uploads of this site are under way already")
        with self._under_way(agent):
            return await self._store(request, agent, name, int(size))

    @contextlib.contextmanager
    def _under_way(self, agent: str) -> Generator[None]:
        self._coming[agent] = self._coming.get(agent, 0) + 1
        try:
            yield
        finally:
            self._coming[agent] -= 1
            if not self._coming[agent]:
                del self._coming[agent]

    async def _store(self, request: Request, agent: str, name: str, size: int) -> Response:
        part = self._brought.folder / f".part-{secrets.token_hex(8)}"
        try:
            found = await _to_disk(request.stream(), part, size)
            if found != name:
                return _no(422, "what came is not what its name says")
            await asyncio.to_thread(part.replace, self._brought.folder / name)
        except (TimeoutError, ClientDisconnect):
            return _no(408, "the upload stopped in the middle")
        except OSError as error:
            log.error("an update of %s cannot be stored: %s", agent, error)
            return _no(507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 500, "the server cannot store it")
        finally:
            part.unlink(missing_ok=True)
        self._keep(agent, name)
        return Response(status_code=204)

    def _keep(self, agent: str, name: str) -> None:
        """Bound what lies here of one site: an upload that nobody read (it came too late) goes when newer ones come."""
        waiting = self._waiting.setdefault(agent, OrderedDict())
        waiting[name] = None
        waiting.move_to_end(name)
        while len(waiting) > WAITING:
            old, _ = waiting.popitem(last=False)
            if all(old not in names for names in self._waiting.values()):
                (self._brought.folder / old).unlink(missing_ok=True)

    # ── tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _token(self, agent: str) -> str:
        said = f"{agent}.{int(self._clock.now() + self._listen.token_seconds)}"
        return f"{said}.{self._mac(said)}"

    def _mac(self, said: str) -> str:
        return hmac.new(self._secret, f"{self._run}/{said}".encode(), hashlib.sha256).hexdigest()

    def _bearer(self, request: Request) -> str | None:
        """Whose request it is; None: nobody's that this run knows."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        said, _, mac = token.rpartition(".")
        agent, _, expires = said.rpartition(".")
        if scheme.lower() != "bearer" or not hmac.compare_digest(mac.encode(), self._mac(said).encode()):
            return None
        return agent if int(expires) >= self._clock.now() else None


@asynccontextmanager
async def serving(server: BlobServer, listen: Listen) -> AsyncGenerator[BlobServer]:
    """Serve blobs while the block lasts; entering returns when it listens, and `server.url` is right.

    Raises:
        BadInput: the address is taken or is none of this machine's, or the certificate cannot be read.
    """
    config = uvicorn.Config(
        server.app(),
        log_config=None,
        access_log=False,
        http="h11",
        ws="none",
        lifespan="off",
        server_header=False,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=1,
        ssl_certfile=listen.certificate,
        ssl_keyfile=listen.key,
    )
    try:
        config.load()
    except OSError as error:
        raise BadInput(
            f"the certificate or key for blobs cannot be read ({error}): see FOA_FL_CERT and FOA_FL_KEY"
        ) from error
    with _bound(listen) as bound, one_error():
        server.url = server.url or _url(listen, bound)
        async with asyncio.TaskGroup() as group:
            http = _Http(config)
            group.create_task(http.serve(sockets=[bound]), name="fl-blobs")
            try:
                await http.listening.wait()
                yield server
            finally:
                http.should_exit = True


class _Http(uvicorn.Server):
    """uvicorn that says when it listens and leaves the signals to whoever runs the loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.contextmanager
def _bound(listen: Listen) -> Generator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        bound = socket.create_server((listen.host, listen.port), family=family)
    except OSError as error:
        raise BadInput(f"blobs cannot be served at {listen.host}:{listen.port}: {error.strerror or error}") from error
    with bound:
        yield bound


def _url(listen: Listen, bound: socket.socket) -> str:
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'https' if listen.certificate else 'http'}://{host}:{bound.getsockname()[1]}"


async def _to_disk(chunks: AsyncIterator[bytes], part: Path, size: int) -> str:
    """Write an upload and give its SHA-256; empty where it is not as long as it said.

    Raises:
        TimeoutError: nothing came for too long.
        OSError: the disk says no.
    """
    digest, got = hashlib.sha256(), 0
    with await asyncio.to_thread(part.open, "wb") as file:
        async with asyncio.timeout(CHUNK_TIMEOUT_SECONDS) as patience:
            async for chunk in chunks:
                got += len(chunk)
                if got > size:
                    return ""
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
                patience.reschedule(asyncio.get_running_loop().time() + CHUNK_TIMEOUT_SECONDS)
        await asyncio.to_thread(lambda: (file.flush(), os.fsync(file.fileno())))
    return digest.hexdigest() if got == size else ""


def _name(request: Request) -> str:
    """The SHA-256 in the address; empty where it is none, so that it is never a path."""
    name = str(request.path_params["name"])
    return name if len(name) == 64 and set(name) <= set("0123456789abcdef") else ""


def _no(status: int, why: str) -> Response:
    return PlainTextResponse(why, status_code=status)
