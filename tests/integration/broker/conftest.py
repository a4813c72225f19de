"""The brokers a conformance test runs on: ours in the test's own loop, and Mosquitto as the referee."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.brokers import start_mosquitto

from foa.broker import Broker, BrokerConfig, BrokerLimits

EMBEDDED, MOSQUITTO = "embedded", "mosquitto"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A broker that a test talks to."""

    name: str
    port: int

    @property
    def embedded(self) -> bool:
        """Whether it is ours; Mosquitto 2.0.11 deviates in places that the tests name."""
        return self.name == EMBEDDED


Start = Callable[..., Awaitable[Running]]


@pytest.fixture(params=[EMBEDDED, MOSQUITTO])
async def start(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the broker with limits of its own, as each of the two is told them."""
    async with AsyncExitStack() as stack:

        async def begin(*, limits: BrokerLimits | None = None, settings: Sequence[str] = (), **config: Path) -> Running:
            if request.param == MOSQUITTO:
                process = await stack.enter_async_context(start_mosquitto(tmp_path, settings=settings))
                return Running(name=MOSQUITTO, port=process.port)
            settled = BrokerConfig(port=0, limits=limits or BrokerLimits(), **config)
            broker = await stack.enter_async_context(Broker(settled))
            assert broker.port is not None
            return Running(name=EMBEDDED, port=broker.port)

        yield begin


@pytest.fixture
async def broker(start: Start) -> Running:
    """The broker as it comes."""
    return await start()
