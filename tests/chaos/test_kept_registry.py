"""SIGKILL of an orchestrator whose registry is kept: the next one has its index, without those that went meanwhile."""

import signal
from pathlib import Path

import pytest
from tests.chaos.world import brokered, result_of


@pytest.mark.parametrize("shards", ["1", "2"])
async def test_a_killed_orchestrator_finds_its_agents_again_and_indexes_nothing_twice(tmp_path: Path, shards: str) -> None:
    kept = {"FOA_LOG": "info", "FOA_INDEX_SHARDS": shards}
    async with brokered(tmp_path, "embedded") as world:
        await world.start_agents("alpha", "beta", "gamma")
        zero = await world.start_orchestrator(**kept)
        assert "agents=3 gone=0 indexed=3" in zero.errors
        await zero.kill()
        leaving = world.agents.pop("gamma")
        leaving.send(signal.SIGTERM)
        await leaving.ended()
        zero = await world.start_orchestrator(**kept)
        assert "agents=2 gone=1 indexed=0" in zero.errors
        result = await result_of(world.ask())
        zero.send(signal.SIGTERM)
        await zero.ended()
        zero = await world.start_orchestrator(**kept)  # after a clean end
        assert "agents=2 gone=0 indexed=0" in zero.errors
    assert result["status"] == "done"
    assert [cluster["heard"] for cluster in result["clusters"]] == [["alpha", "beta"]] * 2


async def test_an_agent_that_came_after_the_last_save_is_lost_to_nobody(tmp_path: Path) -> None:
    async with brokered(tmp_path, "embedded") as world:
        await world.start_agents("alpha")
        zero = await world.start_orchestrator(FOA_LOG="info")
        await world.start_agents("beta")
        await zero.kill()
        zero = await world.start_orchestrator(FOA_LOG="info")
        # beta's point may or may not have reached the disk
        assert any(f"agents=2 gone=0 indexed={count}" in zero.errors for count in (0, 1))
        result = await result_of(world.ask())
    assert result["status"] == "done"
    assert [cluster["heard"] for cluster in result["clusters"]] == [["alpha", "beta"]] * 2


async def test_a_second_orchestrator_in_a_folder_ends_with_a_sentence_and_takes_over_after_a_kill(tmp_path: Path) -> None:
    shared = {"FOA_INDEX_DIR": str(tmp_path / "kept"), "FOA_LOG": "info"}
    async with brokered(tmp_path, "embedded") as world:
        await world.start_agents("alpha", "beta")
        first = await world.start_orchestrator(**shared)
        second = world.foa("orchestrator", "--id", "zero-b", "--broker", world.broker, **shared)
        assert await second.ended() == 2
        assert "give this one another folder (FOA_INDEX_DIR)" in second.errors
        await first.kill()
        third = world.foa("orchestrator", "--id", "zero-b", "--broker", world.broker, **shared)
        await third.said("serves")
        assert "agents=2 gone=0 indexed=0" in third.errors
