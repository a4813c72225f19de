"""Agents that are known and away: a job waits a bounded moment for them and says so, then fails and names them."""

from pathlib import Path

from foa.registry.vitals import GONE, encode_vitals
from foa.values import events
from foa.values.ids import AgentId
from foa.values.task import Submission, Task
from foa.values.vcv import Vitals
from tests.integration.federations import BUDGET, TASK, Script, answer, federation, scripted

A = AgentId("a")


async def test_a_job_waits_for_the_only_agent_until_it_is_back(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script())], FOA_RETURN_SECONDS=20.0) as started:
        registry = started.zero.registry
        await registry.hear_vitals(A, GONE)
        job = await started.submit(Submission(task=Task(text=TASK), budget=BUDGET))
        async for event in job.events():
            if isinstance(event, events.FellBack):
                # 20 s, and at most half of the job's 30
                assert event.what == "task: nobody else may take it, so up to 15 s go by for who is away: a"
                break
        await registry.hear_vitals(A, encode_vitals(Vitals()))
        result = await job.result()
    assert (result.status, result.exit_code) == ("done", 0)


async def test_nobody_waits_where_somebody_else_may_take_it(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script()), scripted("b", Script())]) as started:
        await started.zero.registry.hear_vitals(A, GONE)
        result = await answer(started)
    assert (result.status, result.fallbacks) == ("done", ())
    assert {member.agent for member in result.assignments} == {"b"}


async def test_who_is_not_back_in_time_is_named(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script())], FOA_RETURN_SECONDS=0.05) as started:
        await started.zero.registry.hear_vitals(A, GONE)
        result = await answer(started)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert "a: is away since its connection was lost; it is asked again as soon as it is back" in result.error


async def test_an_agent_that_is_away_and_not_cleared_is_not_waited_for(tmp_path: Path):
    async with federation(tmp_path, [scripted("a", Script())], FOA_RETURN_SECONDS=20.0) as started:
        await started.zero.registry.hear_vitals(A, GONE)
        result = await answer(started, Task(text=TASK, policies=("phi",)))
    assert (result.exit_code, result.fallbacks) == (3, ())
    assert "no agent is known" not in result.error
