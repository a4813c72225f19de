"""How fast the embedded broker is, as a child process, with Mosquitto measured beside it in the same run.

    qos1_messages_per_s            one publisher, one subscriber, QoS 1 both ways, 256 bytes, a window of 200
    qos1_durable_messages_per_s    the same, to a session kept on disk: PUBACK after commit (Mosquitto saves at its end)
    fan_out_per_s                  one publisher, 100 subscribers, QoS 0: deliveries
    request_reply_per_s            50 responders, QoS 1 there and back, 50 requests under way
    kb_per_connection              resident memory of the broker, 1 000 idle connections with a subscription each

The load comes from this process, which takes packets apart and does nothing else. Its own speed, about that of the broker,
is part of every figure: they are lower bounds. Figures are medians; `…_spread` is lowest to highest;
`…_cpu_us_each` is processor time of the broker alone, which a busy machine does not blur.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from benchmarks._mqtt_load import HOST, PAYLOAD, Connection, close, connect, publish_parts, subscribe
from benchmarks._servers import SBIN

WINDOW = 200
SUBSCRIBERS = 100
RESPONDERS = 50
IDLE = 1_000

EMBEDDED = """
import asyncio, sys
from pathlib import Path
from foa.broker import BrokerConfig, serve
config = BrokerConfig(port=0, data_dir=Path(sys.argv[1]) if sys.argv[1] else None)
asyncio.run(serve(config, on_ready=lambda broker: print(broker.port, flush=True)))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A broker that runs."""

    port: int
    pid: int


Start = Callable[[bool], AbstractAsyncContextManager[Server]]


def run(quick: bool) -> dict[str, object]:
    """Measure both; `quick` sends a tenth of the messages, once."""
    messages, repetitions = (20_000, 1) if quick else (200_000, 5)
    figures = asyncio.run(measure(embedded, messages, repetitions))
    baseline = asyncio.run(measure(mosquitto, messages // 2, repetitions))
    return {"figures": figures, "baseline": {"mosquitto": baseline}, "repetitions": repetitions}


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@asynccontextmanager
async def embedded(durable: bool) -> AsyncGenerator[Server]:
    """Ours, with a data directory if its sessions are to be durable."""
    with TemporaryDirectory() as folder:
        argument = folder if durable else ""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", EMBEDDED, argument, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            yield Server(port=int(await process.stdout.readline()), pid=process.pid)
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def mosquitto(durable: bool) -> AsyncGenerator[Server]:
    """Mosquitto with Nagle off and room in its queues.

    Raises:
        RuntimeError: it is not installed.
    """
    program = which("mosquitto") or which("mosquitto", path=SBIN)
    if program is None:
        raise RuntimeError("mosquitto is the baseline: apt-get install mosquitto")
    with TemporaryDirectory() as folder:
        server = await asyncio.start_server(_hang_up, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        config = Path(folder) / "mosquitto.conf"
        lines = [f"listener {port} {HOST}", "allow_anonymous true", "set_tcp_nodelay true", "max_queued_messages 1000000"]
        lines += ["max_inflight_messages 65535", f"persistence {str(durable).lower()}", f"persistence_location {folder}/"]
        config.write_text("\n".join([*lines, ""]))
        process = await asyncio.create_subprocess_exec(program, "-c", str(config), stderr=asyncio.subprocess.DEVNULL)
        try:
            await listening(port)
            yield Server(port=port, pid=process.pid)
        finally:
            process.terminate()
            await process.wait()


async def listening(port: int) -> None:
    """Return when the port takes connections."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def measure(start: Start, messages: int, repetitions: int) -> dict[str, object]:
    """Every figure, each on a broker of its own."""
    figures: dict[str, object] = {}

    async def take(name: str, what: Callable[[Server], Awaitable[tuple[int, float]]], *, durable: bool = False) -> None:
        rates: list[float] = []
        async with start(durable) as server:
            total, before = 0, cpu_seconds(server.pid)
            for _ in range(repetitions):
                count, seconds = await what(server)
                rates.append(count / seconds)
                total += count
            spent = cpu_seconds(server.pid) - before
        figures[name] = round(statistics.median(rates))
        figures[f"{name}_spread"] = [round(min(rates)), round(max(rates))]
        figures[f"{name}_cpu_us_each"] = round(spent / total * 1e6, 1)

    await take("qos1_messages_per_s", lambda server: stream(server, messages, session_seconds=0))
    await take("qos1_durable_messages_per_s", lambda server: stream(server, messages, session_seconds=600), durable=True)
    await take("fan_out_per_s", lambda server: fan_out(server, messages // 100))
    await take("request_reply_per_s", lambda server: request_reply(server, messages // 5))
    async with start(False) as server:
        figures["kb_per_connection"] = round(await connection_kb(server), 1)
    return figures


async def stream(server: Server, count: int, *, session_seconds: int) -> tuple[int, float]:
    """Messages and seconds from one publisher to one subscriber, QoS 1, until both have all."""
    hello = connect("subscriber", session_seconds=session_seconds) + subscribe(b"stream", 1)
    subscriber = await Connection.open(server.port, hello)
    publisher = await Connection.open(server.port, connect("publisher"))
    subscriber.wanted = count
    began = time.perf_counter()
    publisher.stream(b"stream", count, window=WINDOW)
    await publisher.done.wait()
    await subscriber.done.wait()
    seconds = time.perf_counter() - began
    close([publisher, subscriber])
    return count, seconds


async def fan_out(server: Server, count: int) -> tuple[int, float]:
    """Deliveries and seconds from one publisher to 100 subscribers, QoS 0, ten messages at a time."""
    subscribers = [
        await Connection.open(server.port, connect(f"s{number}") + subscribe(b"fan", 0)) for number in range(SUBSCRIBERS)
    ]
    publisher = await Connection.open(server.port, connect("publisher"))
    packet = b"".join(publish_parts(b"fan", PAYLOAD, 0))
    began = time.perf_counter()
    for batch in range(count // 10):
        for subscriber in subscribers:
            subscriber.done.clear()
            subscriber.wanted = (batch + 1) * 10
        publisher.transport.write(packet * 10)
        for subscriber in subscribers:
            await subscriber.done.wait()
    seconds = time.perf_counter() - began
    close([publisher, *subscribers])
    return count // 10 * 10 * SUBSCRIBERS, seconds


async def request_reply(server: Server, count: int) -> tuple[int, float]:
    """Requests answered and seconds: one requester, 50 responders, 50 requests under way."""
    back, tail = publish_parts(b"replies", PAYLOAD, 1)
    answer = back + b"\0\1" + tail
    responders = [
        await Connection.open(server.port, connect(f"r{n}") + subscribe(b"request/%d" % n, 1), lambda _: answer)
        for n in range(RESPONDERS)
    ]
    asked = 0

    def ask() -> bytes:
        nonlocal asked
        if asked >= count:
            return b""
        asked += 1
        head, rest = publish_parts(b"request/%d" % (asked % RESPONDERS), PAYLOAD, 1)
        return head + (asked % 65_535 + 1).to_bytes(2, "big") + rest

    requester = await Connection.open(server.port, connect("requester") + subscribe(b"replies", 1), lambda _: ask())
    requester.wanted = 2 * count  # every reply, and every PUBACK
    began = time.perf_counter()
    requester.transport.write(b"".join(ask() for _ in range(RESPONDERS)))
    await requester.done.wait()
    seconds = time.perf_counter() - began
    close([requester, *responders])
    return count, seconds


async def connection_kb(server: Server) -> float:
    """Resident memory that one more idle connection costs, KiB."""
    first = await Connection.open(server.port, connect("first") + subscribe(b"idle/first", 1))
    before = resident_kb(server.pid)
    idle = [
        await Connection.open(server.port, connect(f"i{number}") + subscribe(b"idle/%d" % number, 1))
        for number in range(IDLE)
    ]
    after = resident_kb(server.pid)
    close([first, *idle])
    return (after - before) / IDLE


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> int:
    """VmRSS of a process, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has no VmRSS: this figure needs Linux")
