"""How this process reaches the fabric: a broker somewhere, one of its own, or one in memory.

FOA_BROKER_URL set ─► that broker        MqttTransport or PahoTransport
empty              ─► an embedded broker as a child process, gone with its parent
"memory"           ─► a hub inside this process; for libraries and tests
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from foa.app.broker_process import broker_process
from foa.app.settings import Settings
from foa.ports import Transport
from foa.transport.address import Address, parse_address
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.transport.mqtt import MqttTransport
from foa.values.publication import Publication

IN_MEMORY = "memory"


class Fabric(Protocol):
    """Gives connections."""

    def connect(
        self, client_id: str, *, will: Publication | None = None, away_seconds: int = 0
    ) -> AbstractAsyncContextManager[Transport]:
        """One more session.

        Args:
            client_id: its name; a session of that name is taken up.
            will: published when this process dies.
            away_seconds: how long a link may be broken before the will is published.

        Raises:
            BrokerUnreachable: there is no broker, or it refuses.
        """
        ...


@dataclass(frozen=True, slots=True)
class MemoryFabric:
    """Everything in one process."""

    hub: MemoryHub

    def connect(
        self, client_id: str, *, will: Publication | None = None, away_seconds: int = 0
    ) -> AbstractAsyncContextManager[Transport]:
        """One more session on the hub."""
        return MemoryTransport(self.hub, client_id=client_id, will=will)


@dataclass(frozen=True, slots=True)
class MqttFabric:
    """A broker at an address."""

    address: Address
    library: str = "mqttium"

    def connect(
        self, client_id: str, *, will: Publication | None = None, away_seconds: int = 0
    ) -> AbstractAsyncContextManager[Transport]:
        """One more session at the broker."""
        if self.library == "paho":
            from foa.transport.paho import PahoTransport  # an optional package

            return PahoTransport(self.address, client_id=client_id, will=will, will_delay_interval=away_seconds)
        return MqttTransport(self.address, client_id=client_id, will=will, will_delay_interval=away_seconds)


@asynccontextmanager
async def open_fabric(settings: Settings, *, data_dir: Path | None = None) -> AsyncGenerator[Fabric]:
    """Reach the fabric that the settings name; an own broker lives as long as the block.

    Args:
        settings: address, credentials, client library.
        data_dir: where an own broker keeps sessions and retained messages; None: nowhere.

    Raises:
        BadInput: the address is not one.
        BrokerUnreachable: an own broker did not start.
    """
    if settings.broker_url == IN_MEMORY:
        yield MemoryFabric(MemoryHub())
    elif settings.broker_url:
        ca = Path(settings.broker_ca) if settings.broker_ca else None
        yield MqttFabric(_with_credentials(parse_address(settings.broker_url, ca=ca), settings), settings.transport)
    else:
        async with broker_process(data_dir=data_dir) as port:
            yield MqttFabric(parse_address(f"mqtt://127.0.0.1:{port}"), settings.transport)


def _with_credentials(address: Address, settings: Settings) -> Address:
    if not settings.broker_username:
        return address
    return replace(address, username=settings.broker_username, password=settings.broker_password)
