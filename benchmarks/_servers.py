"""Servers that benchmarks measure against, started on a free loopback port and stopped again."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

SBIN = "/usr/sbin:/usr/local/sbin"  #: Debian puts it where users' PATH does not look


@asynccontextmanager
async def mosquitto() -> AsyncGenerator[int]:
    """Run Mosquitto, tuned as docs/howto says: no Nagle, room in the queues.

    Raises:
        RuntimeError: it is not installed, or does not start.
    """
    program = which("mosquitto") or which("mosquitto", path=SBIN)
    if program is None:
        raise RuntimeError("mosquitto is not installed: apt-get install mosquitto, or leave it out with --transports")
    with TemporaryDirectory() as folder:
        port = _free_port()
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 100000\n"
            "max_inflight_messages 1000\n"
        )
        process = await asyncio.create_subprocess_exec(
            program, "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _listening(port, process)
            yield port
        finally:
            process.terminate()
            await process.wait()


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    for _ in range(200):
        if process.returncode is not None:
            raise RuntimeError(f"mosquitto ended at once with {process.returncode}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise RuntimeError("mosquitto does not listen")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
