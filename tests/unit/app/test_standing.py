"""What graded work taught is read back for those who ask who an agent is."""

from pathlib import Path

from tests.fakes import HandClock

from foa.app.places import journal_file
from foa.app.settings import read_settings
from foa.app.standing import Standing, standings
from foa.app.stores import open_stores
from foa.registry.reputation import Outcome, encode_outcome
from foa.values.ids import AgentId


async def test_an_agent_stands_as_its_graded_work_says_by_kind(tmp_path: Path) -> None:
    settings = read_settings(environ={"HOME": str(tmp_path)}, overrides={"FOA_STATE_DIR": str(tmp_path)})
    clock = HandClock()
    assert await standings(settings, AgentId("west"), clock) == ()
    async with open_stores(journal_file(settings), clock) as stores:
        for number, kind in enumerate(["federated-learning", "general", "general"]):
            outcome = Outcome(agent="west", kind=kind, job=f"j{number}", subtask="s1", grade=0.0, at=clock.now())
            await stores.outcomes.append(encode_outcome(outcome), b"damaged")
    found = await standings(settings, AgentId("west"), clock)
    # prior 4:1; three bad outcomes overall make it 4:4 = 1/2. Backing off from it with the weight of four:
    # one bad outcome gives 2:3, two give 2:4
    assert found == (
        Standing(kind="federated-learning", mean=2 / 5, evidence=1.0),
        Standing(kind="general", mean=2 / 6, evidence=2.0),
    )
    assert await standings(settings, AgentId("east"), clock) == ()
