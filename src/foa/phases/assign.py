"""Phase 1, second half: every subtask is routed, then eq. 3 staffs the teams: exact, under capacity, never forced.

A subtask is a training where an agent that trains fits it better than any that drafts; then it has a team of one.
"""

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
from foa.values.task import Task


class Staffed(msgspec.Struct, frozen=True, kw_only=True):
    """Who does what, who could take over, and who may not."""

    teams: Mapping[str, tuple[TeamMember, ...]]  #: subtask → its team, best first; a missing subtask is unstaffed
    spares: Mapping[str, tuple[Candidate, ...]]  #: subtask → candidates that were not chosen, best first
    refusals: tuple[Refusal, ...] = ()
    trainings: tuple[str, ...] = ()  #: subtasks whose team is one agent that trains
    misfits: Mapping[str, str] = {}  #: subtask that nobody can do → why, and what to do


def joined(one: Staffed, other: Staffed) -> Staffed:
    """Both; they staff different subtasks."""
    return Staffed(
        teams={**one.teams, **other.teams},
        spares={**one.spares, **other.spares},
        refusals=(*one.refusals, *other.refusals),
        trainings=(*one.trainings, *other.trainings),
        misfits={**one.misfits, **other.misfits},
    )


async def staff(job: Job, router: Router, subtasks: Sequence[Subtask]) -> Done[Staffed]:
    """Route every subtask and assign the teams.

    A subtask that nobody may or can take is left out of `teams`, with its refusals; it is never forced, and the rest of the
    plan goes on without it.
    """
    found: list[tuple[Subtask, Sequence[Candidate]]] = []
    trainings: dict[str, Sequence[Candidate]] = {}
    refusals: list[Refusal] = []
    misfits: dict[str, str] = {}
    slots: dict[str, int] = {}
    patience = Patience(job, router.registry)
    for subtask in subtasks:
        trainers = await trainers_for(job, router, subtask)
        find = partial(_route, job, router, subtask)
        try:  # where somebody trains, nobody who is away needs to be waited for
            routing = await (patience.route(subtask.id, find) if trainers is None else find())
        except Unroutable as nobody:
            refusals += _refused(subtask, nobody.refusals)
            if trainers is None:
                found.append((subtask, ()))
                misfits |= {subtask.id: nobody.why} if nobody.why else {}
            else:
                trainings[subtask.id] = trainers.candidates
            continue
        if trainers is not None and _meaning(trainers) > _meaning(routing):
            trainings[subtask.id] = trainers.candidates
            continue
        found.append((subtask, routing.candidates))
        slots |= routing.slots
        refusals += _refused(subtask, routing.refusals)
        if routing.fallback:
            job.fell_back(f"{subtask.id}: {routing.fallback}")
    teams = _teams(job, found, slots) | {name: (_member(name, best[0]),) for name, best in trainings.items()}
    found += [(subtask, trainings[subtask.id]) for subtask in subtasks if subtask.id in trainings]
    spares: dict[str, tuple[Candidate, ...]] = {
        subtask.id: tuple(c for c in candidates if c.agent not in {m.agent for m in teams.get(subtask.id, ())})
        for subtask, candidates in found
    }
    return Done(
        value=Staffed(teams=teams, spares=spares, refusals=tuple(refusals), trainings=tuple(trainings), misfits=misfits)
    )


async def trainers_for(job: Job, router: Router, asked: Subtask | Task) -> Routing | None:
    """Agents that train and fit what is asked, within its policies as everywhere; None: there are none, or none fits."""
    if not router.registry.roster.answers("train"):
        return None
    try:
        routing = await _route(job, router, asked, request_kind="train")
    except Unroutable:
        return None
    return None if routing.fallback else routing


def _meaning(routing: Routing) -> float:
    """How well the best candidate fits what is asked: what it is does not depend on who is busy, dear or trusted."""
    factors = [candidate.factors for candidate in routing.candidates]
    return max((one.similarity * one.spec for one in factors), default=0.0)


async def _route(job: Job, router: Router, asked: Subtask | Task, *, request_kind: str = "draft") -> Routing:
    return await router.route(
        text=asked.text,
        skills=asked.skills,
        policies=asked.policies,
        needs=job.task.needs,
        spec=job.task.spec,
        kind=job.task.kind,
        request_kind=request_kind,
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
                _member(subtask.id, c) for c in sorted(candidates, key=lambda c: -c.score) if c.agent in chosen
            )
    return teams


def _member(subtask: str, chosen: Candidate) -> TeamMember:
    return TeamMember(subtask=subtask, agent=chosen.agent, score=chosen.score, factors=chosen.factors)
