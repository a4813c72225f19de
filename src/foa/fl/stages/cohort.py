"""What every stage of a round needs to know: what the run asks for, who is there, who was chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from foa.fl.block import FlBlock
from foa.fl.guardian import Terms
from foa.fl.market import Offer, Talk
from foa.fl.negotiation import Negotiation
from foa.fl.server import Choice
from foa.fl.sift import Trusted
from foa.values.ids import AgentId

#: Who is there, by Flower's number.
Profiles = Callable[[], Mapping[int, FlBlock]]
#: Who would be there and may not be asked, and why.
Barred = Callable[[], Mapping[AgentId, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgenticSettings:
    """What a run asks of its clients, and by which keys it reads their metrics."""

    run: str
    terms: Terms
    purpose: str = "*"
    rounds: int = 0  #: planned in all; told to guardians. 0: not told
    policies: tuple[str, ...] = ()  #: labels that every site has to be cleared for
    negotiation: Negotiation = Negotiation()
    recount_rounds: int = 0  #: for so many the last update of a site that refuses for now is counted again, decayed
    usd_a_round: float = 0.0  #: above 0: clients are bought by auction within it
    credit: bool = False  #: Shapley values of every round; needs `validate`
    quarantine_rounds: int = 3
    #: hidden axes of each array, by name: with them, clients of less width get that part of the model (HeteroFL)
    hidden: Mapping[str, tuple[int, ...]] | None = None
    trusted: Trusted | None = None  #: the server's own training on clean data, for the rule `fltrust`
    secure_aggregation: bool = False  #: single updates stay hidden from the server; see `foa.fl.stages.secure`
    samples_key: str = "num-examples"
    loss_key: str = "loss"
    accuracy_key: str = "accuracy"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Who was chosen for a round, out of whom."""

    round: int
    choice: Choice
    profiles: Mapping[int, FlBlock]  #: everybody who was there when it was chosen
    payments: Mapping[AgentId, float] = field(default_factory=dict[AgentId, float])  #: US dollars, as bought or agreed
    gated: Mapping[AgentId, str] = field(default_factory=dict[AgentId, str])  #: who could be no candidate, and why
    talks: Mapping[AgentId, Talk] = field(default_factory=dict[AgentId, Talk])  #: negotiations; empty: there was none

    @property
    def blocks(self) -> Mapping[AgentId, FlBlock]:
        """Everybody who was there, by name."""
        return {block.id: block for block in self.profiles.values()}

    def asks(self, client: AgentId | None) -> bool:
        """Whether it is to train: chosen, let through the gate, and, where it was negotiated with, agreed with."""
        if client is None or client not in self.choice.clients or client in self.gated:
            return False
        talk = self.talks.get(client)
        return talk is None or talk.agreed is not None

    @property
    def size(self) -> int:
        """How many are to train."""
        return sum(self.asks(client) for client in self.choice.clients)

    def agreed(self, client: AgentId | None) -> Offer | None:
        """The terms that were agreed with it."""
        talk = None if client is None else self.talks.get(client)
        return None if talk is None else talk.agreed

    def name(self, node: int) -> AgentId | None:
        """Whom Flower calls by this number; None for a stranger."""
        block = self.profiles.get(node)
        return None if block is None else block.id

    @property
    def nodes(self) -> list[int]:
        """Flower's numbers of the chosen, sorted."""
        chosen = set(self.choice.clients)
        return sorted(node for node, block in self.profiles.items() if block.id in chosen)
