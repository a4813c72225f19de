"""What `foa fl site` does. Everything here needs the extra `fl`; the options are in `foa.cli.fl_site`, which does not."""

import asyncio
import signal
from pathlib import Path

from foa.app.clock import SystemClock
from foa.app.federated import Asked, adjusted
from foa.app.federated_home import SiteHome, site_home
from foa.app.federated_site import at, serve_site
from foa.app.settings import Settings
from foa.cli.failing import say
from foa.cli.fl_work import epsilon_of
from foa.job import one_error


def serve(*, folder: Path, settings: Settings, name: str, broker: str, clients: int | None, privacy: str) -> None:
    """Be one site until SIGINT or SIGTERM."""
    asked = Asked(folder=folder, run="site", clients=clients, epsilon=epsilon_of(privacy))
    with one_error():
        asyncio.run(_serve(asked, name, at(settings, broker)))


async def _serve(asked: Asked, name: str, settings: Settings) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    opened = site_home(asked.folder, name, settings, adjust=lambda project: adjusted(project, asked), clients=asked.clients)
    async with opened as home, asyncio.TaskGroup() as group:
        serving = serve_site(home, settings, SystemClock(), on_ready=lambda: say(_ready(home)), say=say)
        going = group.create_task(serving, name=f"site[{name}]")
        await stop.wait()
        going.cancel()


def _ready(home: SiteHome) -> str:
    budget = home.budget() or "no privacy budget: it trains without noise, or not where noise is asked for"
    return f"site ready: {home.id}, for every run of {home.project}; {budget}"
