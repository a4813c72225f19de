"""Progress events of a job, in the order things happened: the journal keeps them, `foa/meta/{job_id}` carries them,
the terminal draws them. Watchers may join late and may miss some: the journal has them all.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from foa.values.budget import Budget, Spend
from foa.values.result import Candidate, ClusterView, PlanView, Status, TeamMember


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """What every event has."""

    at: float  #: seconds since the epoch


class Admitted(Event, frozen=True, kw_only=True, tag="admitted"):
    """Agent-0 took the job."""

    orchestrator: str
    text: str  #: the task, shortened to 200 characters
    budget: Budget
    resumed: bool = False  #: taken up again after a restart


class CandidatesFound(Event, frozen=True, kw_only=True, tag="routed"):
    """Who may propose."""

    candidates: tuple[Candidate, ...]
    refusals: Mapping[str, str]
    fit: float | None = None  #: probability that the best one can do the work; None: too few agents to tell


class Proposed(Event, frozen=True, kw_only=True, tag="proposed"):
    """One agent's proposal arrived."""

    agent: str
    subtasks: int
    fallback: str = ""


class Planned(Event, frozen=True, kw_only=True, tag="planned"):
    """The DAG is merged and staffed."""

    plan: PlanView
    teams: tuple[TeamMember, ...]


class DraftStarted(Event, frozen=True, kw_only=True, tag="draft_started"):
    """A ready subtask went to its team."""

    subtask: str
    agents: tuple[str, ...]


class Drafted(Event, frozen=True, kw_only=True, tag="drafted"):
    """One draft arrived."""

    subtask: str
    agent: str
    confidence: float
    spend: Spend
    fallback: str = ""


class TrainStarted(Event, frozen=True, kw_only=True, tag="train_started"):
    """A ready subtask went to the agent that leads its training."""

    subtask: str
    agent: str


class TrainNode(Event, frozen=True, kw_only=True, tag="train_node"):
    """A node of a training's round began or ended."""

    subtask: str
    agent: str
    round: int
    node: str  #: profile, select, negotiate, train, …
    state: Literal["began", "ended"]
    said: str = ""  #: what it gave, in words
    spend: Spend = Spend()


class AgentLost(Event, frozen=True, kw_only=True, tag="lost"):
    """An agent was silent, left, refused, or answered nonsense."""

    subtask: str
    agent: str
    reason: str
    asked: bool = True  #: False: no request reached it


class Clustered(Event, frozen=True, kw_only=True, tag="clustered"):
    """The drafts of a subtask were grouped."""

    subtask: str
    clusters: tuple[tuple[str, ...], ...]


class RoundPosted(Event, frozen=True, kw_only=True, tag="round"):
    """One voice in one refinement round."""

    cluster: str
    agent: str
    round: int
    stop: bool


class ClusterDone(Event, frozen=True, kw_only=True, tag="cluster_done"):
    """A cluster ended."""

    cluster: ClusterView


class Reported(Event, frozen=True, kw_only=True, tag="reported"):
    """A subtask is finished."""

    subtask: str
    by: str
    confidence: float
    error: str = ""


class FellBack(Event, frozen=True, kw_only=True, tag="fallback"):
    """Something less than asked for was done, and said out loud."""

    what: str


class Spent(Event, frozen=True, kw_only=True, tag="spent"):
    """What the job has cost so far."""

    total: Spend


class Ended(Event, frozen=True, kw_only=True, tag="ended"):
    """The result is published."""

    status: Status
    error: str = ""


AnyEvent = (
    Admitted
    | CandidatesFound
    | Proposed
    | Planned
    | DraftStarted
    | Drafted
    | TrainStarted
    | TrainNode
    | AgentLost
    | Clustered
    | RoundPosted
    | ClusterDone
    | Reported
    | FellBack
    | Spent
    | Ended
)
