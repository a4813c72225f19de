"""Who is there and who is not, in whatever order a card and a last will come."""

import asyncio
from pathlib import Path

import pytest
from tests.unit.registry.test_kept import begin
from tests.unit.registry.test_registry import A, card, found, make, until
from tests.unit.registry.test_unembedded import listening
from tests.unit.registry.test_unembedded import make as moody

from foa.agents.announce import last_will
from foa.registry.vitals import GONE, encode_vitals
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.topics import Topics
from foa.values.vcv import Vitals


async def test_who_left_and_comes_again_is_online_and_found():
    registry = make()
    await registry.hear_vitals(A, GONE)  # the second message of a clean leave, behind the emptied card
    vcv = await registry.admit(await card())
    assert registry.vitals(A).online
    assert await found(registry, vcv) == [A]


@pytest.mark.parametrize("named", [True, False])
async def test_a_last_will_that_comes_before_the_card_of_its_connection_is_believed(named: bool):
    registry = make()
    if named:
        await registry.lost(A, since=100.0)
    else:
        await registry.hear_vitals(A, GONE, since=100.0)
    vcv = await registry.admit(await card(issued_at=100.0))
    assert (registry.away, await found(registry, vcv)) == ({A}, [])
    assert not registry.vitals(A).online
    await registry.hear_vitals(A, encode_vitals(Vitals()))
    assert (registry.away, await found(registry, vcv)) == (set(), [A])


async def test_a_card_that_is_newer_than_a_last_will_is_a_sign_of_life():
    registry = make()
    await registry.lost(A, since=100.0)
    vcv = await registry.admit(await card(issued_at=100.5))
    assert (registry.away, await found(registry, vcv)) == (set(), [A])


async def test_vitals_after_a_last_will_take_it_back():
    registry = make()
    await registry.lost(A, since=100.0)
    await registry.hear_vitals(A, encode_vitals(Vitals(load=0.5)))
    await registry.admit(await card(issued_at=100.0))
    assert registry.away == set()
    assert registry.vitals(A).load == 0.5


async def test_who_died_while_nobody_was_there_is_taken_out_of_a_kept_index(tmp_path: Path):
    registry, _ = begin(tmp_path)
    vcv = await registry.admit(await card(issued_at=100.0))
    await registry.aclose()
    again, index = begin(tmp_path)
    await again.lost(A, since=100.0)
    await again.admit(await card(issued_at=100.0))
    assert await found(again, vcv) == []
    assert await index.agents() == []
    await again.aclose()


async def test_an_agent_that_dies_while_its_card_waits_for_the_embedder_is_not_found():
    registry, embedder, clock = moody()
    embedder.away = True
    async with asyncio.timeout(10), listening(registry, clock) as agent:
        payload = await card(issued_at=100.0)
        await agent.publish(Publication(topic=Topics().capability(A), payload=payload, retain=True))
        await registry.known([A])
        await agent.publish(last_will(Topics(), A, [A], since=100.0))
        embedder.away = False
        await clock.move(15.0)
        await agent.publish(Publication(topic=Topics().capability(AgentId("b")), payload=b"no card", retain=True))
        await until(lambda: A in registry)
    assert registry.away == {A}
