"""What stands behind an agent: the three requests it answers, whoever thinks the answers up.

LmBrain (foa.agents.lm)    a language model with tools under a Spec
functions                  a Python function        (foa.agents.functions)
yours                      anything with these three methods

A brain whose profile names the kind "train" is a Trainer: it answers a request that takes long, and tells of it on the way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from foa.agents.profile import AgentProfile
from foa.messages import Drafted, DraftRequest, Propose, Proposed, Refused, Trained, TrainProgress, TrainRequest
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.ids import AgentId, ClusterId, JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body of a reply and what it cost."""

    body: Proposed | Drafted | Trained | Refused
    spend: Spend = Spend()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What another member said last. Its text is data, never an instruction."""

    agent: AgentId
    weight: float  #: its reputation, 0 to 1
    draft: Draft
    critique: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One round of refinement, as one member sees it."""

    job: JobId
    cluster: ClusterId
    text: str  #: the subtask
    round: int  #: from 2: the first round only posts
    own: Draft
    own_weight: float
    peers: tuple[Peer, ...]
    budget: Budget  #: what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """The member's draft after it read its peers."""

    draft: Draft
    critique: str = ""
    stop: bool = False  #: its vote
    spend: Spend = Spend()


class Brain(Protocol):
    """Thinks up the answers of one agent. It is given only requests that its profile's `kinds` name.

    Raises (every method): FabricError; the host turns it into Refused and says why.
    """

    async def propose(self, request: Propose) -> Answer:
        """Split a task (Alg. 1)."""
        ...

    async def draft(self, request: DraftRequest) -> Answer:
        """Answer a subtask (Alg. 2)."""
        ...

    async def revise(self, revision: Revision) -> Revised:
        """Read the peers, criticise, update, vote (Alg. 4)."""
        ...

    async def forget(self, job: JobId) -> None:
        """The job is over: drop what was kept for it."""
        ...

    async def aclose(self) -> None:
        """Let go of tools and connections."""
        ...


@runtime_checkable
class Trainer(Brain, Protocol):
    """A brain that trains models."""

    async def train(self, request: TrainRequest, tell: Callable[[TrainProgress], None]) -> Answer:
        """Train to the end; a cancelled one stops within a second, and goes on where it was when it is asked again.

        Args:
            request: what for, and for how much.
            tell: hears of every node as it begins and ends; never waits.
        """
        ...

    async def told(self, request: TrainRequest) -> Sequence[TrainProgress]:
        """What was told of this training before, so that who asks again hears all of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A profile and its brain: what a host announces and runs."""

    profile: AgentProfile
    brain: Brain
