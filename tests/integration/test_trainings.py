"""A plain question of which a part is a training: routed by meaning, unrolled, charged once, stopped, graded."""

from pathlib import Path

import msgspec
import pytest

from foa.registry.reputation import decode_outcome
from foa.values import events
from foa.values.budget import Budget, Spend
from foa.values.task import Submission, Task
from tests.integration.federations import BUDGET, Script, answer, federation, scripted
from tests.trainers import MIXED, NODE_SPEND, TRAIN, FakeTrainer, training_agent

NODES = [f"s1/round-{number}/{node}" for number in (1, 2) for node in ("select", "train", "evaluate", "credit")]


def drafters(*names: str) -> tuple[Script, ...]:
    return tuple(Script(plan=MIXED) for _ in names)


async def test_a_mixed_job_trains_first_and_what_comes_after_sees_the_report(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(), drafters("explainer")
    seen: list[str] = []
    script.before_draft = lambda request: seen.extend(given.answer for given in request.inputs)
    agents = [training_agent(brain), scripted("explainer", script)]
    async with federation(tmp_path, agents, state=tmp_path / "jobs.db") as started:
        result = await answer(started)
        steps = await started.stores.journal.load(result.job_id)  # type: ignore[arg-type]
    assert (result.status, result.error) == ("done", "")
    first, second = result.reports
    assert (first.by, first.agents, first.figures) == ("trainer", ("trainer",), {"accuracy": 0.8})
    assert second.by == "explainer"
    assert seen == [first.answer]
    # nothing but the training itself went to the trainer, nothing but the rest to the drafter
    assert brain.trained == ["s1"]
    assert script.drafts == ["s2"]
    # the rounds stand in the plan as a chain that ends in their subtask, and as steps in the journal
    assert [node.id for node in result.plan.nodes] == ["s1", "s2", *NODES]
    assert [(edge.before, edge.after) for edge in result.plan.edges][1:] == list(zip(NODES, [*NODES[1:], "s1"], strict=True))
    assert [name for name in steps if name.startswith("train/")] == [f"train/s1/1/trainer/{node[3:]}" for node in NODES]
    assert not result.clusters[0].members[1:]  # the drafter's only: a training has no cluster
    assert {view.subtask for view in result.clusters} == {"s2"}
    # eight nodes at 0.01 and ten tokens each, and the drafter's plan and draft
    assert result.bill.by_agent["trainer"] == Spend(usd=pytest.approx(0.08), tokens_in=80, calls=8)


async def test_its_rounds_are_told_as_they_come(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(hold_at=3), drafters("explainer")
    async with federation(tmp_path, [training_agent(brain), scripted("explainer", script)]) as started:
        job = await started.submit(Submission(task=Task(text="train"), budget=BUDGET))
        told: list[events.TrainNode] = []
        async for event in job.events():
            if isinstance(event, events.TrainNode):
                told.append(event)
            if len(told) == 6 and not brain.hold.is_set():
                assert brain.holding.is_set()  # the training goes on while its first nodes are known
                brain.hold.set()
        assert [f"s1/round-{one.round}/{one.node}" for one in told if one.state == "ended"] == NODES
        assert (told[1].said, told[1].spend) == ("select of round 1", NODE_SPEND)


async def test_no_trainer_fits_so_everything_is_drafted(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(), drafters("explainer")
    cooks = training_agent(brain, description="Bakes bread in a stone oven.")
    async with federation(tmp_path, [cooks, scripted("explainer", script)]) as started:
        result = await answer(started)
    assert result.status == "done"
    assert brain.trained == []
    assert sorted(script.drafts) == ["s1", "s2"]


async def test_a_trainer_that_is_not_cleared_is_never_asked(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(), drafters("explainer")
    agents = [training_agent(brain), scripted("explainer", script, policies=["gdpr"])]
    async with federation(tmp_path, agents) as started:
        result = await answer(started, Task(text=TRAIN, policies=("gdpr",)))
    assert brain.trained == []
    assert result.status == "done"
    assert {member.agent for member in result.assignments} == {"explainer"}


async def test_where_nobody_plans_the_whole_task_is_the_training(tmp_path: Path) -> None:
    brain = FakeTrainer()
    async with federation(tmp_path, [training_agent(brain)]) as started:
        result = await answer(started, TRAIN)
    assert result.status == "done"
    assert [report.by for report in result.reports] == ["trainer"]
    assert result.answer.startswith("The model reached an accuracy of 0.8000")


async def test_a_cancelled_job_stops_the_training(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(hold_at=1), drafters("explainer")
    async with federation(tmp_path, [training_agent(brain), scripted("explainer", script)]) as started:
        job = await started.submit(Submission(task=Task(text="train"), budget=BUDGET))
        await brain.holding.wait()
        await started.client.cancel(job.id)
        result = await job.result()
        await brain.cancelled.wait()
    assert result.status == "cancelled"
    # the node that ended is paid, and nothing else
    assert result.bill.by_agent["trainer"] == NODE_SPEND


async def test_a_training_that_costs_more_than_it_may_is_stopped_and_the_rest_goes_on(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(spend=Spend(usd=0.09, calls=1)), drafters("explainer")
    budget = Budget(usd=0.4, tokens=100_000, calls=1_000, seconds=30.0)
    # a half of what is free for each of two open nodes: 0.1, so the second node of 0.09 is one too many
    async with federation(tmp_path, [training_agent(brain), scripted("explainer", script)]) as started:
        result = await answer(started, budget=budget)
    assert result.status == "partial"
    assert "its training was stopped: it costs more than" in result.reports[0].lost["trainer"]
    assert result.bill.by_agent["trainer"].usd == pytest.approx(0.09)
    assert script.drafts == ["s2"]


async def test_the_time_of_a_job_ends_its_training(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(hold_at=1), drafters("explainer")
    budget = Budget(usd=1.0, tokens=100_000, calls=1_000, seconds=1.0)
    async with federation(tmp_path, [training_agent(brain), scripted("explainer", script)]) as started:
        result = await answer(started, budget=budget)
        await brain.cancelled.wait()
    assert result.status == "failed"
    assert "the time budget is spent" in result.error


async def test_credit_becomes_the_reputation_of_the_sites(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(), drafters("explainer")
    agents = [training_agent(brain), scripted("explainer", script)]
    async with federation(tmp_path, agents, state=tmp_path / "jobs.db") as started:
        await answer(started)
        kept = [decode_outcome(record) for record in await started.stores.outcomes.replay()]
    sites = {one.agent: one for one in kept if one.kind == "federated-learning"}
    # north brought 0.2 + 0.2, south −0.1 − 0.1: scaled by the largest, 0.4, that is 1 and −½
    assert {site: one.grade for site, one in sites.items()} == {"north": 1.0, "south": 0.25}
    assert {one.by for one in sites.values()} == {"trainer"}
    # the one who led is graded like any agent whose answer stands: halfway from its confidence, 0.8, to 1
    assert [one.grade for one in kept if one.agent == "trainer"] == [pytest.approx(0.9)]


async def test_what_a_node_gave_is_kept_as_it_was_told(tmp_path: Path) -> None:
    brain, (script,) = FakeTrainer(), drafters("explainer")
    agents = [training_agent(brain), scripted("explainer", script)]
    async with federation(tmp_path, agents, state=tmp_path / "jobs.db") as started:
        result = await answer(started)
        steps = await started.stores.journal.load(result.job_id)  # type: ignore[arg-type]
    kept = msgspec.json.decode(steps["train/s1/1/trainer/round-2/credit"])
    assert kept["value"]["value"] == {"n": 2}
    assert kept["value"]["credits"] == {"north": 0.2, "south": -0.1}
    assert kept["spends"]["trainer"]["usd"] == 0.01


async def test_a_trainer_that_is_lost_gives_its_work_to_the_next(tmp_path: Path) -> None:
    lost, spare, (script,) = FakeTrainer(name="trainer-a"), FakeTrainer(name="trainer-b"), drafters("explainer")

    async def leave(*_: object) -> None:
        raise RuntimeError("broken")

    lost.train = leave  # type: ignore[method-assign,assignment]
    agents = [
        training_agent(lost, description=TRAIN),
        training_agent(spare, description=f"{TRAIN}, slowly"),
        scripted("explainer", script),
    ]
    async with federation(tmp_path, agents) as started:
        result = await answer(started)
    assert result.reports[0].by == "trainer-b"
    assert "an error in the agent itself" in result.lost["trainer-a"]
    assert spare.trained == ["s1"]
    assert not spare.cancelled.is_set()
