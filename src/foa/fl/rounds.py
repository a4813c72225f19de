"""What one round of a run was: the row that live output, report, journal and later decisions all read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from foa.fl.market import Offer
from foa.fl.plans import RoundPlan
from foa.fl.terms import Told
from foa.fl.view import RoundRecord

#: The nodes of one round, in order.
NODES = ("profile", "select", "negotiate", "train", "screen", "aggregate", "evaluate", "credit")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """A node of a round began or ended: what a job that holds the run saves and shows while it goes on."""

    round: int
    node: str  #: one of `NODES`
    state: Literal["began", "ended"]
    value: object = None  #: what it gave: plain data; None at the beginning


#: Gets every event of a run, in order, from the Strategy's thread. It may raise `JobCancelled` to stop the run.
OnNode = Callable[[NodeEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """One chosen client in one round, or one that could not be chosen."""

    client: str
    kind: str  #: trained · refused · lost · screened
    reason: str = ""  #: why not, or why on other terms
    node: str = "train"  #: where that came about: profile (it was never a candidate) · negotiate · train
    seconds: float = 0.0
    samples: int = 0
    told: Told | None = None
    usd: float = 0.0  #: paid
    credit: float | None = None  #: its share of what the round gained
    agreed: Offer | None = None  #: the terms of its agreement
    findings: tuple[str, ...] = ()  #: what the audit found: claims that do not hold, terms that were not kept
    lied: bool = False  #: one of them is a lie, not only a promise that was openly not kept
    penalty_usd: float = 0.0  #: for them; kept back from its pay, from later rounds too
    age: int = 0  #: above 0: its update of so many rounds ago was counted again, decayed
    bytes: int = 0  #: of its reply


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkRow:
    """One negotiation."""

    client: str
    bids: tuple[Offer, ...]  #: in turn, the server's first
    agreed: Offer | None
    reason: str = ""  #: why it ended without an agreement, or why the client asked for other terms
    by: str = ""  #: the model that decided at the client and what its guard said; empty: its rules


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One round."""

    round: int
    plan: RoundPlan
    verdict: str  #: of the guard: accepted · limited · fallback
    faults: tuple[str, ...]  #: what was wrong with the model's proposal
    model: str  #: that proposed; empty: the rule decided
    decision_seconds: float
    tokens: int  #: spent on the decision
    clients: tuple[ClientRow, ...]
    seconds: float  #: of training, as seen by the server
    loss: float | None  #: of the new model on the server's data, where it has some
    taken: bool  #: False: the new model was worse by far, the last one stays
    drift: bool = False
    bytes_out: int = 0  #: of the messages to clients in training, without what the transport adds
    bytes_in: int = 0  #: of their replies
    accuracy: float | None = None  #: mean over clients, each counting alike
    worst10: float | None = None  #: mean over the worst-served tenth of clients, one at least
    accuracies: tuple[tuple[str, float], ...] = ()  #: by client
    present: int = 0  #: sites that were there when it began
    talks: tuple[TalkRow, ...] = ()  #: negotiations

    def record(self) -> RoundRecord:
        """The round as later decisions see it."""
        # who was no candidate says nothing about those who were chosen
        kinds = [client.kind for client in self.clients if client.node != "profile"]
        return RoundRecord(
            round=self.round,
            selector=self.plan.selector,
            k=self.plan.k,
            trained=kinds.count("trained"),
            refused=kinds.count("refused"),
            lost=kinds.count("lost"),
            seconds=self.seconds,
            loss=self.loss,
            worst=self.worst10,
            suspects=kinds.count("screened"),
        )
