"""Real brokers for tests: Mosquitto as a child process on a free loopback port, and a link to any broker that can be cut."""

import asyncio
import contextlib
import getpass
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from foa.broker import Broker, BrokerConfig


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def mosquitto_program() -> str:
    """Where Debian puts it."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("mosquitto is the referee in these tests: install it with `apt-get install mosquitto`")
    return found


class Mosquitto:
    """One Mosquitto process; its sessions are kept in `folder` over `stop` and `start`.

    Args:
        folder: for its configuration and its database.
        settings: further lines of mosquitto.conf.
    """

    def __init__(self, folder: Path, *, settings: Sequence[str] = ()) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._folder = folder
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when it takes connections."""
        anonymous = [] if any(line.startswith("allow_anonymous") for line in self._settings) else ["allow_anonymous true"]
        lines = [
            f"listener {self.port} {self.host}",
            "set_tcp_nodelay true",
            "max_queued_messages 100000",
            "persistence true",
            f"user {getpass.getuser()}",  # started by root it would change to a user that cannot write the folder
            f"persistence_location {self._folder}/",
            *anonymous,
            *self._settings,
        ]
        config = self._folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                mosquitto_program(), "-c", str(config), stdout=log, stderr=log
            )
        await self._listening()

    async def _listening(self) -> None:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(self.host, self.port)
                    writer.close()
                    return
                if self._process is not None and self._process.returncode is not None:
                    raise RuntimeError((self._folder / "mosquitto.log").read_text()[-2_000:])
                await asyncio.sleep(0.01)  # a real process: nothing else tells that it listens

    async def stop(self, *, forget: bool = False) -> None:
        """End it; with `forget` its sessions and retained messages too."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            async with asyncio.timeout(10):
                await process.wait()
        if forget:
            (self._folder / "mosquitto.db").unlink(missing_ok=True)


@asynccontextmanager
async def start_mosquitto(folder: Path, *, settings: Sequence[str] = ()) -> AsyncIterator[Mosquitto]:
    """Run Mosquitto while the block lasts."""
    broker = Mosquitto(folder, settings=settings)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class Embedded:
    """The broker of this project, in the test's own loop, without a data folder."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._running: Broker | None = None

    async def start(self) -> None:
        """Listen, after the first time on the same port."""
        self._running = Broker(BrokerConfig(host=self.host, port=self.port))
        await self._running.__aenter__()
        self.port = self._running.port or 0

    async def stop(self, *, forget: bool = False) -> None:
        """End it. It forgets either way."""
        running, self._running = self._running, None
        if running is not None:
            await running.__aexit__(None, None, None)


@asynccontextmanager
async def start_embedded() -> AsyncIterator[Embedded]:
    """Run the embedded broker while the block lasts."""
    broker = Embedded()
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class Link:
    """A TCP relay to a broker which a test can cut and restore. While it is cut, connections are refused."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = free_port()
        self.connections = 0  #: accepted since the start

    async def restore(self) -> None:
        """Take connections (again)."""
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Refuse new connections and break those that stand, as a cable that is pulled."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                self._writers.add(far_writer)
                try:
                    await self._both_ways(reader, writer, far_reader, far_writer)
                finally:
                    self._writers.discard(far_writer)
                    far_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        async with asyncio.TaskGroup() as group:
            up = group.create_task(_pump(reader, far_writer), name="up")
            down = group.create_task(_pump(far_reader, writer), name="down")
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            up.cancel()
            down.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def open_link(host: str, port: int) -> AsyncIterator[Link]:
    """Relay to a broker while the block lasts."""
    link = Link(host, port)
    await link.restore()
    try:
        yield link
    finally:
        await link.cut()
