"""`$SYS` topics: what the broker says about itself, retained, a few times a minute."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from foa.broker.hub import Hub
from foa.broker.message import Message


def release() -> str:
    """The installed version of foa; `unknown` in a tree that is not installed."""
    try:
        return version("foa")
    except PackageNotFoundError:
        return "unknown"


VERSION = f"foa version {release()}"


def figures(hub: Hub, *, connected: int, uptime_seconds: float) -> Iterator[tuple[str, str]]:
    """Topic below `$SYS/broker/` and value, named as Mosquitto names them."""
    waiting = hub.limits.queue_bytes - hub.budget.left
    yield "version", VERSION
    yield "uptime", f"{int(uptime_seconds)} seconds"
    yield "clients/connected", str(connected)
    yield "clients/total", str(len(hub.sessions))
    yield "clients/disconnected", str(len(hub.sessions) - connected)
    yield "publish/messages/received", str(hub.messages_received)
    yield "publish/messages/sent", str(hub.messages_sent)
    yield "publish/messages/dropped", str(hub.budget.dropped)
    yield "retained messages/count", str(hub.retained.count)
    yield "retained messages/bytes", str(hub.retained.bytes)
    yield "subscriptions/count", str(hub.router.count)
    yield "store/messages/bytes", str(waiting)


def publish_figures(hub: Hub, *, connected: int, uptime_seconds: float) -> None:
    """Publish all of them."""
    for topic, value in list(figures(hub, connected=connected, uptime_seconds=uptime_seconds)):
        name = f"$SYS/broker/{topic}".encode()
        message = Message(name, value.encode(), b"", 0, True, None)
        hub.publish(message, hub.router.route(name), None)
