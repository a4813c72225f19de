"""What a real site of a federated-learning project is made of before it is connected. Needs the extra `fl`.

FL.toml, app.py, ledger ─► SiteHome ─► its card, how its budget stands      (`foa.app.federated_site` serves it)
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foa.agents.profile import AgentProfile, Limits
from foa.app.alive import held
from foa.app.federated_sites import block_for, open_ledger, site_folder
from foa.app.settings import Settings
from foa.errors import BadInput
from foa.fl.block import fl_of
from foa.fl.ledger import PrivacyLedger
from foa.fl.privacy import NoisyTraining
from foa.fl.project import App, Project, SiteSpec, project_id, read_project
from foa.fl.roll import KIND
from foa.values.ids import AgentId
from foa.values.resources import Price, Resources

LEDGER = "ledger.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHome:
    """What a site is made of before it is connected."""

    folder: Path  #: what it keeps
    project: str  #: id of the project
    plan: Project  #: what its FL.toml says
    app: App
    spec: SiteSpec
    count: int  #: sites of the project
    ledger: PrivacyLedger | None

    @property
    def id(self) -> AgentId:
        """Its agent id."""
        return AgentId(self.spec.name)

    def profile(self) -> AgentProfile:
        """The site as an agent: it answers training only, and says how much of its budget is left in coarse steps."""
        spec, plan = self.spec, self.plan
        purpose = "" if plan.purpose == "*" else f" for {plan.purpose}"
        said = f"Trains {self.project}{purpose} on data that stays at {spec.name}. {plan.description}"
        return AgentProfile(
            agent_id=self.id,
            name=spec.name,
            description=said[:2_000].strip(),
            spec="",
            policies=frozenset(spec.policies),
            resources=Resources(price=Price(usd_per_call=spec.usd_a_round)),
            kinds=(KIND,),
            limits=Limits(slots=1, queue=0),
            fl=fl_of(block_for(spec, self.ledger, project=self.project)),
        )

    def budget(self) -> str:
        """How its privacy budget stands, for its owner; empty: it keeps no ledger."""
        if self.ledger is None:
            return ""
        whole = self.ledger.budget.epsilon
        # what was paid for bids is of no round
        rounds = [entry for entry in self.ledger.entries() if "/" in entry.key]
        runs = len({entry.key.rpartition("/")[0] for entry in rounds})
        left = max(0.0, whole - self.ledger.epsilon_spent)
        said = f"ε {left:.2f} of {whole:g} left"
        return f"{said}, {len(rounds)} rounds of {runs} runs are paid" if rounds else f"{said}, nothing is spent"

    def is_spent(self) -> bool:
        """Whether what is left pays for no useful update any more: the least one its guardian would offer."""
        if self.ledger is None:
            return False
        limits, terms = self.spec.limits, self.plan.terms
        least = NoisyTraining(
            noise_multiplier=limits.noise_max,
            sample_rate=min(1.0, terms.batch / self.spec.records),
            steps=max(1, terms.steps // 4),
        )
        return least.rdp(self.ledger.budget.order) > self.ledger.left * limits.share_a_round

    def spent(self) -> str:
        """What its owner should know when the budget is spent."""
        return (
            f"the privacy budget of {self.spec.name} is spent ({self.budget()}). It goes on measuring models and refuses to "
            f"train with noise. Data that were never trained on deserve a budget of their own: give them another site name. "
            f"To allow more with the same data, move {self.folder / LEDGER} away and set a new epsilon; both then add up."
        )


@asynccontextmanager
async def site_home(
    folder: Path,
    name: str,
    settings: Settings,
    *,
    adjust: Callable[[Project], Project] = lambda project: project,
    clients: int | None = None,
) -> AsyncGenerator[SiteHome]:
    """Open what a site keeps; its ledger is closed when the block ends.

    Args:
        folder: of the project.
        name: of the site.
        settings: where the ledger is kept, and the data.
        adjust: what the command line changes in the project.
        clients: for projects that make any number of sites.

    Raises:
        BadInput: the project has no such site, another process serves it on this machine, or its ledger was opened with
            another budget.
        StoreFailed: its folder or ledger cannot be used.
    """
    plan = adjust(read_project(folder))
    app = App(folder, plan)
    specs = app.sites(plan, clients)
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None:
        shown = ", ".join(spec.name for spec in specs[:10])
        raise BadInput(f"{folder} has no site {name!r}: it has {shown}{', …' if len(specs) > 10 else ''}")
    project = project_id(folder, plan)
    kept = site_folder(settings, project, name)
    with held(kept, "site", taken=f"site {name} of {project} runs on this machine already"):
        book = open_ledger(kept / LEDGER, plan, spec)
        try:
            yield SiteHome(folder=kept, project=project, plan=plan, app=app, spec=spec, count=len(specs), ledger=book)
        finally:
            if book is not None:
                book.close()
