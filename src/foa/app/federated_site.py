"""One real site of a federated-learning project, a process of its own. Needs the extra `fl`.

    ledger, app ─► signed card with its fl block, vitals, last will (as any agent) ─► messages of any run ─► until stopped

The ledger belongs to the site and its data: it is one for all runs, and outlives them.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from flwr.app import Context

from foa.agents.announce import last_will
from foa.agents.brain import Agent
from foa.agents.functions import FunctionBrain, Question
from foa.agents.host import AgentHost
from foa.agents.profile import AgentProfile
from foa.agents.versions import Versions
from foa.app.fabric import open_fabric
from foa.app.federated_blobs import reach
from foa.app.federated_guardian import Advised, advised
from foa.app.federated_home import SiteHome
from foa.app.federated_sites import open_app
from foa.app.keys import host_key
from foa.app.models import open_embedder, open_model
from foa.app.places import made
from foa.app.settings import Settings
from foa.errors import AgentRefused, BadInput, FabricError
from foa.fl.flower import ClientAppCallable
from foa.fl.grids.node import FlowerNode
from foa.ports import Clock, Embedder, Model, Transport
from foa.registry.keys import SigningKey
from foa.state.memory import MemoryReplies
from foa.values.ids import AgentId
from foa.values.resources import Price
from foa.values.topics import Topics

log = logging.getLogger(__name__)

KEPT_RUNS = 4  #: runs whose app state stays on disk


async def serve_site(
    home: SiteHome,
    settings: Settings,
    clock: Clock,
    *,
    embedder: Embedder | None = None,
    model: Model | None = None,
    on_ready: Callable[[], None] | None = None,
    say: Callable[[str], None] = log.warning,
) -> None:
    """Announce a site and answer the runs of its project until cancelled.

    Args:
        home: of the site.
        settings: broker, root, state folder (the key of its card), how to reach blobs.
        clock: time.
        embedder: for its card; the settings' by default.
        model: reads its owner's wishes, where there are some; the settings' by default.
        on_ready: called once, when it is announced and listens.
        say: told what the owner should know: that the budget is spent.

    Raises:
        BrokerUnreachable: there is no broker at that address.
        ModelUnreachable: the embedder is not there.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        embedder = embedder or await enter(open_embedder(settings))
        if model is None and home.spec.spec:
            model = await enter(open_model(settings))
        fabric = await enter(open_fabric(settings))
        topics, began = Topics(settings.root), clock.now()
        will = last_will(topics, home.id, [home.id], since=began)
        link = await enter(fabric.connect(f"site-{home.id}"[:64], will=will, away_seconds=settings.away_seconds))
        host = site_host(
            link,
            home.profile(),
            clock,
            embedder=embedder,
            key=host_key(settings.state_dir),
            versions=Versions(home.folder / "versions.json"),
            began=began,
            topics=topics,
        )
        group = await enter(asyncio.TaskGroup())
        # it listens before it is announced: nobody asks who is not there
        listening, changed = asyncio.Event(), asyncio.Event()
        node = _node(home, link, topics, settings, clock, host, changed, model)
        group.create_task(node.serve(ready=listening), name=f"site[{home.id}]")
        await listening.wait()
        await enter(host.serve())
        if on_ready is not None:
            on_ready()
        await _keep_told(home, host, changed, say)


def site_host(
    link: Transport,
    profile: AgentProfile,
    clock: Clock,
    *,
    embedder: Embedder,
    key: SigningKey,
    versions: Versions,
    began: float,
    topics: Topics | None = None,
) -> AgentHost:
    """Who announces a site: its card, its vitals, its leaving.

    Args:
        link: the site's connection; its last will should be `last_will(topics, site, [site], since=began)`.
        profile: of the site; it names `KIND` and an `fl` block.
        clock: time.
        embedder: for its card.
        key: signs its card.
        versions: of its card.
        began: when the connection began, seconds since the epoch.
        topics: topic names.
    """
    # never asked: the host refuses whatever the profile does not name
    brain = FunctionBrain(_only_trains, price=Price(), propose=None, revise=None)
    return AgentHost(
        link,
        [Agent(profile=profile, brain=brain)],
        embedder=embedder,
        replies=MemoryReplies(clock),
        clock=clock,
        topics=topics,
        key=key,
        versions=versions,
        host=profile.agent_id,
        began=began,
    )


def _node(
    home: SiteHome,
    link: Transport,
    topics: Topics,
    settings: Settings,
    clock: Clock,
    host: AgentHost,
    changed: asyncio.Event,
    model: Model | None,
) -> FlowerNode:
    beside = advised(home.spec, model, clock, home.folder / "decisions.jsonl")

    def open_run(run: str) -> tuple[ClientAppCallable, Context]:
        return _open_run(home, run, settings, clock, beside)

    return FlowerNode(
        link,
        topics,
        home.id,
        open_run,
        clock,
        reach=lambda place: reach(place, settings, home.folder),
        working=host.seat(home.id).slot,
        worked=changed.set,
    )


def _open_run(
    home: SiteHome, run: str, settings: Settings, clock: Clock, beside: Advised
) -> tuple[ClientAppCallable, Context]:
    runs = made(home.folder / "runs")
    kept = made(runs / run)
    for old in sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_RUNS]:
        if old != kept:
            shutil.rmtree(old, ignore_errors=True)
    if home.ledger is not None:
        home.ledger.forget_replies(but=run)
    return open_app(
        home.plan,
        home.app,
        home.spec,
        home.ledger,
        count=home.count,
        data=settings.data,
        clock=clock,
        state=kept / "state.bin",
        advised=beside,
    )


async def _keep_told(home: SiteHome, host: AgentHost, changed: asyncio.Event, say: Callable[[str], None]) -> None:
    """Renew the card when what it says of the budget changed, and tell the owner, once, when the budget is spent."""
    told, warned = home.profile(), False
    while True:
        if home.is_spent() and not warned:
            warned = True
            say(home.spent())
        await changed.wait()
        changed.clear()
        now = await asyncio.to_thread(home.profile)
        if now.digest() == told.digest():
            continue
        try:
            await host.renew(now)
            told = now
        except FabricError as error:
            log.warning("site %s could not renew its card: %s", home.id, error)


def _only_trains(question: Question) -> str:
    raise AgentRefused(AgentId("site"), "a site trains and answers no questions")


def at(settings: Settings, broker: str) -> Settings:
    """The settings with the broker of the command line.

    Raises:
        BadInput: neither names one.
    """
    found = replace(settings, broker_url=broker) if broker else settings
    if not found.broker_url:
        raise BadInput("give the address of the broker: --broker mqtt://host:port, or FOA_BROKER_URL")
    return found
