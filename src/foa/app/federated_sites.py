"""One site of a federated-learning project: its guardian, its ledger, its app. Needs the extra `fl`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from flwr.app import Context

from foa.app.settings import Settings
from foa.errors import BadInput, StoreFailed
from foa.fl.blobs import FolderBlobs
from foa.fl.block import FlBlock, bucketed_samples, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.client_state import remembered, remembering
from foa.fl.flower import ClientAppCallable
from foa.fl.grids.mqtt import FlowerNode, FlTopics, farewell
from foa.fl.guardian import Condition, Guardian
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining, plan_budget
from foa.fl.project import App, Project, SiteSpec, read_project
from foa.ports import Clock
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId, check_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(AbstractContextManager["Place"]):
    """A site that is ready to train. Leaving it closes its ledger."""

    spec: SiteSpec
    number: int  #: Flower's number of it
    app: ClientAppCallable  #: with its guardian in front
    context: Context
    block: FlBlock
    ledger: PrivacyLedger | None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.ledger is not None:
            self.ledger.close()


def run_folder(settings: Settings, run: str) -> Path:
    """Where a run keeps its checkpoint, ledgers and report.

    Raises:
        StoreFailed: it cannot be made.
    """
    found = settings.state_dir / "fl" / check_id(run, what="run")
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(f"{found}: {error}") from error
    return found


def place(
    project: Project, app: App, specs: Sequence[SiteSpec], spec: SiteSpec, *, settings: Settings, clock: Clock, run: str
) -> Place:
    """Make one site of a project.

    Raises:
        BadInput: its ledger was opened with another budget, or what its app kept is damaged.
        StoreFailed: its ledger cannot be opened, or what its app kept cannot be read.
    """
    number = node_id(AgentId(spec.name))
    book = _ledger(run_folder(settings, run), project, spec)
    behind = Site(guardian=Guardian(spec.limits, book), condition=_condition(spec), clock=clock, keys=project.keys)
    config = {"partition-id": spec.partition, "num-partitions": len(specs), "data": settings.data}
    state = run_folder(settings, run) / f"state-{spec.name}.bin"
    return Place(
        spec=spec,
        number=number,
        app=remembering(guarded(app.part("app"), behind), state),
        context=remembered(state, number, config),
        block=FlBlock(
            agent=spec.name,
            samples=bucketed_samples(spec.records),
            width=spec.width,
            usd_a_round=spec.usd_a_round,
            bytes_a_second=spec.bytes_a_second,
            group=spec.group,
            epsilon=None if book is None else book.budget.epsilon,
        ),
        ledger=book,
    )


async def serve_site(
    folder: Path,
    name: str,
    run: str,
    broker: str,
    settings: Settings,
    clock: Clock,
    *,
    adjust: Callable[[Project], Project] = lambda project: project,
    clients: int | None = None,
    on_ready: Callable[[FlBlock], None] | None = None,
) -> None:
    """Be one site of a run over a broker, until cancelled.

    Args:
        folder: of the project.
        name: of the site.
        run: its name; the server uses the same.
        broker: address.
        settings: where the ledger is kept, and the data.
        clock: for the ledger.
        adjust: what the command line changes in the project; the server's must be the same.
        clients: for projects that make any number of sites.
        on_ready: called once, when it is connected.

    Raises:
        BadInput: the project has no such site.
        BrokerUnreachable: there is no broker at that address.
    """
    project = adjust(read_project(folder))
    app = App(folder, project)
    specs = app.sites(project, clients)
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None:
        shown = ", ".join(spec.name for spec in specs[:10])
        raise BadInput(f"{folder} has no site {name!r}: it has {shown}{', …' if len(specs) > 10 else ''}")
    topics = FlTopics("foa", check_id(run, what="run"))
    link = MqttTransport(broker, client_id=f"fl-{run}-{name}"[:64], will=farewell(topics, AgentId(name)), keep_alive=10)
    with place(project, app, specs, spec, settings=settings, clock=clock, run=run) as made:
        async with link:
            node = FlowerNode(link, topics, made.block, made.app, made.context, blobs=shared_blobs(settings, run))
            if on_ready is not None:
                on_ready(made.block)
            await node.serve()


def shared_blobs(settings: Settings, run: str) -> FolderBlobs:
    """Where models above a megabyte go: a folder under the state directory, which server and sites then have to share."""
    return FolderBlobs(run_folder(settings, run) / "blobs")


def _ledger(kept: Path, project: Project, spec: SiteSpec) -> PrivacyLedger | None:
    privacy, terms = project.privacy, project.terms
    if privacy is None and spec.epsilon is None:
        return None
    epsilon = spec.epsilon or (privacy.epsilon if privacy else 0.0)
    noise = max(terms.noise_multiplier, spec.limits.noise_min, project.bounds.noise_min, 0.5)
    # only a forecast, for the choice of the order: it commits to nothing
    forecast = NoisyTraining(
        noise_multiplier=noise, sample_rate=min(1.0, terms.batch / spec.records), steps=terms.steps * project.rounds
    )
    budget = plan_budget(epsilon, privacy.delta if privacy else 1e-5, forecast)
    return PrivacyLedger(kept / f"ledger-{spec.name}.db", budget)


def _condition(spec: SiteSpec) -> Callable[[], Condition]:
    found = Condition(records=spec.records, seconds_a_step=spec.seconds_a_step, battery=spec.battery, plugged=spec.plugged)
    return lambda: found
