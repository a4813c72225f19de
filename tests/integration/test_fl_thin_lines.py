"""A site on a thin line is asked for a smaller share of its update than the round's plan says."""

from dataclasses import replace

from flwr.app import Message, RecordDict

from foa.fl.block import FlBlock, node_id
from foa.fl.flower import begin
from foa.fl.guardian import Terms
from foa.fl.memory import Memory
from foa.fl.plans import Bounds
from foa.fl.server import ServerAgent
from foa.fl.stages.ask import asks
from foa.fl.stages.cohort import AgenticSettings, Cohort
from foa.fl.terms import RECORD, read_ask
from foa.values.ids import AgentId
from tests import fl_app
from tests.fakes import HandClock

TERMS = Terms(epochs=5, steps=50, width=1.0, batch=4, noise_multiplier=0.0, clip=1.0)
BOUNDS = Bounds(k_min=3, k_max=3, deadline_min_seconds=30, deadline_max_seconds=30, shares=(1.0, 0.5))
# a model of 2 numbers is 8 bytes whole and 5 by halves; in a quarter of a round of 30 s a byte a second carries 7.5
BLOCKS = [
    FlBlock(agent="thin", bytes_a_second=1.0),
    FlBlock(agent="broad", bytes_a_second=100.0),
    FlBlock(agent="silent"),
]


async def shares(settings: AgenticSettings) -> dict[str, float]:
    """What each site is asked for."""
    begin()
    names = [block.id for block in BLOCKS]
    choice = await ServerAgent(None, HandClock(), bounds=BOUNDS, k=3, rounds=1).choose(Memory(), names)
    cohort = Cohort(round=1, choice=choice, profiles={node_id(block.id): block for block in BLOCKS})
    sent = [Message(RecordDict({"arrays": fl_app.start()}), node_id(name), "train") for name in names]
    going = asks(sent, cohort, settings)
    return {name: read_ask(dict(message.content[RECORD])).share for name, message in zip(names, going, strict=True)}


async def test_a_thin_line_carries_less_of_an_update() -> None:
    asked = await shares(AgenticSettings(run="run-1", terms=TERMS))
    assert asked == {AgentId("thin"): 0.5, AgentId("broad"): 1.0, AgentId("silent"): 1.0}


async def test_masked_updates_are_whole_on_every_line() -> None:
    asked = await shares(replace(AgenticSettings(run="run-1", terms=TERMS), secure_aggregation=True))
    assert {*asked.values()} == {1.0}
