"""Phase 1, second half: every subtask is routed, then eq. 3 staffs the teams: exact, under capacity, never forced."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import numpy as np

from foa.errors import Unroutable
from foa.job import Done, Job
from foa.patience import Patience
from foa.plan.assign import assign
from foa.route import Router, Routing
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.result import Candidate, Refusal, TeamMember


class Staffed(msgspec.Struct, frozen=True, kw_only=True):
    """Who does what, who could take over, and who may not."""

    teams: Mapping[str, tuple[TeamMember, ...]]  #: subtask → its team, best first; a missing subtask is unstaffed
    spares: Mapping[str, tuple[Candidate, ...]]  #: subtask → candidates that were not chosen, best first
    refusals: tuple[Refusal, ...] = ()


def joined(one: Staffed, other: Staffed) -> Staffed:
    """Both; they staff different subtasks."""
    return Staffed(
        teams={**one.teams, **other.teams},
        spares={**one.spares, **other.spares},
        refusals=(*one.refusals, *other.refusals),
    )


async def staff(job: Job, router: Router, subtasks: Sequence[Subtask]) -> Done[Staffed]:
    """Route every subtask and assign the teams.

    A subtask that nobody may or can take is left out of `teams`, with its refusals; it is never forced, and the rest of the
    plan goes on without it.
    """
    found: list[tuple[Subtask, Sequence[Candidate]]] = []
    refusals: list[Refusal] = []
    slots: dict[str, int] = {}
    patience = Patience(job, router.registry)
    for subtask in subtasks:
        try:
            routing = await patience.route(subtask.id, partial(_route, job, router, subtask))
        except Unroutable as nobody:
            found.append((subtask, ()))
            refusals += _refused(subtask, nobody.refusals)
            continue
        found.append((subtask, routing.candidates))
        slots |= routing.slots
        refusals += _refused(subtask, routing.refusals)
        if routing.fallback:
            job.fell_back(f"{subtask.id}: {routing.fallback}")
    teams = _teams(job, found, slots)
    spares: dict[str, tuple[Candidate, ...]] = {
        subtask.id: tuple(c for c in candidates if c.agent not in {m.agent for m in teams.get(subtask.id, ())})
        for subtask, candidates in found
    }
    return Done(value=Staffed(teams=teams, spares=spares, refusals=tuple(refusals)))


async def _route(job: Job, router: Router, subtask: Subtask) -> Routing:
    return await router.route(
        text=subtask.text,
        skills=subtask.skills,
        policies=subtask.policies,
        needs=job.task.needs,
        spec=job.task.spec,
        kind=job.task.kind,
        request_kind="draft",
        k=job.parameters.candidates_max,
    )


def _refused(subtask: Subtask, refusals: Mapping[AgentId, str]) -> list[Refusal]:
    return [Refusal(subtask=subtask.id, agent=agent, reason=reason) for agent, reason in refusals.items()]


def _teams(
    job: Job, found: Sequence[tuple[Subtask, Sequence[Candidate]]], slots: Mapping[str, int]
) -> dict[str, tuple[TeamMember, ...]]:
    agents = sorted({candidate.agent for _, candidates in found for candidate in candidates})
    if not agents:
        return {}
    column = {agent: j for j, agent in enumerate(agents)}
    alpha = np.zeros((len(found), len(agents)), dtype=np.float32)
    for i, (_, candidates) in enumerate(found):
        for candidate in candidates:
            alpha[i, column[candidate.agent]] = candidate.score
    assignment = assign(
        alpha,
        team_max=[job.parameters.team_size] * len(found),
        capacity=[slots.get(agent, job.parameters.capacity) for agent in agents],
    )
    teams: dict[str, tuple[TeamMember, ...]] = {}
    for (subtask, candidates), team in zip(found, assignment.teams, strict=True):
        chosen = {agents[j] for j in team}
        if chosen:
            teams[subtask.id] = tuple(
                TeamMember(subtask=subtask.id, agent=c.agent, score=c.score, factors=c.factors)
                for c in sorted(candidates, key=lambda c: -c.score)
                if c.agent in chosen
            )
    return teams
