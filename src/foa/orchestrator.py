"""Agent-0 on one job: the paper's six phases in order, a save after each. Start reading here.

    route ─► decompose ─► assign ─► for every subtask, as soon as its predecessors are reported:
                                        draft ─► cluster ─► refine ─► report, or train ─► report
                                    ─► synthesise ─► settle

`steps.once` gives back the saved result of a step if there is one. After a kill only what was not saved is done again, and
an agent that is asked the same thing again answers from its own store: nothing is paid twice.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from foa.calls import Calls
from foa.enforce import Enforcer
from foa.errors import BudgetExceeded, FabricError, ModelUnreachable, StoreFailed, Unroutable
from foa.job import Done, Job, one_error
from foa.messages import Input
from foa.patience import Patience
from foa.phases.assign import Staffed, staff, trainers_for
from foa.phases.cluster import group_drafts
from foa.phases.decompose import Kept, gather_proposals, make_plan
from foa.phases.draft import gather_drafts, inputs_of
from foa.phases.refine import Refined, refine
from foa.phases.report import failed, report
from foa.phases.synthesise import synthesise
from foa.phases.train import TrainedNode, gather_training, report_training
from foa.ports import Embedder, Model, Outcomes, Transport
from foa.progress import Progress
from foa.recall import recall
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation
from foa.replan import plan_anew, restore
from foa.results import finished, plan_view
from foa.route import Router
from foa.settle import grades, learn, site_grades
from foa.values import events
from foa.values.draft import AgentDraft
from foa.values.ids import AgentId, SubtaskId, cluster_id
from foa.values.plan import Plan, Subtask
from foa.values.result import Report, Result, Routed
from foa.walk import walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestrator:
    """Runs jobs; holds nothing about any of them."""

    transport: Transport
    calls: Calls
    registry: Registry
    enforcer: Enforcer
    router: Router
    reputation: Reputation
    outcomes: Outcomes  #: where graded contributions are kept
    embedder: Embedder
    model: Model | None  #: Agent-0's own, for synthesis; None: reports are joined

    async def run(self, job: Job) -> Result:
        """Answer a job: a result, a partial result, or a reasoned failure.

        Raises:
            StoreFailed: the journal cannot save; the job goes on from its last saved step when it can.
        """
        reached = Progress()
        error, exit_code = "", 0
        try:
            async with asyncio.timeout(job.seconds_left):
                with one_error():
                    await self._phases(job, reached)
        except TimeoutError:
            error, exit_code = "the time budget is spent", BudgetExceeded.exit_code
            await self.stop_agents(job)
            recall(job, reached)
        except StoreFailed:
            raise
        except FabricError as failure:
            error, exit_code = str(failure), failure.exit_code
        return await self._settle(job, reached, error, exit_code)

    async def stop_agents(self, job: Job) -> None:
        """Tell everyone who may be working on a job that it is over."""
        await self.calls.stop(job)

    async def _phases(self, job: Job, reached: Progress) -> None:
        once = job.steps.once
        reached.routed = await once("route", Routed, lambda: self._route(job))
        proposers = reached.routed.candidates
        proposals = await once(
            "propose", tuple[Kept, ...], lambda: gather_proposals(job, self.calls, proposers, task=job.task)
        )
        plan = await once("plan", Plan, lambda: make_plan(job, self.embedder, proposals))
        staffed = await once("staff", Staffed, lambda: staff(job, self.router, plan.subtasks))
        reached.plan, reached.staffed = plan, staffed
        restore(job, reached)
        self._tell_plan(job, reached)
        await walk(lambda: reached.plan, lambda subtask, before: self._node(job, reached, subtask, before))

    def _tell_plan(self, job: Job, reached: Progress) -> None:
        teams = tuple(member for team in reached.staffed.teams.values() for member in team)
        job.events.tell(events.Planned(at=job.clock.now(), plan=plan_view(reached.plan), teams=teams))

    async def _route(self, job: Job) -> Done[Routed]:
        task = job.task
        ask = partial(
            self.router.route,
            text=task.text,
            skills=task.skills,
            policies=task.policies,
            needs=task.needs,
            spec=task.spec,
            kind=task.kind,
            request_kind="propose",
            k=job.parameters.candidates_max,
        )
        try:
            routing = await Patience(job, self.registry).route("task", ask)
        except Unroutable as nobody:
            if await trainers_for(job, self.router, task) is None:
                raise
            # nobody plans, but somebody trains: the task stays one subtask
            return Done(value=Routed(candidates=(), refusals={str(agent): why for agent, why in nobody.refusals.items()}))
        if routing.fallback:
            job.fell_back(f"task: {routing.fallback}")
        able = routing.candidates[: job.parameters.decomp_max_agents]
        refusals = {str(agent): reason for agent, reason in routing.refusals.items()}
        job.events.tell(events.CandidatesFound(at=job.clock.now(), candidates=able, refusals=refusals, fit=routing.fit))
        return Done(value=Routed(candidates=able, refusals=refusals, fallback=routing.fallback, fit=routing.fit))

    async def _node(self, job: Job, reached: Progress, subtask: Subtask, before: tuple[SubtaskId, ...]) -> None:
        """One node of the DAG, from its predecessors' reports to its own; a failed one may be planned anew."""
        try:
            with one_error():
                given = inputs_of(job, subtask, [reached.reports[other] for other in before])
                found = await self._solve(job, reached, subtask, given)
        except StoreFailed:
            raise
        except FabricError as failure:
            found = failed(subtask, str(failure), lost=job.lost_on(subtask.id))
        reached.reports[subtask.id] = found
        at = job.clock.now()
        job.events.tell(
            events.Reported(at=at, subtask=subtask.id, by=found.by, confidence=found.confidence, error=found.error)
        )
        job.events.tell(events.Spent(at=at, total=job.spent))
        # a training that failed is not split into others: that would train again
        if (
            found.error
            and not _is_training(reached, subtask)
            and await plan_anew(job, self.calls, self.router, reached, subtask, found.error)
        ):
            self._tell_plan(job, reached)

    async def _solve(self, job: Job, reached: Progress, subtask: Subtask, inputs: tuple[Input, ...]) -> Report:
        """One node: draft, cluster, refine, report; or train, report. What cannot be answered is a report with an error."""
        staffed = reached.staffed
        open_nodes = sum(1 for one in reached.plan.subtasks if one.id not in reached.reports)
        saved = job.steps.find(f"report/{subtask.id}", Report)
        if saved is not None and saved.error:
            return saved
        drafts = await self._drafts(job, reached, subtask, inputs, open_nodes)
        if not drafts:
            why = _unanswered(staffed, subtask)
            return await self._keep(job, failed(subtask, why, lost=job.lost_on(subtask.id)))
        if _is_training(reached, subtask):
            return await self._keep(job, report_training(subtask, drafts[0], lost=job.lost_on(subtask.id)))
        ended = await self._refined(job, reached, subtask, drafts, open_nodes)
        answers = [(refined.view, refined.draft, refined.confidence) for refined in ended]
        weights = self._weights(job, [kept.agent for kept in drafts])
        return await self._keep(job, report(subtask, answers, weights=weights, lost=job.lost_on(subtask.id)))

    async def _drafts(
        self,
        job: Job,
        reached: Progress,
        subtask: Subtask,
        inputs: tuple[Input, ...],
        open_nodes: int,
    ) -> tuple[AgentDraft, ...]:
        """Drafts of the first team that gives any: the assigned one, then the next best candidates (Sec. 4, reassign)."""
        team = [AgentId(member.agent) for member in reached.staffed.teams.get(subtask.id, ())]
        spares = [AgentId(candidate.agent) for candidate in reached.staffed.spares.get(subtask.id, ())]
        data = job.task.policies if inputs else ()
        training = _is_training(reached, subtask)
        gather, size, kind = (
            (gather_training, 1, "train") if training else (gather_drafts, job.parameters.team_size, "draft")
        )
        for attempt in range(1, job.parameters.reassignments_max + 2):
            if not team:
                return ()
            team = await self.enforcer.cleared(job, subtask, team, data=data, request=kind)
            if attempt > 1 and team:
                job.fell_back(f"{subtask.id} goes to another team ({', '.join(team)}): the one before was lost")
            budget = job.account.share(2 * open_nodes * len(team), seconds=job.parameters.draft_seconds)
            drafts = await gather(job, self.calls, subtask, team, inputs=inputs, attempt=attempt, budget=budget)
            if drafts:
                reached.drafts[subtask.id] = drafts
                return drafts
            team, spares = spares[:size], spares[size:]
        return ()

    async def _refined(
        self, job: Job, reached: Progress, subtask: Subtask, drafts: Sequence[AgentDraft], open_nodes: int
    ) -> list[Refined]:
        cards = {kept.agent: card for kept in drafts if (card := self.registry.get(kept.agent)) is not None}

        async def group_now() -> Done[tuple[tuple[str, ...], ...]]:
            try:
                return Done(value=await group_drafts(drafts, cards, self.embedder, job.parameters))
            except ModelUnreachable as error:  # the drafts are paid: each stands for itself
                job.fell_back(f"the drafts of {subtask.id} are not clustered, each stands alone: {error}")
                return Done(value=tuple((kept.agent,) for kept in sorted(drafts, key=lambda kept: kept.agent)))

        clusters = await job.steps.once(f"cluster/{subtask.id}", tuple[tuple[str, ...], ...], group_now)
        job.events.tell(events.Clustered(at=job.clock.now(), subtask=subtask.id, clusters=clusters))
        by_agent = {kept.agent: kept for kept in drafts}
        weights = self._weights(job, by_agent)

        async def run_cluster(number: int, members: tuple[str, ...]) -> Refined:
            cluster = cluster_id(job.id, subtask.id, number)
            theirs = {AgentId(m): by_agent[AgentId(m)] for m in members}
            refined = await job.steps.once(
                f"refine/{cluster}",
                Refined,
                lambda: refine(
                    job,
                    self.calls,
                    self.transport,
                    cluster=cluster,
                    subtask=subtask,
                    drafts=theirs,
                    weights=weights,
                    parts=open_nodes * len(drafts),
                ),
            )
            reached.clusters.append(refined.view)
            job.events.tell(events.ClusterDone(at=job.clock.now(), cluster=refined.view))
            return refined

        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(run_cluster(number, members), name=f"cluster[{subtask.id},{number}]")
                for number, members in enumerate(clusters, start=1)
            ]
        return [task.result() for task in running]

    async def _keep(self, job: Job, found: Report) -> Report:
        async def as_is() -> Done[Report]:
            return Done(value=found)

        return await job.steps.once(f"report/{found.subtask}", Report, as_is)

    async def _settle(self, job: Job, reached: Progress, error: str, exit_code: int) -> Result:
        """Synthesise what is there, then let reputation learn; both are saved, so neither happens twice."""
        plan, reports = reached.plan, reached.reports
        answer = ""
        if plan.subtasks:
            answer = await job.steps.once(
                "synthesise", str, lambda: synthesise(job, plan, reports, self.model if not error else None)
            )

        async def grade() -> Done[tuple[Outcome, ...]]:
            nodes = job.steps.under("train/", TrainedNode)
            workers = {kept.agent for kept in chain.from_iterable(reached.drafts.values())} | {
                AgentId(node.agent) for node in nodes
            }
            sites = {AgentId(site) for node in nodes for site in node.credits}
            owners = {agent: card.public_key for agent in workers | sites if (card := self.registry.get(agent)) is not None}
            graded = grades(job, reports, reached.drafts, owners) + site_grades(job, nodes, owners)
            await learn(graded, self.reputation, self.registry, self.outcomes)
            return Done(value=graded)

        await job.steps.once("settle", tuple[Outcome, ...], grade)
        return finished(
            job,
            routed=reached.routed,
            plan=plan,
            staffed=reached.staffed,
            reports=reports,
            clusters=reached.clusters,
            answer=answer,
            error=error,
            exit_code=exit_code,
        )

    def _weights(self, job: Job, agents: Iterable[AgentId]) -> dict[AgentId, float]:
        return {agent: self.reputation.mean(agent, job.task.kind) for agent in agents}


def _is_training(reached: Progress, subtask: Subtask) -> bool:
    return subtask.id in reached.staffed.trainings


def _unanswered(staffed: Staffed, subtask: Subtask) -> str:
    """Why a subtask has no drafts."""
    if staffed.teams.get(subtask.id):
        return "every agent that was asked was lost"
    why = staffed.misfits.get(subtask.id)
    return f"no agent fits it: {why}" if why else "no agent fits it"
