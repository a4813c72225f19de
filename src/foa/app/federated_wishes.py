"""Client-initiated federation at a project's server: hears what its sites wish, starts a run when one is due, tells them.

    fl/wishes/{project}/+ ─► whose key? ─► book (`foa.fl.wishes`, on disk) ─► due ─► start(run) ─► fl/told/{project}/{site}

Who starts a run is whoever serves the project: `start` is given the run's name and tells in words what came of it.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from foa.app.fabric import Fabric
from foa.app.federated_sites import WISHES
from foa.app.places import made
from foa.app.settings import Settings
from foa.errors import BadMessage, FabricError, StoreFailed
from foa.fl.blobs import write_whole
from foa.fl.project import Project
from foa.fl.roll import Roll, Wanted, wanted_by
from foa.fl.wish_wire import TOLD_EXPIRY_SECONDS, WishTold, decode_wish, encode_told
from foa.fl.wishes import NotYet, Start, Wish, WishBook, WishRules
from foa.ports import Clock, Delivery, Transport
from foa.values.ids import AgentId, check_id
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0  #: how often it looks whether a rest is over

#: Runs a training to its end and says what came of it. Raises FabricError where it failed.
StartRun = Callable[[str], Awaitable[str]]


async def serve_wishes(
    settings: Settings, fabric: Fabric, folder: Path, plan: Project, clock: Clock, start: StartRun
) -> None:
    """Hear the wishes for a project on a connection of their own, until cancelled; one that takes none hears none.

    Args:
        settings: root, state folder.
        fabric: the way to the broker.
        folder: of the project.
        plan: its FL.toml.
        clock: time.
        start: runs a training.

    Raises:
        BadInput: the project's name may not stand in a topic.
        BrokerUnreachable: the broker refuses the connection.
        StoreFailed: the wishes cannot be read or kept.
    """
    if plan.wishes is None:
        return
    wanted = wanted_by(folder, plan, plan.sites)
    kept = made(settings.state_dir / "fl" / WISHES)
    async with fabric.connect(f"fl-wishes-{wanted.project}"[:64]) as link:
        desk = WishDesk(
            plan,
            plan.wishes,
            wanted,
            transport=link,
            topics=Topics(settings.root),
            clock=clock,
            path=kept / f"{wanted.project}.json",
            start=start,
        )
        await desk.serve()


class WishDesk:
    """Takes the wishes for one project."""

    def __init__(
        self,
        plan: Project,
        rules: WishRules,
        wanted: Wanted,
        *,
        transport: Transport,
        topics: Topics,
        clock: Clock,
        path: Path,
        start: StartRun,
    ) -> None:
        """Make it; `serve` works.

        Args:
            plan: the project's FL.toml.
            rules: of its owner.
            wanted: whom it knows as its sites.
            transport: an open one.
            topics: topic names.
            clock: time.
            path: file of the book, so that wishes and rests outlive the process.
            start: runs a training.

        Raises:
            StoreFailed: the book cannot be read.
        """
        self._project = wanted.project
        self._plan = plan
        self._rules = rules
        self._roll = Roll(wanted, clock)
        self._transport = transport
        self._topics = topics
        self._clock = clock
        self._path = path
        self._start = start
        self._book = _read(path)
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()  # from reading the book to having it on disk: a wish may come while a run begins

    @property
    def book(self) -> WishBook:
        """The wishes that count."""
        return self._book

    async def serve(self, *, ready: asyncio.Event | None = None) -> None:
        """Hear wishes, and start runs one after the other, until cancelled.

        Args:
            ready: set when it listens.
        """
        heard = (self._topics.capability(), self._topics.vitals(), self._topics.wishes(self._project))
        async with (
            self._transport.subscribe(*(Filter(topic_filter=topic) for topic in heard)) as inbox,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._run_when_due(), name=f"wishes[{self._project}]")
            if ready is not None:
                ready.set()
            async for delivery in inbox:
                await self._take(delivery)
                self._changed.set()

    async def _take(self, delivery: Delivery) -> None:
        topic = delivery.publication.topic
        if topic.startswith(self._topics.wishes(self._project, "")):
            try:
                await self._hear(AgentId(check_id(self._topics.id_of(topic), what="agent")), delivery.publication.payload)
            except (ValueError, FabricError) as error:
                log.warning("a wish was not heard: %s", error)
        else:
            self._roll.hear(delivery.publication, self._topics)
        await delivery.acknowledge()

    async def _hear(self, site: AgentId, payload: bytes) -> None:
        key = self._roll.key(site)
        if key is None:
            # whoever it is has no card here that could vouch for it, so it is not answered either
            raise BadMessage(f"{site} is no site of {self._project}: {self._roll.barred.get(site, 'it has no card')}")
        wish = decode_wish(payload, site=site, key=key)
        async with self._writing:
            book, said = self._book.hear(wish, now=self._clock.now(), purpose=self._plan.purpose, rules=self._rules)
            if book != self._book:
                await self._keep(book)
        text = said.text
        if said.state != "refused" and isinstance(due := self._due(), NotYet):
            text = f"{text}; {due.reason}"
        await self._tell(wish, said.state, text)

    async def _run_when_due(self) -> None:
        while True:
            self._changed.clear()
            found = self._due()
            if isinstance(found, Start):
                await self._run(found)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()

    def _due(self) -> Start | NotYet:
        present = {block.agent for block in self._roll.present.values()}
        cost = self._plan.usd_most()
        return self._book.due(now=self._clock.now(), cost_usd=cost, present=present, rules=self._rules)

    async def _run(self, start: Start) -> None:
        now = self._clock.now()
        run = f"wish-{hashlib.sha256(' '.join(wish.id for wish in start.wishes).encode()).hexdigest()[:16]}"
        # on disk before the run: a server that is killed does not begin it again at once
        async with self._writing:
            await self._keep(self._book.begun(start, now=now))
        for wish in start.wishes:
            share = start.shares[AgentId(wish.site)]
            costs = f"; your share is US$ {share:.2f} at most" if share else ""
            await self._tell(wish, "started", f"run {run} begins: {len(start.wishes)} sites want it{costs}", run)
        try:
            state, text = "done", await self._start(run)
        except FabricError as error:
            state, text = "failed", str(error)
        for wish in start.wishes:
            await self._tell(wish, state, text, run)

    async def _tell(self, wish: Wish, state: str, text: str, run: str = "") -> None:
        told = msgspec.convert({"wish": wish.id, "state": state, "text": text[:2_000], "run": run}, WishTold)
        topic = self._topics.told(self._project, wish.site)
        try:
            await self._transport.publish(
                Publication(topic=topic, payload=encode_told(told), retain=True, message_expiry_interval=TOLD_EXPIRY_SECONDS)
            )
        except FabricError as error:
            log.warning("%s was not told of its wish: %s", wish.site, error)

    async def _keep(self, book: WishBook) -> None:
        try:
            await asyncio.to_thread(write_whole, self._path, msgspec.json.encode(book))
        except OSError as error:
            raise StoreFailed(f"wishes {self._path}: {error}") from error
        self._book = book


def _read(path: Path) -> WishBook:
    try:
        return msgspec.json.decode(path.read_bytes(), type=WishBook)
    except FileNotFoundError:
        return WishBook()
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreFailed(
            f"the wishes in {path} cannot be read ({error}): mend it, or move it away to forget them"
        ) from error
