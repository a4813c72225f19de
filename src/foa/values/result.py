"""What a job ends with: the answer, where it comes from, who did what, and the bill. This is what `foa ask --json` prints.

It is also what Agent-0 publishes on `foa/result/{job_id}` and what the journal keeps.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from foa.values.budget import Spend
from foa.values.draft import Claim, Source

RESULT_VERSION = 1

#: done: every subtask was answered · partial: some were · failed: none, `error` says why · cancelled: somebody stopped it
Status = Literal["done", "partial", "failed", "cancelled"]


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of α(s, a), each 0 to 1 (eq. 2), and the reputation it is multiplied with."""

    similarity: float  #: max(0, cos(c_s, c_a))
    policy: float  #: 1[p_s ⊆ p_a]
    resources: float  #: f: how well what it has covers what is needed
    spec: float  #: g: (1 + cos(e_s, e_a)) / 2
    reputation: float = 1.0


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that may take the work, with its score and why."""

    agent: str
    score: float  #: α times reputation
    factors: Factors


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """Who was found for one piece of work, and who was not."""

    candidates: tuple[Candidate, ...]  #: best first
    refusals: Mapping[str, str] = {}  #: agent → why not
    fallback: str = ""  #: not empty: no agent reached the threshold, and what was done
    #: probability that the best one can do it, where it is as likely as not that one can; None: too few agents to tell
    fit: float | None = None
    why: str = ""  #: not empty: nobody was taken, because no agent fits


class PlanNode(msgspec.Struct, frozen=True, kw_only=True):
    """A subtask of the DAG."""

    id: str
    text: str
    proposers: tuple[str, ...]


class PlanEdge(msgspec.Struct, frozen=True, kw_only=True):
    """A dependency of the DAG."""

    before: str
    after: str
    weight: float
    proposers: tuple[str, ...]


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """The merged DAG as people read it."""

    nodes: tuple[PlanNode, ...] = ()
    edges: tuple[PlanEdge, ...] = ()
    notes: tuple[str, ...] = ()


class TeamMember(msgspec.Struct, frozen=True, kw_only=True):
    """One assignment x_ij = 1 of eq. 3."""

    subtask: str
    agent: str
    score: float
    factors: Factors


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent did not get, or did not do, a piece of work."""

    subtask: str  #: "" for the task as a whole
    agent: str
    reason: str


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster and how its refinement ended."""

    id: str
    subtask: str
    members: tuple[str, ...]
    rounds: int  #: rounds held, 0 for a cluster of one
    consensus: bool
    representative: str
    heard: tuple[str, ...] = ()  #: whose posts the answer rests on


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one subtask (TASK_COMPLETE, or what took its place)."""

    subtask: str
    text: str
    answer: str  #: "" where it failed
    claims: tuple[Claim, ...] = ()
    confidence: float = 0.0
    by: str = ""  #: the agent whose draft stands
    agents: tuple[str, ...] = ()  #: everyone who contributed
    lost: Mapping[str, str] = {}  #: agent → how it was lost
    error: str = ""  #: not empty: no answer, and why
    figures: Mapping[str, float] = {}  #: of a training: accuracy, ε, …


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What the job cost, in all and by agent."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0  #: wall clock, intake to answer
    by_agent: Mapping[str, Spend] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a job that ended."""

    v: int = RESULT_VERSION
    job_id: str
    status: Status
    answer: str
    sources: tuple[Source, ...] = ()
    reports: tuple[Report, ...] = ()
    plan: PlanView = PlanView()
    assignments: tuple[TeamMember, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    clusters: tuple[ClusterView, ...] = ()
    rounds: int = 0  #: refinement rounds, over all clusters
    lost: Mapping[str, str] = {}  #: agent → how it was lost
    fallbacks: tuple[str, ...] = ()  #: every place where something less than asked for was done
    bill: Bill = Bill()
    error: str = ""  #: not empty: why it failed or is partial
    exit_code: int = 0  #: what `foa ask` exits with
