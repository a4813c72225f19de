"""Agents, orchestrator, broker and client, each a process of its own."""

from pathlib import Path

import pytest
from tests.chaos.mind import SUBTASKS
from tests.chaos.world import brokered, result_of, shape

BROKERS = ["embedded", "mosquitto"]


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_job_has_the_same_plan_on_every_broker(tmp_path: Path, kind: str) -> None:
    async with brokered(tmp_path, kind) as world:
        await world.start_agents("alpha", "beta")
        await world.start_orchestrator()
        world.mind.edges = [[0, 1]]
        result = await result_of(world.ask())
    assert result["status"] == "done"
    assert shape(result) == (SUBTASKS, [("s1", "s2")])
    assert [cluster["members"] for cluster in result["clusters"]] == [["alpha", "beta"]] * 2
    assert result["lost"] == {}
    assert set(world.mind.calls.values()) == {1}


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_killed_agent_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    async with brokered(tmp_path, kind) as world:
        await world.start_agents("alpha", "beta")
        await world.start_orchestrator()
        world.mind.hold("draft")
        asking = world.ask()
        await world.mind.busy("draft", 4)
        await world.agents["beta"].kill()
        world.mind.release()
        result = await result_of(asking)
    assert result["status"] == "done"
    assert "left" in result["lost"]["beta"]
    assert "left" in result["reports"][0]["lost"]["beta"]
    assert {report["by"] for report in result["reports"]} == {"alpha"}


async def test_an_agent_killed_in_the_rounds_costs_its_voice_and_one_deadline(tmp_path: Path) -> None:
    async with brokered(tmp_path, FOA_ROUND_SECONDS="3") as world:
        await world.start_agents("alpha", "beta", "gamma")
        await world.start_orchestrator()
        world.mind.hold("revise")
        asking = world.ask()
        await world.mind.busy("revise", 6)
        await world.agents["beta"].kill()
        world.mind.release()
        result = await result_of(asking)
    assert result["status"] == "done"
    assert "fell silent in the rounds" in result["lost"]["beta"]
    assert {report["by"] for report in result["reports"]} <= {"alpha", "gamma"}
    assert result["fallbacks"] == []


@pytest.mark.parametrize("kind", BROKERS)
async def test_an_orchestrator_that_starts_later_knows_the_dead_from_those_that_came_back(tmp_path: Path, kind: str) -> None:
    async with brokered(tmp_path, kind, FOA_AWAY_SECONDS="0") as world:
        await world.start_agents("alpha", "beta")
        await world.agents["beta"].kill()
        await world.start_orchestrator()
        without = await result_of(world.ask())
        asked = {agent for _, agent, _ in world.mind.calls}
        await world.start_agents("beta")
        again = await result_of(world.ask())
    assert without["status"] == again["status"] == "done"
    assert asked == {"alpha"}
    assert without["lost"] == again["lost"] == {}
    assert [cluster["members"] for cluster in again["clusters"]] == [["alpha", "beta"]] * 2
