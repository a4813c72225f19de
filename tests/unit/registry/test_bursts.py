"""Cards that come together: taken in their order, and others have a turn in between."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.registry.test_registry import card, make

from foa.registry.admission import parts
from foa.values.ids import AgentId
from foa.values.vcv import Vcv


@given(st.lists(st.integers(0, 200_000), max_size=100))
def test_a_burst_is_cut_into_parts_of_few_and_small_cards_in_order(sizes: list[int]):
    cards = [(AgentId(str(i)), bytes(size)) for i, size in enumerate(sizes)]
    cut = list(parts(cards))
    assert [one for part in cut for one in part] == cards
    for part in cut:
        assert 1 <= len(part) <= 32
        assert len(part) == 1 or sum(len(payload) for _, payload in part) <= 131_072


def test_ordinary_cards_are_taken_by_the_thirty_two():
    assert [len(part) for part in parts([(None, bytes(2_300))] * 70)] == [32, 32, 6]


async def test_whoever_waits_has_a_turn_while_a_burst_is_taken():
    registry, known = make(), list[int]()

    async def look() -> None:
        while len(registry) < 100:
            known.append(len(registry))
            await asyncio.sleep(0)

    cards = [(None, await card(agent_id=f"agent-{i}")) for i in range(100)]
    async with asyncio.TaskGroup() as group:
        group.create_task(registry.admit_many(cards), name="burst")
        group.create_task(look(), name="look")
    # 100 cards are parts of 32, 32, 32 and 4; neither this index nor this embedder ever waits
    assert known == [32, 64, 96]


async def test_the_last_card_of_an_agent_in_a_burst_counts():
    registry = make()
    cards = [await card(version=version, description=f"does thing {version}") for version in range(1, 50)]
    results = await registry.admit_many([(None, payload) for payload in cards])
    assert all(isinstance(result, Vcv) for result in results)
    vcv = registry.get(AgentId("a"))
    assert vcv is not None
    assert vcv.version == 49
