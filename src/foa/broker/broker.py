"""The broker as a program part: its listeners, its connections, its clock.

sockets ─► Link ─► Hub ─► sessions ─► Link ─► Outflow ─► sockets
                    └─► Store
"""

import asyncio
import contextlib
import errno
import logging
import sqlite3
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from foa.broker.acl import AccessControl, read_acl
from foa.broker.auth import Passwords, read_passwords
from foa.broker.config import BrokerConfig
from foa.broker.hub import Hub
from foa.broker.link import Link
from foa.broker.outflow import Outflow
from foa.broker.reason import PacketError, Reason
from foa.broker.statistics import publish_figures
from foa.broker.store import Store
from foa.broker.tls import tls_context
from foa.broker.websocket import WebSocket
from foa.broker.wire import State, Wire
from foa.errors import BadInput

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0  #: how often silence is looked for
FAREWELL_SECONDS = 5.0  #: how long a closed connection may take to be written out
STRANGERS = 256  #: connections over the limit that are heard so far as to be told so


def wall_seconds() -> float:
    """Seconds since the epoch."""
    return datetime.now(UTC).timestamp()


class Broker:
    """An MQTT v5 broker in this event loop, for as long as the block lasts.

        async with Broker(BrokerConfig(port=0)) as broker:
            ...  # clients connect to broker.port

    Leaving says goodbye to every client (DISCONNECT 0x8B) and saves.

    Args:
        config: where it listens and what it allows.
        wall: seconds since the epoch; for tests.

    Raises:
        BadInput: on entering: a port is in use, a file cannot be read or has a wrong line.
    """

    def __init__(self, config: BrokerConfig, *, wall: Callable[[], float] = wall_seconds) -> None:
        self.config = config
        self.port: int | None = None  #: of MQTT over TCP, once entered
        self.tls_port: int | None = None
        self.ws_port: int | None = None
        self.passwords: Passwords | None = None
        self._wall = wall
        self._links: set[Wire] = set()
        self._connected: set[Wire] = set()
        self._servers: list[asyncio.Server] = []
        self._store: Store | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._told_at = 0.0
        self._deserted = asyncio.Event()  # no socket is open

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        acl, tls = await asyncio.to_thread(self._load)
        self.hub = Hub(
            limits=self.config.limits, acl=acl, store=self._store, clock=self.loop.time, later=self.loop.call_later
        )
        self.outflow = Outflow(self.loop, self._store)
        self._began = self.loop.time()
        try:
            self._restore()
            await self._listen(tls)
        except BaseException:
            await self._stop()
            raise
        self._tick = self.loop.call_later(TICK_SECONDS, self._look)
        self._tell()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def _load(self) -> tuple[AccessControl | None, ssl.SSLContext | None]:
        """Read every file; runs in a thread."""
        config = self.config
        self.passwords = read_passwords(config.passwords) if config.passwords is not None else None
        acl = read_acl(config.acl) if config.acl is not None else None
        tls = None
        if config.tls_port is not None and config.certfile is not None and config.keyfile is not None:
            tls = tls_context(config.certfile, config.keyfile)
        if config.data_dir is not None:
            self._store = Store(config.data_dir, clock=self.loop.time, wall=self._wall)
        return acl, tls

    def _restore(self) -> None:
        try:
            self.hub.restore()
        except (sqlite3.Error, PacketError, KeyError) as error:
            raise BadInput(
                f"the broker's data in {self.config.data_dir} is damaged ({error}): move the directory away and start again"
            ) from error

    # ── listeners ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _listen(self, tls: ssl.SSLContext | None) -> None:
        config = self.config

        def plain() -> asyncio.Protocol:
            return Link(self)

        def framed() -> asyncio.Protocol:
            return WebSocket(Link(self), origins=config.ws_origins, limit=config.limits.packet_bytes + 1_024)

        self.port = await self._listen_on(config.port, plain, None)
        self.tls_port = await self._listen_on(config.tls_port, plain, tls)
        self.ws_port = await self._listen_on(config.ws_port, framed, None)

    async def _listen_on(
        self, port: int | None, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> int | None:
        if port is None:
            return None
        host = self.config.host
        try:
            server = await self.loop.create_server(
                protocol,
                host,
                port,
                ssl=tls,
                backlog=1_024,
                ssl_handshake_timeout=self.config.limits.connect_seconds if tls else None,
            )
        except OSError as error:
            why = (
                "is in use: choose another, or stop what holds it"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used: {error}"
            )
            raise BadInput(f"port {port} on {host} {why}") from error
        except OverflowError as error:
            raise BadInput(f"port {port} is not between 0 and 65535") from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    @property
    def links(self) -> frozenset[Wire]:
        """Every socket that is open now."""
        return frozenset(self._links)

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────────
    def admit(self, link: Wire) -> bool:
        """Whether a new connection is listened to at all."""
        if len(self._links) >= self.config.limits.connections + STRANGERS:
            return False
        self._links.add(link)
        self._deserted.clear()
        return True

    @property
    def crowded(self) -> bool:
        """Whether the limit of connections is reached."""
        return len(self._connected) >= self.config.limits.connections

    def opened(self, link: Wire) -> None:
        """A connection has its session."""
        self._connected.add(link)

    def closed(self, link: Wire) -> None:
        """A connection is over, though its last words may still be leaving."""
        self._connected.discard(link)

    def gone(self, link: Wire) -> None:
        """A connection's socket is closed."""
        self._links.discard(link)
        self._connected.discard(link)
        if not self._links:
            self._deserted.set()

    def _look(self) -> None:
        """Once a second: end what was silent too long, expire, tell."""
        self._tick = self.loop.call_later(TICK_SECONDS, self._look)
        now = self.loop.time()
        for link in list(self._links):
            silent = now - link.heard_at
            if link.state is State.CLOSED:
                if silent > FAREWELL_SECONDS:
                    link.abort()
            elif link.silence_seconds and silent > link.silence_seconds:
                link.close(Reason.KEEP_ALIVE_TIMEOUT)
        if now - self._told_at >= self.config.limits.statistics_seconds:
            self._tell()
        self.outflow.wake()

    def _tell(self) -> None:
        if self.config.limits.statistics_seconds:
            self._told_at = self.loop.time()
            publish_figures(self.hub, connected=len(self._connected), uptime_seconds=self._told_at - self._began)
            self.hub.forget_expired()

    # ── stopping ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _stop(self) -> None:
        """Take nothing new, say goodbye, save, leave."""
        if self._tick is not None:
            self._tick.cancel()
        for server in self._servers:
            server.close()
        self.hub.stopping = True
        for link in list(self._links):
            link.close(Reason.SERVER_SHUTTING_DOWN)
        self.outflow.flush()
        if self._links:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._deserted.wait()
        for link in list(self._links):
            link.abort()
        await asyncio.sleep(0)
        self.hub.stop()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
            self._store = None
