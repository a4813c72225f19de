"""Phase 2: a ready subtask goes to its whole team at once; each member answers from its own resources (Alg. 2)."""

import asyncio
from collections.abc import Sequence

import msgspec

from foa.calls import Calls, about, or_lost
from foa.job import Done, Job
from foa.messages import Drafted, DraftRequest, Input, encode
from foa.values import events
from foa.values.budget import Budget
from foa.values.draft import AgentDraft
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.result import Report

MAX_INPUTS = 64  #: of one request: the wire's limit
MAX_INPUT_BYTES = 400_000  #: of all of them, so that a request stays under the wire's limit
MAX_FRAME_BYTES = 1_500  #: of one without its answer, its text cut to 200 characters; any character takes 6 bytes at most


def inputs_of(job: Job, subtask: Subtask, reports: Sequence[Report]) -> tuple[Input, ...]:
    """What the drafters of a subtask see of the reports before it, in at most `MAX_INPUT_BYTES`: claims go before answers.

    One that wrote too much must not keep the others of the plan from being asked; that something was cut is said.
    """
    given = [report for report in reports if report.answer][:MAX_INPUTS]
    inputs = tuple(Input(subtask=r.subtask, text=r.text, answer=r.answer, claims=r.claims) for r in given)
    if len(encode(inputs)) <= MAX_INPUT_BYTES:
        return inputs
    job.fell_back(f"{subtask.id} sees the reports before it without their claims: they are over {MAX_INPUT_BYTES:,} bytes")
    inputs = tuple(msgspec.structs.replace(one, claims=()) for one in inputs)
    if len(encode(inputs)) > MAX_INPUT_BYTES:
        room = MAX_INPUT_BYTES // len(inputs) - MAX_FRAME_BYTES
        inputs = tuple(msgspec.structs.replace(one, text=one.text[:200], answer=one.answer[: room // 6]) for one in inputs)
    return inputs


async def gather_drafts(
    job: Job,
    calls: Calls,
    subtask: Subtask,
    team: Sequence[AgentId],
    *,
    inputs: Sequence[Input],
    attempt: int,
    budget: Budget,
) -> tuple[AgentDraft, ...]:
    """Ask the team, all at once, each draft saved as it comes; late drafts are not waited for.

    Args:
        job: the running job.
        calls: the way to the agents.
        subtask: what is to be answered.
        team: who answers, best first.
        inputs: the reports of its predecessors.
        attempt: 1 for the first team, counted up for the teams that take over.
        budget: what each member may spend.

    Returns:
        The drafts that came, in the team's order. A lost member is in the job's `lost`, with why.
    """
    drafts: dict[AgentId, AgentDraft] = {}
    seconds = min(job.parameters.draft_seconds, job.seconds_left)
    request = about(DraftRequest, job, subtask, inputs=inputs, attempt=attempt, budget=budget)

    async def ask(agent: AgentId) -> AgentDraft:
        step = f"draft/{subtask.id}/{attempt}/{agent}"
        if (saved := job.steps.find(step, AgentDraft)) is not None:
            return saved
        key = f"{job.id}/{subtask.id}/draft/{attempt}"
        async with calls.ask(job, agent, request, expects=Drafted, key=key, seconds=seconds) as answered:
            kept = AgentDraft(agent=agent, draft=answered.body.draft, spend=answered.spend)
            await job.steps.keep(step, Done(value=kept, spends={agent: answered.spend}))
            _tell(job, subtask, kept)
        return kept

    async def ask_or_lose(agent: AgentId) -> None:
        found = await or_lost(job, agent, lambda: ask(agent), subtask=subtask.id, attempt=attempt, what="a draft")
        if found is not None:
            drafts[agent] = found

    job.events.tell(events.DraftStarted(at=job.clock.now(), subtask=subtask.id, agents=tuple(team)))
    async with asyncio.TaskGroup() as group:
        for agent in team:
            group.create_task(ask_or_lose(agent), name=f"draft[{subtask.id},{agent}]")
    return tuple(drafts[agent] for agent in team if agent in drafts)


def _tell(job: Job, subtask: Subtask, kept: AgentDraft) -> None:
    draft = kept.draft
    job.events.tell(
        events.Drafted(
            at=job.clock.now(),
            subtask=subtask.id,
            agent=kept.agent,
            confidence=draft.confidence,
            spend=kept.spend,
            fallback=draft.fallback,
        )
    )
    if draft.fallback:
        job.fell_back(f"{kept.agent} drafted {subtask.id} by rule: {draft.fallback}")
