"""Admission, one rule at a time, and what the registry knows of those it admitted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fakes import HandClock
from tests.unit.test_card import HashEmbedder

from foa.errors import BadCapability, BadMessage, FalseClaim
from foa.index.exact import ExactIndex
from foa.ports import IndexQuery
from foa.registry.admission import RegistryLimits
from foa.registry.card import build_vcv, decode_card, encode_card
from foa.registry.keys import SigningKey, new_key
from foa.registry.listen import listen
from foa.registry.registry import Registry
from foa.registry.shelf import FileShelf
from foa.registry.vitals import GONE, encode_vitals
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.resources import Price, Resources
from foa.values.topics import Topics
from foa.values.vcv import Vcv, Vitals

A = AgentId("a")
KEY = new_key()


class OtherEmbedder(HashEmbedder):
    """The same dimension under another name."""

    id = "other-256:1"


def make(clock: HandClock | None = None, **limits: object) -> Registry:
    rules = RegistryLimits(**limits)  # type: ignore[arg-type]
    return Registry(ExactIndex(256), HashEmbedder(), clock=clock or HandClock(), limits=rules)


async def card(*, key: SigningKey | None = KEY, change: dict[str, object] | None = None, **fields: object) -> bytes:
    defaults: dict[str, object] = {"agent_id": "a", "version": 1, "name": "A", "description": "does things"}
    vcv = await build_vcv(**({"embedder": HashEmbedder()} | defaults | fields))  # type: ignore[arg-type]
    return encode_card(replace(vcv, **(change or {})), key)  # type: ignore[arg-type]


async def found(registry: Registry, vcv: Vcv) -> list[str]:
    return [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=3))]


async def test_an_admitted_agent_is_found_and_known():
    registry = make()
    vcv = await registry.admit(await card(skills=["python"]), agent=A)
    assert await found(registry, vcv) == ["a"]
    known = registry.get(A)
    assert known is not None
    assert known.skills == ("python",)
    assert list(registry.agents()) == ["a"]
    assert len(registry) == 1


async def test_a_card_under_another_id_is_refused():
    registry = make()
    with pytest.raises(BadCapability, match="says it is a"):
        await registry.admit(await card(), agent=AgentId("b"))
    assert "says it is a" in registry.refusals[AgentId("b")]


async def test_unsigned_cards_need_permission():
    with pytest.raises(BadCapability, match="not signed"):
        await make().admit(await card(key=None))
    assert (await make(allow_unsigned=True).admit(await card(key=None))).agent_id == "a"


async def test_an_id_belongs_to_the_key_that_took_it():
    registry = make()
    await registry.admit(await card())
    with pytest.raises(BadCapability, match="another key"):
        await registry.admit(await card(key=new_key(), version=9))


async def test_a_version_never_goes_back_even_after_leaving():
    registry = make()
    await registry.admit(await card(version=5))
    with pytest.raises(BadCapability, match="version 4 goes back behind 5"):
        await registry.admit(await card(version=4))
    assert await registry.leave(A)
    with pytest.raises(BadCapability, match="goes back"):
        await registry.admit(await card(version=4))
    await registry.admit(await card(version=5, issued_at=1.0))


async def test_a_card_no_newer_than_the_one_it_left_with_does_not_bring_an_agent_back():
    registry = make()
    await registry.admit(await card(issued_at=100.0))
    await registry.leave(A)
    for issued_at in (99.0, 100.0):
        with pytest.raises(BadCapability, match="not newer than the one it left with"):
            await registry.admit(await card(issued_at=issued_at))


async def test_the_same_card_again_changes_nothing_and_is_no_update():
    registry = make(updates_burst=1, updates_per_second=0.0)
    payload = await card()
    for _ in range(5):
        await registry.admit(payload)
    await registry.admit(await card(issued_at=5.0))  # signed again after a restart
    assert len(registry) == 1


async def test_the_same_content_signed_again_is_not_from_the_future_either():
    clock = HandClock()
    registry = make(clock)
    await registry.admit(await card(issued_at=clock.now()))
    with pytest.raises(BadCapability, match="400 s ahead"):
        await registry.admit(await card(issued_at=clock.now() + 400))
    await registry.admit(await card(issued_at=clock.now() + 200))


async def test_an_agent_signs_again_or_comes_and_goes_only_so_often():
    clock = HandClock()
    registry = make(clock, updates_burst=3, updates_per_second=1.0)
    await registry.admit(await card())
    for moment in (1.0, 2.0, 3.0):
        await registry.admit(await card(issued_at=moment))
    with pytest.raises(BadCapability, match="agent a: it is signed again too often"):
        await registry.admit(await card(issued_at=4.0))
    await registry.leave(A)
    with pytest.raises(BadCapability, match="too often"):
        await registry.admit(await card(issued_at=5.0))
    await registry.admit(await card(agent_id="b"))  # others of its key are not held up
    await registry.admit(await card(agent_id="b", issued_at=1.0))
    await clock.move(1)
    await registry.admit(await card(issued_at=6.0))


async def test_new_content_needs_a_new_version():
    registry = make()
    await registry.admit(await card(issued_at=1.0))
    with pytest.raises(BadCapability, match="raise the version"):
        await registry.admit(await card(issued_at=2.0, description="does other things"))


async def test_one_version_with_two_contents_of_one_moment_is_a_lie():
    registry = make()
    await registry.admit(await card(issued_at=1.0))
    with pytest.raises(FalseClaim, match="two contents"):
        await registry.admit(await card(issued_at=1.0, description="does other things"))


async def test_a_card_from_the_future_is_refused():
    clock = HandClock(1_000.0)
    registry = make(clock)
    await registry.admit(await card(issued_at=1_250.0))
    with pytest.raises(BadCapability, match="dated 400 s ahead"):
        await registry.admit(await card(issued_at=1_400.0, version=2))


async def test_updates_are_rated_by_key_and_newcomers_are_not():
    clock = HandClock()
    registry = make(clock, updates_burst=2, updates_per_second=0.5)
    await registry.admit(await card())
    for version in (2, 3):
        await registry.admit(await card(version=version))
    with pytest.raises(BadCapability, match="too often"):
        await registry.admit(await card(version=4))
    await registry.admit(await card(agent_id="b"))
    await clock.move(2.0)
    await registry.admit(await card(version=4))


async def test_a_vector_that_is_not_its_text_is_a_lie_and_lies_lead_to_quarantine():
    clock = HandClock()
    registry = make(clock, strikes=2, quarantine_seconds=60.0)
    await registry.admit(await card(agent_id="honest", key=new_key()))
    await registry.admit(await card(agent_id="sleeper"))
    stolen = (await HashEmbedder().embed(["the best at everything"]))[0]
    for version in (1, 2):
        with pytest.raises(FalseClaim, match="not the embedding of its own text"):
            await registry.admit(await card(version=version, change={"c": stolen}), agent=A)
    assert list(registry.agents()) == ["honest"]
    assert "quarantined" in registry.refusals[AgentId("sleeper")]
    with pytest.raises(BadCapability, match=r"quarantined for 60 s"):
        await registry.admit(await card(version=3))
    await clock.move(61.0)
    await registry.admit(await card(version=3))


async def test_nobody_is_quarantined_for_what_others_forge_in_its_name():
    registry = make(strikes=1)
    good = await card()
    document = json.loads(good)
    document["vcv"]["s"] = "AAAA"
    for _ in range(5):
        with pytest.raises(BadCapability, match="signature"):
            await registry.admit(json.dumps(document).encode(), agent=A)
    await registry.admit(good)


async def test_another_embedders_vectors_are_made_again_from_the_text():
    registry = make()
    short = np.eye(1, 64, dtype=np.float32)[0]
    await registry.admit(await card(embedder=OtherEmbedder(), change={"c": short, "e": short}))
    known = registry.get(A)
    assert known is not None
    ours = (await HashEmbedder().embed(["A\ndoes things"]))[0]
    assert np.allclose(known.c, ours)
    assert not known.e.any()
    assert await found(registry, known) == ["a"]


async def test_the_wrong_dimension_is_a_lie_under_a_known_embedder():
    short = np.eye(1, 64, dtype=np.float32)[0]
    with pytest.raises(FalseClaim, match="64 dimensions"):
        await make().admit(await card(change={"c": short, "e": short}))


async def test_a_full_registry_refuses_newcomers_and_takes_updates():
    registry = make(agents=1)
    await registry.admit(await card())
    with pytest.raises(BadCapability, match="full"):
        await registry.admit(await card(agent_id="b"))
    await registry.admit(await card(version=2))


async def test_one_key_signs_for_so_many_agents():
    registry = make(agents_per_key=2)
    for name in ("a", "b"):
        await registry.admit(await card(agent_id=name))
    with pytest.raises(BadCapability, match="signs for 2 agents"):
        await registry.admit(await card(agent_id="c"))
    await registry.leave(A)
    await registry.admit(await card(agent_id="c"))


async def test_bad_cards_do_not_hold_good_ones_of_their_batch_up():
    registry = make()
    results = await registry.admit_many([(A, b"nonsense"), (AgentId("b"), await card(agent_id="b")), (None, b"{}")])
    assert [type(result) for result in results] == [BadCapability, Vcv, BadCapability]
    assert list(registry.agents()) == ["b"]


async def test_vitals_change_what_an_agent_offers_now():
    registry = make()
    await registry.admit(await card(resources=Resources(price=Price(usd_per_call=0.1), latency_seconds=1.0)))
    await registry.hear_vitals(A, encode_vitals(Vitals(load=0.5, price_factor=3.0, latency_seconds=2.0, slots=7)))
    facts = registry.facts([A])
    assert facts.offers[0, :2] == pytest.approx([0.3, 2.0])
    assert facts.load == pytest.approx([0.5])
    assert registry.vitals(A).slots == 7


async def test_vitals_of_a_flood_of_agents_without_cards_are_forgotten_and_those_of_admitted_ones_are_not():
    registry = make(remembered=2)
    await registry.admit(await card())
    await registry.hear_vitals(A, encode_vitals(Vitals(slots=7)))
    for i in range(4):
        await registry.hear_vitals(AgentId(f"nobody-{i}"), encode_vitals(Vitals(slots=3)))
    assert [registry.vitals(AgentId(f"nobody-{i}")).slots for i in range(4)] == [Vitals().slots] * 2 + [3] * 2
    assert registry.vitals(A).slots == 7


async def test_vitals_that_came_before_the_card_are_kept_for_it():
    registry = make()
    await registry.hear_vitals(A, encode_vitals(Vitals(load=0.5)))
    await registry.admit(await card())
    assert registry.facts([A]).load == pytest.approx([0.5])


async def test_who_is_gone_is_not_found_until_it_is_back():
    registry = make()
    vcv = await registry.admit(await card())
    await registry.hear_vitals(A, GONE)
    assert await found(registry, vcv) == []
    await registry.hear_vitals(A, encode_vitals(Vitals()))
    assert await found(registry, vcv) == ["a"]
    await registry.lost(A)
    assert await found(registry, vcv) == []
    await registry.admit(await card(issued_at=3.0))  # a card is a sign of life
    assert await found(registry, vcv) == ["a"]


async def test_bad_vitals_change_nothing():
    registry = make()
    await registry.admit(await card())
    with pytest.raises(BadMessage):
        await registry.hear_vitals(A, b'{"schema":"foa.vitals/1","load":7}')
    assert registry.vitals(A) == Vitals()


async def test_slots_are_used_again_and_a_thousand_agents_keep_their_rows():
    registry = make(check_text=False)
    prices = {f"a{i}": float(i) for i in range(300)}
    for name, usd in prices.items():
        await registry.admit(await card(agent_id=name, resources=Resources(price=Price(usd_per_call=usd))))
    for i in range(0, 300, 3):
        await registry.leave(AgentId(f"a{i}"))
    for i in range(0, 300, 3):
        payload = await card(agent_id=f"a{i}", issued_at=1.0, resources=Resources(price=Price(usd_per_call=float(i))))
        await registry.admit(payload)
    names = [AgentId(name) for name in prices]
    assert registry.facts(names).offers[:, 0] == pytest.approx(list(prices.values()))


async def test_cards_on_a_file_shelf_are_given_back(tmp_path: Path):
    registry = Registry(ExactIndex(256), HashEmbedder(), clock=HandClock(), shelf=FileShelf(tmp_path / "cards.db"))
    payload = await card()
    await registry.admit(payload)
    assert registry.card(A) == payload
    await registry.leave(A)
    assert registry.card(A) is None
    await registry.aclose()


# ── on the fabric ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
async def fabric() -> AsyncIterator[tuple[Registry, MemoryTransport]]:
    hub, registry, clock = MemoryHub(), make(), HandClock()
    async with MemoryTransport(hub, client_id="zero") as inner, MemoryTransport(hub, client_id="agent") as outer:
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen(registry, inner, topics=Topics(), clock=clock, ready=ready), name="listen")
            async with asyncio.timeout(5):
                await ready.wait()
            yield registry, outer
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Let the listener work until this holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the registry has no events, and everything here is one loop
            await asyncio.sleep(0)


async def test_cards_and_departures_arrive_in_order(fabric: tuple[Registry, MemoryTransport]):
    registry, agent = fabric
    topic = "foa/capabilities/updates/a"
    await agent.publish(Publication(topic=topic, payload=await card(), retain=True))
    await agent.publish(Publication(topic=topic, payload=b"", retain=True))
    await agent.publish(Publication(topic=topic, payload=await card(version=2), retain=True))
    await until(lambda: (entry := registry.roster.entry(A)) is not None and entry.version == 2)


async def test_a_refused_card_is_told_to_the_auditors(fabric: tuple[Registry, MemoryTransport]):
    registry, agent = fabric
    async with agent.subscribe(Filter(topic_filter="foa/policies/enforcement")) as heard:
        await agent.publish(Publication(topic="foa/capabilities/updates/a", payload=b"nonsense", retain=True))
        async with asyncio.timeout(5):
            delivery = await anext(heard)
    event = json.loads(delivery.publication.payload)
    assert (event["decision"], event["gate"], event["agent"]) == ("deny", "admission", "a")
    assert "not a usable card" in event["reason"]
    assert len(registry) == 0


async def test_a_hosts_will_takes_all_its_agents_out(fabric: tuple[Registry, MemoryTransport]):
    registry, agent = fabric
    for name in ("a", "b", "c"):
        await agent.publish(
            Publication(topic=f"foa/capabilities/updates/{name}", payload=await card(agent_id=name), retain=True)
        )
    await until(lambda: len(registry) == 3)
    will = json.dumps(json.loads(GONE) | {"agents": ["a", "b"]}).encode()
    await agent.publish(Publication(topic="foa/capabilities/vitals/host", payload=will))
    await until(lambda: not registry.vitals(AgentId("b")).online)
    c = decode_card(await card(agent_id="c"))
    assert await found(registry, c) == ["c"]


async def test_an_agent_that_was_only_told_of_is_known_and_answers_nothing_here():
    registry = make()
    [vcv] = await registry.admit_many([(None, await card())], via="zero-b")
    assert isinstance(vcv, Vcv)
    assert registry.origin(A) == "zero-b"
    assert [hit.agent for hit in await registry.search(IndexQuery(vector=vcv.c, k=1))] == [A]
    assert not await registry.search(IndexQuery(vector=vcv.c, k=1, kind="draft"))
    await registry.admit_many([(A, await card())])  # now its card is heard here
    assert registry.origin(A) == ""
    assert await registry.search(IndexQuery(vector=vcv.c, k=1, kind="draft"))
    await registry.admit_many([(None, await card())], via="zero-b")  # others know it, too: it stays here
    assert registry.origin(A) == ""
    await registry.admit_many([(None, await card(version=2))], via="zero-b")  # it went there
    assert registry.origin(A) == "zero-b"
