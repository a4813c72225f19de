"""`foa broker`: the embedded MQTT v5 broker as a process of its own."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from foa.broker import Broker, BrokerConfig, serve
from foa.cli.failing import say


def attach(app: typer.Typer, summary: str) -> None:
    """Put the command into the application."""
    app.command("broker", help=summary)(broker)


def broker(
    host: Annotated[str, typer.Option(help="Address to listen on; off loopback only with --passwords.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=-1, max=65_535, help="MQTT over TCP; 0: any free one, -1: none.")] = 1883,
    tls_port: Annotated[int | None, typer.Option(min=0, max=65_535, help="MQTT over TLS.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate with its chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    ws_port: Annotated[int | None, typer.Option(min=0, max=65_535, help="MQTT over WebSocket.")] = None,
    passwords: Annotated[Path | None, typer.Option(metavar="FILE", help="Mosquitto password file.")] = None,
    acl: Annotated[Path | None, typer.Option(metavar="FILE", help="Mosquitto ACL file.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where sessions and retained messages are kept.")] = None,
) -> None:
    """Run until SIGINT or SIGTERM."""
    config = BrokerConfig(
        host=host,
        port=None if port < 0 else port,
        tls_port=tls_port,
        certfile=cert,
        keyfile=key,
        ws_port=ws_port,
        passwords=passwords,
        acl=acl,
        data_dir=data,
    )
    asyncio.run(serve(config, on_ready=lambda started: say(f"broker ready: {address(config, started)}")))


def address(config: BrokerConfig, started: Broker) -> str:
    """Where clients connect."""
    return f"mqtt://{config.host}:{started.port}"
