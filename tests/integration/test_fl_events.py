"""The nodes of a round, as whoever runs the job hears of them."""

import msgspec
import pytest

from foa.errors import JobCancelled
from foa.fl.guardian import Limits
from foa.fl.rounds import NODES, NodeEvent
from foa.values.ids import JobId
from tests.fl_runs import SITES, a_run, agent, go, loss, site_with


async def test_every_node_of_every_round_begins_and_ends_in_order() -> None:
    heard: list[NodeEvent] = []
    await go(a_run(rounds=2), on_node=heard.append)
    expected = [(number, node, state) for number in (1, 2) for node in NODES for state in ("began", "ended")]
    assert [(event.round, event.node, event.state) for event in heard] == expected
    assert all(event.value is None for event in heard if event.state == "began")


async def test_a_node_ends_with_plain_data_of_what_it_gave() -> None:
    heard: list[NodeEvent] = []
    mods = {SITES[0]: site_with(Limits(purposes=("weather",)))}
    trained = await go(a_run(rounds=1, validate=loss), mods=mods, led_by=agent(k=6), on_node=heard.append)
    values = {event.node: event.value for event in heard if event.state == "ended"}
    assert msgspec.json.decode(msgspec.json.encode(values)) == values
    row = trained.state.rows[0]
    assert values["profile"] == {"present": 6, "refused": {}}
    assert values["select"]["plan"]["k"] == 6
    assert values["train"]["refused"] == [SITES[0]]
    assert values["train"]["trained"] == list(SITES[1:])
    assert values["aggregate"] == {"rule": "fedavg", "taken": True, "loss": row.loss, "drift": False}
    assert values["evaluate"]["worst10"] == row.worst10


async def test_a_listener_stops_the_run_by_raising() -> None:
    def stop(event: NodeEvent) -> None:
        if (event.round, event.node) == (2, "train"):
            raise JobCancelled(JobId("run-1"))

    with pytest.raises(JobCancelled):
        await go(a_run(rounds=5), on_node=stop)
