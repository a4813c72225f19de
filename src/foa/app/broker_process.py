"""The embedded broker as a child process: it says its port when it is ready and dies with its parent.

parent ── starts ──► python -m foa.app.broker_process   ── {"port": 40123} ──► parent
parent closes the child's stdin, or dies ──► the child stops cleanly
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from foa.broker import Broker, BrokerConfig
from foa.errors import BrokerUnreachable, FabricError

START_SECONDS = 20.0
STOP_SECONDS = 10.0


@asynccontextmanager
async def broker_process(*, data_dir: Path | None = None, port: int = 0) -> AsyncGenerator[int]:
    """Run the embedded broker beside this process; gives its port on loopback.

    Args:
        data_dir: where sessions, queues and retained messages survive a restart; None: nowhere.
        port: 0 takes a free one.

    Raises:
        BrokerUnreachable: it did not start; the message is its own.
    """
    options = json.dumps({"port": port, "data_dir": str(data_dir) if data_dir else None})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "foa.app.broker_process",
        options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the parent's: it stops the broker last
    )
    try:
        yield await _port_of(process)
    finally:
        await _stop(process)


async def _port_of(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        said = json.loads(line or b"{}")
    except (TimeoutError, json.JSONDecodeError) as error:
        raise BrokerUnreachable(f"the embedded broker said nothing in {START_SECONDS:.0f} s") from error
    if "port" not in said:
        raise BrokerUnreachable(said.get("error") or "the embedded broker did not start")
    return int(said["port"])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _child(options: str) -> None:
    given = json.loads(options)
    config = BrokerConfig(port=given["port"], data_dir=Path(given["data_dir"]) if given["data_dir"] else None)
    loop = asyncio.get_running_loop()
    orphaned = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: None if sys.stdin.buffer.read(1) else orphaned.set())
    try:
        async with Broker(config) as broker:
            print(json.dumps({"port": broker.port}), flush=True)  # noqa: T201 - the parent reads it
            await orphaned.wait()
    except FabricError as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_child(sys.argv[1]))
