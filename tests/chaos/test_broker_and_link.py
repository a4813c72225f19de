"""The broker dies and comes back; the link to it breaks and comes back: the job ends."""

import asyncio
from pathlib import Path

import pytest
from tests.brokers import free_port
from tests.chaos.processes import until
from tests.chaos.world import brokered, result_of, world


@pytest.mark.parametrize("kind", ["draft", "revise"])
async def test_a_killed_broker_forgets_nothing(tmp_path: Path, kind: str) -> None:
    data, port = ("--data", str(tmp_path / "broker")), free_port()
    async with world(tmp_path) as made:
        broker = await made.start_broker(*data, port=port)
        await made.start_agents("alpha", "beta")
        await made.start_orchestrator()
        made.mind.hold(kind)
        asking = made.ask()
        await made.mind.busy(kind, 4)
        await broker.kill()
        made.mind.release()
        await until(lambda: made.mind.working == 0, "the end of the agents' thoughts")
        await made.start_broker(*data, port=port)
        result = await result_of(asking)
    assert result["status"] == "done"
    assert result["lost"] == {}
    assert set(made.mind.calls.values()) == {1}


@pytest.mark.parametrize(("kind", "broker"), [("draft", "embedded"), ("revise", "mosquitto")])
async def test_a_link_that_is_cut_for_two_seconds_costs_no_work(tmp_path: Path, kind: str, broker: str) -> None:
    async with brokered(tmp_path, broker) as made:
        await made.start_agents("alpha", "beta", linked=True, FOA_AWAY_SECONDS="10")
        await made.start_orchestrator()
        made.mind.hold(kind)
        asking = made.ask()
        await made.mind.busy(kind, 4)
        await made.link.cut()
        made.mind.release()
        await asyncio.sleep(2)  # what is tested: a link that is away for this long
        await made.link.restore()
        result = await result_of(asking)
    assert result["status"] == "done"
    assert (result["lost"], result["fallbacks"]) == ({}, [])
    assert set(made.mind.calls.values()) == {1}


async def test_a_job_waits_for_agents_that_were_away_too_long_and_asks_them_again(tmp_path: Path) -> None:
    async with brokered(tmp_path) as made:
        await made.start_agents("alpha", "beta", linked=True, FOA_AWAY_SECONDS="0")
        orchestrator = await made.start_orchestrator(FOA_RETURN_SECONDS="60", FOA_LOG="info")
        made.mind.hold("propose")
        asking = made.ask()
        await made.mind.busy("propose", 2)
        await made.link.cut()
        await orchestrator.said("waits for agents that are away")
        made.mind.release()
        await made.link.restore()
        result = await result_of(asking)
        again = await result_of(made.ask())
    assert set(result["lost"]) == {"alpha", "beta"}  # as proposers
    assert result["status"] == "done"
    assert (again["status"], again["lost"]) == ("done", {})
