"""Phase 1: several agents propose how to split the task; the proposals merge into one DAG (Alg. 1)."""

import asyncio
from collections.abc import Sequence

import msgspec

from foa.calls import Calls
from foa.errors import AgentLost, AgentRefused, BudgetExceeded
from foa.job import Done, Job
from foa.messages import Propose, Proposed
from foa.plan.merge import AgentProposal, merge, single
from foa.plan.validate import validate
from foa.ports import Embedder
from foa.values import events
from foa.values.budget import Spend
from foa.values.ids import AgentId
from foa.values.plan import Plan, Proposal
from foa.values.result import Candidate
from foa.values.task import Task


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal as the journal keeps it."""

    agent: str
    weight: float  #: reputation of its proposer
    proposal: Proposal


async def gather_proposals(
    job: Job, calls: Calls, proposers: Sequence[Candidate], *, task: Task, key: str = "propose"
) -> Done[tuple[Kept, ...]]:
    """Ask the able agents for a plan each, all at once; what is not there in time is not waited for.

    A lost, refusing or unaffordable proposer costs its voice and is said out loud.

    Args:
        job: the running job.
        calls: the way to the agents.
        proposers: who is asked.
        task: what is to be split: the job's own, or a subtask that nobody could answer.
        key: of this question within the job.
    """
    parameters = job.parameters
    kept: dict[str, Kept] = {}
    spends: dict[str, Spend] = {}
    seconds = min(parameters.proposals_seconds, job.seconds_left)
    request = Propose(
        job=job.id,
        task=task,
        subtasks_min=parameters.decomp_subtasks_min,
        subtasks_max=parameters.decomp_subtasks_max,
        # planning may take a quarter of the free budget: what is planned must still be paid
        budget=job.account.share(4 * len(proposers), seconds=seconds),
    )

    async def ask(candidate: Candidate) -> None:
        agent = AgentId(candidate.agent)
        try:
            asking = calls.ask(job, agent, request, expects=Proposed, key=f"{job.id}/{key}", seconds=seconds)
            async with asking as answered:
                spends[agent] = answered.spend
                kept[agent] = Kept(agent=agent, weight=candidate.factors.reputation, proposal=answered.body.proposal)
                _tell(job, agent, answered.body)
        except AgentLost as loss:
            job.lose(agent, loss.reason, asked=loss.asked)
        except AgentRefused as refusal:
            spends[agent] = refusal.spend
            job.lose(agent, refusal.reason)
        except BudgetExceeded as short:
            job.lose(agent, f"not asked for a plan: {short}", asked=False)

    async with asyncio.TaskGroup() as group:
        for candidate in proposers:
            group.create_task(ask(candidate), name=f"propose[{candidate.agent}]")
    return Done(value=tuple(kept[c.agent] for c in proposers if c.agent in kept), spends=spends)


def _tell(job: Job, agent: AgentId, body: Proposed) -> None:
    at = job.clock.now()
    job.events.tell(events.Proposed(at=at, agent=agent, subtasks=len(body.proposal.subtasks), fallback=body.fallback))
    if body.fallback:
        job.fell_back(f"{agent} proposed by rule: {body.fallback}")


async def make_plan(job: Job, embedder: Embedder, proposals: Sequence[Kept]) -> Done[Plan]:
    """Merge the proposals into one valid DAG; without any, the task stays one node and that is said out loud."""
    usable = [kept for kept in proposals if kept.proposal.subtasks]
    if not usable:
        job.fell_back("no agent proposed a plan: the task stays one subtask")
        return Done(value=single(job.task))
    if sum(kept.weight for kept in usable if len(kept.proposal.subtasks) == 1) * 2 > sum(k.weight for k in usable):
        return Done(value=single(job.task, proposers=tuple(AgentId(k.agent) for k in usable)))
    texts = [subtask.text for kept in usable for subtask in kept.proposal.subtasks]
    vectors = await embedder.embed(texts)
    asked: list[AgentProposal] = []
    start = 0
    for kept in usable:
        end = start + len(kept.proposal.subtasks)
        asked.append(
            AgentProposal(agent=AgentId(kept.agent), proposal=kept.proposal, weight=kept.weight, vectors=vectors[start:end])
        )
        start = end
    plan = merge(asked, similarity=job.parameters.decomp_merge_sim, nodes_max=job.parameters.nodes_max, task=job.task)
    validate(plan)
    return Done(value=plan)
