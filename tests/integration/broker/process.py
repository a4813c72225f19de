"""The embedded broker as a child process, to be killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PROGRAM = """
import asyncio, sys
from pathlib import Path
from foa.broker import Broker, BrokerConfig, serve

def ready(broker: Broker) -> None:
    print(broker.port, flush=True)

asyncio.run(serve(BrokerConfig(port=int(sys.argv[1]), data_dir=Path(sys.argv[2]) if sys.argv[2] else None), on_ready=ready))
"""


class BrokerProcess:
    """One run of `serve` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def kill(self) -> None:
        """SIGKILL: no chance to save anything."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            return await self.process.wait()


@asynccontextmanager
async def broker_process(data: Path | None = None, *, port: int = 0) -> AsyncIterator[BrokerProcess]:
    """Run the broker while the block lasts, or until the test ends it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(port), str(data or ""), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert line, "the broker did not start"
        yield BrokerProcess(process, int(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
