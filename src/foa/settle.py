"""After the phases: grade what each agent contributed, so that reputation can learn from it (bounded, replayable)."""

import logging
from collections.abc import Mapping, Sequence
from heapq import nlargest

from foa.errors import BadMessage, ModelUnreachable
from foa.job import Job
from foa.phases.train import TrainedNode
from foa.plan.consensus import similarity, words
from foa.ports import Outcomes
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation, decode_outcome, encode_outcome
from foa.values.draft import AgentDraft
from foa.values.ids import AgentId, SubtaskId
from foa.values.result import Report

log = logging.getLogger(__name__)

FEDERATED = "federated-learning"  #: kind of work that sites are graded for
LEAST_CREDIT = 1e-9  #: below it nothing was measured
MAX_SITES = 10_000  #: of one training that are graded


def grades(
    job: Job,
    reports: Mapping[SubtaskId, Report],
    drafts: Mapping[SubtaskId, Sequence[AgentDraft]],
    owners: Mapping[AgentId, str],
) -> tuple[Outcome, ...]:
    """Grade every agent that was asked for a draft.

    The one whose answer stands gets the confidence of the report, lifted halfway to 1; another gets that times how much its
    own draft is like the answer; a draft made by a rule in place of a failed model counts half; a lost agent gets 0. Who was
    lost and never asked is not graded: else thin budgets would ruin names.

    Args:
        job: for its id, its kind of work and the time.
        reports: how each subtask ended.
        drafts: what each agent first said, by subtask.
        owners: public key of each agent, as far as known.

    Returns:
        One outcome for each agent and subtask, in that order.
    """

    def outcome(agent: AgentId, report: Report, grade: float) -> Outcome:
        return Outcome(
            agent=agent,
            kind=job.task.kind,
            job=job.id,
            subtask=report.subtask,
            grade=grade,
            weight=1.0 / max(1, len(report.agents)) if agent not in report.lost else 1.0,
            owner_key=owners.get(agent, ""),
            at=job.clock.now(),
            text=report.text,
        )

    graded: list[Outcome] = []
    for subtask, report in sorted(reports.items()):
        asked = [agent for agent in sorted(report.lost) if (subtask, AgentId(agent)) not in job.unasked]
        graded += [outcome(AgentId(agent), report, 0.0) for agent in asked]
        worth = (1.0 + report.confidence) / 2 if report.answer else 0.0
        for kept in sorted(drafts.get(subtask, ()), key=lambda kept: kept.agent):
            if kept.agent in report.lost:
                continue
            near = 1.0 if kept.agent == report.by else similarity(words(kept.draft.answer), words(report.answer))
            graded.append(outcome(kept.agent, report, worth * near * (0.5 if kept.draft.fallback else 1.0)))
    return tuple(graded)


def site_grades(job: Job, nodes: Sequence[TrainedNode], owners: Mapping[AgentId, str]) -> tuple[Outcome, ...]:
    """Grade the sites of the job's trainings by what each brought, summed over its rounds: ½ is nothing, under it is harm.

    The sums are scaled so that the largest, whichever its sign, is 0 or 1; where no credit was measured nobody is graded.
    The grade is the server agent's word, so it counts as much as the word of any grader that is not this orchestrator. Of a
    training that names over `MAX_SITES` those that brought, or harmed, most are graded: no message may fill the store.

    Args:
        job: for its id and the time.
        nodes: what its trainings told.
        owners: public key of each agent, as far as known.

    Returns:
        One outcome for each site and training, of the kind "federated-learning".
    """
    total: dict[tuple[str, str], dict[str, float]] = {}
    for node in nodes:
        of = total.setdefault((node.subtask, node.agent), {})
        for site, credit in node.credits.items():
            of[site] = of.get(site, 0.0) + credit
    graded: list[Outcome] = []
    for (subtask, leader), brought in sorted(total.items()):
        scale = max(map(abs, brought.values()), default=0.0)
        graded += [
            Outcome(
                agent=site,
                kind=FEDERATED,
                job=job.id,
                subtask=subtask,
                grade=0.5 + 0.5 * credit / scale,
                by=leader,
                by_key=owners.get(AgentId(leader), ""),
                owner_key=owners.get(AgentId(site), ""),
                at=job.clock.now(),
            )
            for site, credit in sorted(nlargest(MAX_SITES, brought.items(), key=lambda pair: abs(pair[1])))
            if scale > LEAST_CREDIT
        ]
    return tuple(graded)


async def learn(graded: Sequence[Outcome], reputation: Reputation, registry: Registry, outcomes: Outcomes) -> None:
    """Let reputation and the registry take the outcomes; what counts is kept. Taking them twice counts once.

    Raises:
        StoreFailed: they cannot be kept.
    """
    counted = [given for given in graded if not reputation.record(given)]
    if counted:
        await outcomes.append(*map(encode_outcome, counted))
    await _teach(registry, counted)


async def remember(reputation: Reputation, registry: Registry, outcomes: Outcomes) -> None:
    """Take everything that was kept, at the start; a damaged record is passed over.

    Where the embedder does not answer, reputation is there and the registry goes without what was learned.

    Raises:
        StoreFailed: the outcomes cannot be read.
    """
    counted: list[Outcome] = []
    for record in await outcomes.replay():
        try:
            outcome = decode_outcome(record)
        except BadMessage as error:
            log.warning("a stored outcome is passed over: %s", error)
            continue
        if not reputation.record(outcome):
            counted.append(outcome)
    await _teach(registry, counted)


async def _teach(registry: Registry, counted: Sequence[Outcome]) -> None:
    try:
        await registry.learn(counted)
    except ModelUnreachable as error:  # neither an answer that was paid nor the start must fail for it
        log.warning("the registry learns from %d outcomes at the next start only: %s", len(counted), error)
