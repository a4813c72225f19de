"""One job through all six phases, and through what may go wrong on the way."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from foa.agents.brain import Answer
from foa.app.federation import Federation
from foa.errors import ModelUnreachable
from foa.messages import Refused, decode
from foa.models.scripted import ScriptedModel
from foa.models.vectors import CachedEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.policy.gate import Enforcement
from foa.registry.reputation import decode_outcome
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.draft import Draft
from foa.values.plan import Proposal, ProposedSubtask
from foa.values.publication import Filter
from foa.values.task import Submission, Task
from tests.integration.federations import BUDGET, CHAIN, TASK, Script, answer, federation, scripted, settings_for


async def test_a_job_ends_with_a_plan_teams_clusters_and_a_bill(tmp_path: Path):
    brains = [Script() for _ in range(3)]
    async with federation(tmp_path, [scripted(f"a{i}", brain) for i, brain in enumerate(brains)]) as started:
        result = await answer(started)
    assert result.status == "done"
    assert [node.id for node in result.plan.nodes] == ["s1", "s2"]
    assert [(edge.before, edge.after) for edge in result.plan.edges] == [("s1", "s2")]
    assert set(result.plan.nodes[0].proposers) == {"a0", "a1", "a2"}
    assert {member.agent for member in result.assignments} == {"a0", "a1", "a2"}
    assert all(member.factors.policy == 1.0 for member in result.assignments)
    assert sum(len(cluster.members) for cluster in result.clusters) == 6
    assert "[s1]" in result.answer
    assert "[s2]" in result.answer
    # 3 proposals and 2 × 3 drafts at one call each; rounds cost what their members said
    assert result.bill.calls >= 9
    assert result.bill.calls == sum(spend.calls for spend in result.bill.by_agent.values())
    assert result.exit_code == 0


async def test_a_node_is_drafted_only_when_its_predecessor_is_reported(tmp_path: Path):
    seen: list[tuple[str, int]] = []
    brain = Script(before_draft=lambda request: seen.append((request.subtask, len(request.inputs))))
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        await answer(started)
    assert seen == [("s1", 0), ("s2", 1)]


async def test_events_tell_the_phases_in_order(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script()), scripted("b", Script())]) as started:
        job = await started.submit(Submission(task=Task(text=TASK), budget=BUDGET))
        told = [type(event) async for event in job.events()]
    order = [events.Admitted, events.CandidatesFound, events.Planned, events.DraftStarted, events.Drafted]
    order += [events.Clustered, events.ClusterDone, events.Reported, events.Ended]
    firsts = [told.index(kind) for kind in order]
    assert firsts == sorted(firsts)


async def test_an_agent_that_is_silent_is_lost_and_the_job_still_ends(tmp_path: Path):
    never = Script(hold=asyncio.Event())
    agents = [scripted("quick", Script()), scripted("silent", never)]
    async with federation(tmp_path, agents, FOA_DRAFT_SECONDS=0.3) as started:
        result = await answer(started)
    assert result.status == "done"
    assert "silent" in result.lost
    assert "0.3 s" in result.reports[0].lost["silent"]


async def test_a_subtask_whose_whole_team_is_lost_goes_to_another_team(tmp_path: Path):
    never = Script(hold=asyncio.Event())
    agents = [scripted("silent", never), scripted("spare", Script())]
    async with federation(tmp_path, agents, FOA_DRAFT_SECONDS=0.3, FOE_TEAM_SIZE=1) as started:
        result = await answer(started)
    assert result.status == "done"
    assert {report.by for report in result.reports} == {"spare"}
    if "silent" in {member.agent for member in result.assignments}:
        assert any("goes to another team" in said for said in result.fallbacks)


async def test_an_agent_that_bills_more_than_it_was_given_is_paid_what_it_was_given_and_named(tmp_path: Path):
    liar = Script(spend=Spend(usd=1e6, calls=10**6, tokens_out=10**9))
    async with federation(tmp_path, [scripted("liar", liar)]) as started:
        result = await answer(started)
    assert any("liar billed more than it was given" in said for said in result.fallbacks)
    assert result.bill.usd <= BUDGET.usd
    assert result.bill.calls <= BUDGET.calls
    assert result.bill.tokens <= BUDGET.tokens


async def test_policy_is_a_gate_that_no_fallback_relaxes(tmp_path: Path):
    agents = [scripted("cleared", Script(), policies=["hipaa"]), scripted("open", Script())]
    async with federation(tmp_path, agents) as started:
        result = await answer(started, Task(text=TASK, policies=("hipaa",)))
        refused = await answer(started, Task(text=TASK, policies=("gdpr",)))
    assert {member.agent for member in result.assignments} == {"cleared"}
    assert any(r.agent == "open" and "hipaa" in r.reason for r in result.refusals)
    assert refused.status == "failed"
    assert refused.exit_code == 3
    assert "gdpr" in refused.error


async def test_a_budget_that_pays_for_nothing_is_refused_at_intake(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script())]) as started:
        result = await answer(started, budget=Budget(usd=0.0, tokens=0, calls=0, seconds=5.0))
    assert (result.status, result.exit_code) == ("failed", 5)


async def test_money_runs_out_and_what_is_there_is_the_answer(tmp_path: Path):
    brain = Script(spend=Spend(calls=1, tokens_out=10))
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        # 1 call for the plan, 1 for the first draft, none for the second
        result = await answer(started, budget=Budget(usd=0.0, tokens=10_000, calls=2, seconds=20.0))
    assert result.status == "partial"
    assert "[s1]" in result.answer
    assert "s2" in result.error
    assert result.bill.calls == 2


async def test_an_agent_that_nobody_could_pay_keeps_its_name(tmp_path: Path):
    async with federation(tmp_path, [scripted(name, Script()) for name in "abc"]) as started:
        # 3 calls for plans, 1 for a draft: two members of the team are not asked
        result = await answer(started, budget=Budget(usd=0.0, tokens=10_000, calls=4, seconds=20.0))
        unasked = {agent for agent, reason in result.lost.items() if reason.startswith("not asked for a draft")}
        graded = [decode_outcome(raw) for raw in await started.stores.outcomes.replay()]
    assert len(unasked) >= 2
    assert not unasked & {outcome.agent for outcome in graded if outcome.grade == 0.0}


async def test_what_a_refusal_cost_is_in_the_bill(tmp_path: Path):
    class Failing(Script):
        async def draft(self, request):
            return Answer(body=Refused(kind="model", reason="unusable"), spend=Spend(calls=1, tokens_out=7))

    async with federation(tmp_path, [scripted("a", Failing())], FOA_REVISIONS_MAX=0) as started:
        result = await answer(started)
    # one proposal at 15 tokens in and out, two drafts that failed at 7
    assert (result.bill.calls, result.bill.tokens) == (3, 29)


async def test_agents_are_told_when_a_job_runs_out_of_time(tmp_path: Path):
    forgotten = asyncio.Event()

    class Waiting(Script):
        async def forget(self, job):
            forgotten.set()

    async with federation(tmp_path, [scripted("a", Waiting(hold=asyncio.Event()))]) as started:
        await answer(started, budget=Budget(usd=0.0, tokens=10_000, calls=100, seconds=0.5))
        await forgotten.wait()


async def test_a_deadline_ends_the_job_with_what_is_there(tmp_path: Path):
    brain = Script()
    brain.before_draft = lambda request: setattr(brain, "hold", asyncio.Event()) if request.subtask == "s2" else None
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        result = await answer(started, budget=Budget(usd=0.0, tokens=10_000, calls=100, seconds=1.0))
    assert result.status == "partial"
    assert "[s1]" in result.answer
    assert "time budget" in result.error


async def test_a_cancelled_job_ends_as_cancelled(tmp_path: Path):
    brain = Script(hold=asyncio.Event())
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        job = await started.submit(Submission(task=Task(text=TASK), budget=BUDGET))
        await brain.drafting.wait()
        await started.client.cancel(job.id, reason="no longer needed")
        result = await job.result()
        rows = await started.stores.journal.jobs(job=job.id)
    assert (result.status, result.exit_code) == ("cancelled", 10)
    assert "no longer needed" in result.error
    assert rows[0].status == "cancelled"


async def test_a_task_that_all_leave_whole_stays_one_node(tmp_path: Path):
    whole = Proposal(subtasks=(ProposedSubtask(text=TASK),))
    async with federation(tmp_path, [scripted("a", Script(plan=whole)), scripted("b", Script(plan=whole))]) as started:
        result = await answer(started)
    assert len(result.plan.nodes) == 1
    assert result.answer.endswith("[s1]")


async def test_the_same_submission_again_is_the_same_job(tmp_path: Path):
    brain = Script()
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        submission = Submission(task=Task(text=TASK), budget=BUDGET)
        first = await started.client.submit(submission)
        result = await first.result()
        again = await (await started.client.submit(submission, job=first.id)).result()
    assert again == result
    assert brain.proposals == 1


async def test_the_safety_gate_stops_a_task_before_any_agent_sees_it(tmp_path: Path):
    brain = Script()
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        result = await answer(started, "please tell me how to build a pipe bomb")
    assert (result.status, result.exit_code) == ("failed", 4)
    assert brain.proposals == 0


async def test_an_agent_that_answers_nonsense_costs_its_voice_only(tmp_path: Path):
    odd = Script(
        plan=Proposal(subtasks=tuple(ProposedSubtask(text="x") for _ in range(16)), edges=((0, 0), (7, 99), (1, 2), (2, 1)))
    )
    async with federation(tmp_path, [scripted("odd", odd), scripted("a", Script()), scripted("b", Script())]) as started:
        result = await answer(started)
    assert result.status == "done"
    assert len(result.plan.nodes) <= 8
    assert isinstance(Draft(answer=result.answer), Draft)


async def test_a_subtask_that_nobody_can_answer_is_split_anew(tmp_path: Path):
    anew = Proposal(
        subtasks=(ProposedSubtask(text="Read the formula as it is now"), ProposedSubtask(text="Read the formula as it was")),
        edges=((0, 1),),
    )

    class Stubborn(Script):
        async def propose(self, request):
            self.plan = CHAIN if request.task.text == TASK else anew
            return await super().propose(request)

        async def draft(self, request):
            if request.subtask == "s2":
                return Answer(body=Refused(kind="spec", reason="too wide"))
            return await super().draft(request)

    async with federation(tmp_path, [scripted("a", Stubborn()), scripted("b", Stubborn())]) as started:
        result = await answer(started)
    assert result.status == "done"
    assert [node.id for node in result.plan.nodes] == ["s1", "s3", "s4"]
    assert [(edge.before, edge.after) for edge in result.plan.edges] == [("s1", "s3"), ("s3", "s4")]
    assert any("s2 had no answer" in said and "split it anew" in said for said in result.fallbacks)
    assert any("revised the plan" in note for note in result.plan.notes)


async def test_a_plan_is_split_anew_only_so_often(tmp_path: Path):
    class Refusing(Script):
        async def draft(self, request):
            return Answer(body=Refused(kind="spec", reason="never"))

    async with federation(tmp_path, [scripted("a", Refusing())], FOA_REVISIONS_MAX=2) as started:
        result = await answer(started)
    assert result.status == "failed"
    assert sum("split it anew" in said for said in result.fallbacks) == 2
    assert result.lost == {"a": "spec: never"}


SPLIT = Proposal(subtasks=(ProposedSubtask(text="Read it as it is now"), ProposedSubtask(text="Read it as it was")))
APART = Proposal(subtasks=CHAIN.subtasks)  # without the edge: both fail by themselves


class Splitting(Script):
    """Refuses the subtasks of the first plan, and splits each as its table says."""

    splits: Mapping[str, Proposal] = {}

    async def propose(self, request):
        self.plan = self.splits.get(request.task.text, APART)
        return await super().propose(request)

    async def draft(self, request):
        if request.subtask in ("s1", "s2"):
            return Answer(body=Refused(kind="spec", reason="too wide"))
        return await super().draft(request)


async def test_a_split_that_comes_to_nothing_leaves_the_revision_to_the_next_subtask(tmp_path: Path):
    brain = Splitting()
    first, second = (subtask.text for subtask in CHAIN.subtasks)
    brain.splits = {first: Proposal(subtasks=CHAIN.subtasks[:1]), second: SPLIT}
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        result = await answer(started)
    # one revision is allowed, and only the second subtask can be split
    assert [node.id for node in result.plan.nodes] == ["s1", "s3", "s4"]
    # plan, both splits, two drafts: the split that came to nothing is in the bill too
    assert result.bill.calls == 5


async def test_a_split_into_too_many_is_not_said_to_have_been_made(tmp_path: Path):
    brain = Splitting()
    many = Proposal(subtasks=tuple(ProposedSubtask(text=f"Read part {number}") for number in range(16)))
    brain.splits = {subtask.text: many for subtask in CHAIN.subtasks}
    async with federation(tmp_path, [scripted("a", brain)]) as started:
        result = await answer(started)
    assert [node.id for node in result.plan.nodes] == ["s1", "s2"]
    assert not any("split it anew" in said for said in result.fallbacks)


async def test_an_embedder_that_fails_while_a_subtask_is_split_anew_costs_that_subtask_only(tmp_path: Path):
    class Failing(CachedEmbedder):
        async def embed(self, texts):
            if any("as it was" in text for text in texts):
                raise ModelUnreachable("the embedder does not answer")
            return await super().embed(texts)

    class SecondTooWide(Splitting):
        async def draft(self, request):
            return await (Splitting if request.subtask == "s2" else Script).draft(self, request)

    brain = SecondTooWide()
    brain.splits = {CHAIN.subtasks[1].text: SPLIT}
    embedder = Failing(WordLlamaEmbedder())
    async with (
        asyncio.timeout(60),
        Federation.start(settings_for(tmp_path), agents=[scripted("a", brain)], embedder=embedder) as started,
    ):
        result = await answer(started)
    assert result.status == "partial"
    assert "[s1]" in result.answer
    assert any("s2 is not split anew: the embedder does not answer" in said for said in result.fallbacks)


async def test_an_embedder_that_fails_at_the_very_end_does_not_cost_the_answer(tmp_path: Path):
    class Breaking(CachedEmbedder):
        broken = False

        async def embed(self, texts):
            if self.broken:
                raise ModelUnreachable("the embedder does not answer")
            return await super().embed(texts)

    embedder = Breaking(WordLlamaEmbedder())
    # one agent: nothing is clustered, so after its last draft only learning embeds
    brain = Script(before_draft=lambda request: setattr(embedder, "broken", request.subtask == "s2"))
    async with (
        asyncio.timeout(60),
        Federation.start(settings_for(tmp_path), agents=[scripted("a", brain)], embedder=embedder) as started,
    ):
        result = await answer(started)
        outcomes = await started.stores.outcomes.replay()
    assert result.status == "done"
    assert len(outcomes) == 2  # the next start learns from them


async def test_an_embedder_that_fails_while_drafts_are_clustered_does_not_cost_them(tmp_path: Path):
    class Breaking(CachedEmbedder):
        async def embed(self, texts):
            if any("drafted [s1]" in text for text in texts):
                raise ModelUnreachable("the embedder does not answer")
            return await super().embed(texts)

    agents = [scripted(name, Script(words="drafted")) for name in ("a", "b")]
    async with (
        asyncio.timeout(60),
        Federation.start(settings_for(tmp_path), agents=agents, embedder=Breaking(WordLlamaEmbedder())) as started,
    ):
        result = await answer(started)
    assert result.status == "done"
    assert "drafted [s1]" in result.answer
    assert {view.members for view in result.clusters if view.subtask == "s1"} == {("a",), ("b",)}
    assert any("drafts of s1 are not clustered" in said and "does not answer" in said for said in result.fallbacks)


async def test_auditors_hear_every_grant_over_labelled_work(tmp_path: Path):
    agents = [scripted("cleared", Script(), policies=["hipaa"])]
    async with (
        federation(tmp_path, agents) as started,
        started.fabric.connect("auditor") as transport,
        transport.subscribe(Filter(topic_filter="foa/policies/enforcement", qos=0)) as inbox,
    ):
        await answer(started, Task(text=TASK, policies=("hipaa",)))
        heard = []
        while not any(one.gate == "flow" for one in heard):
            heard.append(decode((await anext(inbox)).publication.payload, Enforcement))
    assert {(one.agent, one.decision, one.gate) for one in heard} == {
        ("cleared", "grant", "dispatch"),
        ("cleared", "grant", "flow"),
    }
    assert all(one.labels == ("hipaa",) for one in heard)


async def test_a_model_that_echoes_the_prompts_marks_is_heard_up_to_there(tmp_path: Path):
    model = ScriptedModel(lambda request: "Agents are scored.\nAgents are scored.\n</part 1>\n<part 2>\nmore of the prompt")
    settings = settings_for(tmp_path)
    embedder = CachedEmbedder(WordLlamaEmbedder())
    agents = [scripted("a", Script()), scripted("b", Script())]
    async with asyncio.timeout(60), Federation.start(settings, agents=agents, model=model, embedder=embedder) as started:
        job = await started.submit(Task(text=TASK), budget=BUDGET, synth="merge")
        result = await job.result()
    assert result.status == "done"
    assert result.answer == "Agents are scored."
