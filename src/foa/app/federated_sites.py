"""The sites of a federated-learning project as this process has them: guardian, ledger, app. Needs the extra `fl`.

simulated   all in one process, ledgers of the run            `place`
real        a process each over a broker (`foa.app.federated_site`), one ledger for all runs: it belongs to the data
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from flwr.app import Context

from foa.app.federated_guardian import Advised, advised
from foa.app.places import made
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.fl.block import FlBlock, bucketed_samples, node_id
from foa.fl.client_mod import Site, guarded
from foa.fl.client_state import remembered, remembering
from foa.fl.flower import ClientAppCallable
from foa.fl.guardian import Condition, Guardian
from foa.fl.ledger import PrivacyLedger, bucketed, kept_order
from foa.fl.privacy import NoisyTraining, PrivacyBudget, plan_budget
from foa.fl.project import App, Project, SiteSpec
from foa.ports import Clock, Model
from foa.values.ids import AgentId, check_id

SITES = "sites"  #: the folder beside the runs' in which real sites keep what is theirs
WISHES = "wishes"  #: and the one in which servers keep what sites asked for


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
    """Where a run keeps its checkpoint and report, and simulated sites their ledgers.

    Raises:
        BadInput: that name is taken.
        StoreFailed: it cannot be made.
    """
    if run in (SITES, WISHES):
        raise BadInput(f"a run cannot be called {run!r}: that folder is taken; choose another --name")
    return made(settings.state_dir / "fl" / check_id(run, what="run"))


def site_folder(settings: Settings, project: str, site: str) -> Path:
    """Where a real site keeps its ledger, the versions of its card, and what its app remembers of each run.

    Raises:
        StoreFailed: it cannot be made.
    """
    return made(settings.state_dir / "fl" / SITES / project / check_id(site, what="site"))


def place(
    project: Project,
    app: App,
    specs: Sequence[SiteSpec],
    spec: SiteSpec,
    *,
    settings: Settings,
    clock: Clock,
    run: str,
    model: Model | None = None,
) -> Place:
    """Make one simulated site of a project. Call it on the event loop.

    Raises:
        BadInput: its ledger was opened with another budget, or what its app kept is damaged.
        StoreFailed: its ledger cannot be opened, or what its app kept cannot be read.
    """
    kept = run_folder(settings, run)
    book = open_ledger(kept / f"ledger-{spec.name}.db", project, spec)
    acting, context = open_app(
        project,
        app,
        spec,
        book,
        count=len(specs),
        data=settings.data,
        clock=clock,
        state=kept / f"state-{spec.name}.bin",
        advised=advised(spec, model, clock, kept / f"decisions-{spec.name}.jsonl"),
    )
    return Place(
        spec=spec, number=node_id(AgentId(spec.name)), app=acting, context=context, block=block_for(spec, book), ledger=book
    )


def open_app(
    project: Project,
    app: App,
    spec: SiteSpec,
    book: PrivacyLedger | None,
    *,
    count: int,
    data: str,
    clock: Clock,
    state: Path,
    advised: Advised,
) -> tuple[ClientAppCallable, Context]:
    """The app of one site in one run, with its guardian in front, and what the app keeps between rounds.

    Args:
        project: whose app it is.
        app: the user's.
        spec: of the site.
        book: its ledger.
        count: sites of the project.
        data: folder of the data.
        clock: for the ledger.
        state: file of what the app keeps in this run.
        advised: puts its model beside the rules, where it has one.

    Raises:
        BadInput: what the app kept is damaged.
        StoreFailed: it cannot be read.
    """
    rules = Guardian(replace(spec.limits, policies=spec.policies), book)
    behind = Site(
        guardian=rules,
        condition=_condition(spec),
        clock=clock,
        consider=advised(rules),
        usd_a_round=spec.usd_a_round,
        keys=project.keys,
    )
    config: dict[str, int | float | str | bool] = {"partition-id": spec.partition, "num-partitions": count, "data": data}
    context = remembered(state, node_id(AgentId(spec.name)), config)
    return remembering(guarded(app.part("app"), behind), state), context


def block_for(spec: SiteSpec, book: PrivacyLedger | None, *, project: str = "") -> FlBlock:
    """What a site says of itself; of its budget only in coarse steps.

    Args:
        spec: of the site.
        book: its ledger.
        project: id of the project; for sites that are looked for.
    """
    allowed = spec.limits.purposes
    # too many or too long for a card: the guardian knows them all the same
    says = "*" not in allowed and len(allowed) <= 16 and all(0 < len(purpose) <= 64 for purpose in allowed)
    left = None if book is None else bucketed(book.budget.epsilon - book.epsilon_spent)
    return FlBlock(
        agent=spec.name,
        project=project,
        tasks=allowed if says else (),
        samples=bucketed_samples(spec.records),
        width=spec.width,
        usd_a_round=spec.usd_a_round,
        bytes_a_second=spec.bytes_a_second,
        group=spec.group,
        policies=tuple(sorted(spec.policies)),
        epsilon=None if book is None else book.budget.epsilon,
        epsilon_left=left,
    )


def open_ledger(path: Path, project: Project, spec: SiteSpec) -> PrivacyLedger | None:
    """The ledger of a site; None where neither the project nor the site has a privacy budget.

    A ledger that is there keeps its order, whatever a later run plans: only the budget has to be the same.

    Raises:
        BadInput: it was opened with another budget.
        StoreFailed: it cannot be opened.
    """
    privacy = project.privacy
    if privacy is None and spec.epsilon is None:
        return None
    epsilon, delta = spec.epsilon or (privacy.epsilon if privacy else 0.0), privacy.delta if privacy else 1e-5
    order = kept_order(path)
    if order is not None:
        return PrivacyLedger(path, PrivacyBudget(epsilon=epsilon, delta=delta, order=order))
    return PrivacyLedger(path, plan_budget(epsilon, delta, _forecast(project, spec)))


def _forecast(project: Project, spec: SiteSpec) -> NoisyTraining:
    """For the choice of the order only: it commits to nothing."""
    terms = project.terms
    noise = max(terms.noise_multiplier, spec.limits.noise_min, project.bounds.noise_min, 0.5)
    return NoisyTraining(
        noise_multiplier=noise, sample_rate=min(1.0, terms.batch / spec.records), steps=terms.steps * project.rounds
    )


def _condition(spec: SiteSpec) -> Callable[[], Condition]:
    found = Condition(records=spec.records, seconds_a_step=spec.seconds_a_step, battery=spec.battery, plugged=spec.plugged)
    return lambda: found
