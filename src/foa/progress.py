"""What a running job has reached, whatever stops it: from this its result is put together."""

import asyncio
from dataclasses import dataclass, field

from foa.phases.assign import Staffed
from foa.values.draft import AgentDraft
from foa.values.ids import SubtaskId
from foa.values.plan import Plan
from foa.values.result import ClusterView, Report, Routed


@dataclass(slots=True)
class Progress:
    """What one run has reached, whatever stops it."""

    routed: Routed | None = None
    plan: Plan = Plan(subtasks=())
    staffed: Staffed = Staffed(teams={}, spares={})
    revisions: int = 0  #: of the plan
    revising: asyncio.Lock = field(default_factory=asyncio.Lock)
    drafts: dict[SubtaskId, tuple[AgentDraft, ...]] = field(default_factory=dict[SubtaskId, tuple[AgentDraft, ...]])
    clusters: list[ClusterView] = field(default_factory=list[ClusterView])
    reports: dict[SubtaskId, Report] = field(default_factory=dict[SubtaskId, Report])
