"""`foa broker`: the broker as a process of its own."""

import asyncio
import logging
import signal
from collections.abc import Callable

from foa.broker.broker import Broker
from foa.broker.config import BrokerConfig

log = logging.getLogger(__name__)


async def serve(config: BrokerConfig, on_ready: Callable[[Broker], None] | None = None) -> None:
    """Run a broker until SIGTERM or SIGINT, then stop it cleanly.

    Args:
        config: what it listens on and allows.
        on_ready: called once, when every listener accepts connections.

    Raises:
        BadInput: it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        async with Broker(config) as broker:
            log.info("broker listens on %s:%s", config.host, broker.port, extra={"action": "broker_started"})
            if on_ready is not None:
                on_ready(broker)
            await stop.wait()
            log.info("broker stops", extra={"action": "broker_stopped"})
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
