"""SIGKILL of Agent-0 at any point: started again, it ends the job, its client hears it, nobody is asked or paid twice."""

from pathlib import Path

import pytest
from tests.chaos.processes import until
from tests.chaos.world import World, brokered, result_of

#: What the model is asked for when Agent-0 is killed, and how many such questions are under way then.
POINTS = {"propose": 2, "draft": 4, "revise": 4, "synthesise": 1}


async def killed_and_restarted(world: World, kind: str, *, while_away: bool) -> dict:
    """One job whose Agent-0 is killed while agents think; they end their thoughts before it is back, or after."""
    await world.start_agents("alpha", "beta")
    zero = await world.start_orchestrator()
    world.mind.hold(kind)
    asking = world.ask("--synth", "merge")
    await world.mind.busy(kind, POINTS[kind])
    await zero.kill()
    if while_away:
        world.mind.release()
        await until(lambda: world.mind.working == 0, "the end of the agents' thoughts")
    await world.start_orchestrator()
    world.mind.release()
    return await result_of(asking)


@pytest.mark.parametrize("while_away", [True, False], ids=["answered-while-away", "answered-after"])
@pytest.mark.parametrize("kind", POINTS)
async def test_a_killed_orchestrator_goes_on_and_pays_nobody_twice(tmp_path: Path, kind: str, while_away: bool) -> None:
    async with brokered(tmp_path, "embedded") as world:
        result = await killed_and_restarted(world, kind, while_away=while_away)
    assert result["status"] == "done"
    assert result["lost"] == {}
    assert result["fallbacks"] == []
    assert [cluster["heard"] for cluster in result["clusters"]] == [["alpha", "beta"]] * 2
    asked = {key: count for key, count in world.mind.calls.items() if key[0] != "synthesise"}
    # 2 agents: 1 proposal, 2 drafts and 2 revisions each
    assert asked == dict.fromkeys(asked, 1)
    assert len(asked) == 2 * (1 + 2 + 2)
    # Agent-0's own call is not saved before it has answered, and is paid once
    synthesised = world.mind.asked("synthesise")
    assert synthesised <= (2 if kind == "synthesise" else 1)
    assert result["bill"]["calls"] == len(asked) + 1
    # 25 tokens a call, as the endpoint says
    assert result["bill"]["tokens"] == 25 * result["bill"]["calls"]


async def test_mosquitto_keeps_what_members_post_while_the_orchestrator_is_away(tmp_path: Path) -> None:
    async with brokered(tmp_path, "mosquitto") as world:
        result = await killed_and_restarted(world, "revise", while_away=True)
    assert result["status"] == "done"
    assert (result["fallbacks"], result["lost"]) == ([], {})
    assert set(world.mind.calls.values()) == {1}
