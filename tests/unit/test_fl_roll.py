"""Whom a run may ask: cards admitted and refused, last wills, comebacks; and whose turn it is at a site."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.fakes import HandClock

from foa.agents.announce import last_will, leaving, vitals_publication
from foa.fl.block import FlBlock, fl_of, node_id
from foa.fl.lease import Lease
from foa.fl.roll import Roll, Wanted
from foa.registry.bloom import bloom
from foa.registry.card import encode_card
from foa.registry.keys import SigningKey, new_key, public_key
from foa.values.ids import AgentId
from foa.values.publication import Publication
from foa.values.resources import Resources
from foa.values.topics import Topics
from foa.values.vcv import Vcv, Vitals

TOPICS = Topics("foa")
SITE = AgentId("clinic")
KEY, OTHER = new_key(), new_key()
WANTED = Wanted(project="hearts", purpose="diagnosis", policies=frozenset({"gdpr"}))


def vcv(site: AgentId = SITE, *, version: int = 1, issued_at: float = 1_000.0, **fl: Any) -> Vcv:
    unit = np.zeros(8, np.float32)
    unit[0] = 1.0
    block = FlBlock(agent=site, **{"project": "hearts", "tasks": ("diagnosis",), **fl})
    return Vcv(
        agent_id=site,
        version=version,
        name=site,
        description="a site",
        skills=(),
        c=unit,
        s=bloom(()),
        r=Resources(),
        p=frozenset({"gdpr", "hipaa"}),
        e=unit,
        embedder="unit-8:1",
        kinds=("fl",),
        issued_at=issued_at,
        fl=fl_of(block),
    )


def card(of: Vcv, key: SigningKey = KEY) -> Publication:
    return Publication(topic=TOPICS.capability(of.agent_id), payload=encode_card(of, key), retain=True)


def heard(*publications: Publication, wanted: Wanted = WANTED) -> Roll:
    roll = Roll(wanted, HandClock())
    for publication in publications:
        roll.hear(publication, TOPICS)
    return roll


def test_a_site_of_the_project_is_there_with_what_its_card_says() -> None:
    roll = heard(card(vcv(samples=128)))
    (block,) = roll.present.values()
    assert (block.agent, block.samples, block.policies) == (SITE, 128, ("gdpr", "hipaa"))
    assert roll.block(node_id(SITE)) == block
    assert roll.key(SITE) == public_key(KEY)
    assert roll.barred == {}


@pytest.mark.parametrize(
    "other",
    [
        vcv(project="lungs"),
        replace(vcv(), kinds=("draft",)),
        replace(vcv(), fl=None),
        replace(vcv(), fl={"project": "lungs", "samples": "many"}),
    ],
)
def test_other_agents_and_sites_of_other_projects_are_passed_over(other: Vcv) -> None:
    roll = heard(card(other))
    assert (roll.present, roll.barred) == ({}, {})


def forged(publication: Publication) -> Publication:
    """The same card with another sample count under the old signature."""
    content = msgspec.json.decode(publication.payload)
    content["vcv"]["fl"]["samples"] = 1_000_000
    return replace(publication, payload=msgspec.json.encode(content))


@pytest.mark.parametrize(
    ("publication", "wanted", "why"),
    [
        (forged(card(vcv(samples=9))), WANTED, "signature does not hold"),
        (replace(card(vcv(AgentId("mallory"))), topic=TOPICS.capability(SITE)), WANTED, "says that it is mallory"),
        (card(vcv(tasks=("weather",))), WANTED, "does not allow the purpose 'diagnosis'"),
        (card(vcv()), replace(WANTED, policies=frozenset({"gdpr", "phi"})), "not cleared for phi"),
        (card(vcv()), replace(WANTED, keys={SITE: public_key(OTHER)}), "another key than the project's FL.toml names"),
        (card(replace(vcv(), fl={"project": "hearts", "samples": 0})), WANTED, "fl block is not usable"),
        (card(vcv(issued_at=2e6)), WANTED, "set its clock"),
    ],
)
def test_a_card_that_will_not_do_keeps_its_site_out_and_says_why(publication: Publication, wanted: Wanted, why: str) -> None:
    roll = heard(publication, wanted=wanted)
    assert roll.present == {}
    assert why in roll.barred[SITE]


def test_a_purpose_that_is_not_said_suits_everybody() -> None:
    assert SITE in {block.id for block in heard(card(vcv()), wanted=Wanted(project="hearts")).present.values()}


def test_nobody_takes_a_site_over_or_away_with_another_key() -> None:
    roll = heard(card(vcv()), card(vcv(version=2, samples=9), OTHER))
    assert roll.present[node_id(SITE)].samples == 1
    roll.hear(card(vcv(project="lungs", version=3), OTHER), TOPICS)
    assert roll.is_here(SITE)
    roll.hear(card(vcv(project="lungs", version=3)), TOPICS)
    assert not roll.is_here(SITE)


def test_a_site_that_lost_a_clearance_is_asked_no_more() -> None:
    roll = heard(card(vcv()), card(replace(vcv(version=2), p=frozenset({"hipaa"}))))
    assert roll.present == {}
    assert roll.barred == {SITE: "it is not cleared for gdpr"}


def test_a_newer_card_takes_the_place_of_the_older_and_an_older_one_does_nothing() -> None:
    roll = heard(card(vcv(version=2, samples=9)), card(vcv(version=1)))
    assert roll.present[node_id(SITE)].samples == 9
    roll.hear(card(vcv(version=3, samples=12)), TOPICS)
    assert roll.present[node_id(SITE)].samples == 12


def test_a_last_will_takes_a_site_away_and_its_vitals_bring_it_back() -> None:
    roll = heard(card(vcv()), last_will(TOPICS, SITE, [SITE], since=1_000.0))
    assert (roll.is_here(SITE), roll.present, roll.barred) == (False, {}, {})
    roll.hear(vitals_publication(SITE, Vitals(), TOPICS), TOPICS)
    assert roll.is_here(SITE)


def test_a_will_that_was_retained_before_the_card_does_not_concern_a_site_that_came_back() -> None:
    will = last_will(TOPICS, SITE, [SITE], since=1_000.0)
    assert not heard(will, card(vcv())).is_here(SITE)
    assert heard(will, card(vcv(issued_at=1_001.0))).is_here(SITE)
    assert heard(card(vcv(issued_at=1_001.0)), will).is_here(SITE)


def test_a_will_of_a_host_of_several_names_them() -> None:
    two = AgentId("ward")
    roll = heard(card(vcv()), card(vcv(two)), last_will(TOPICS, "host-1", [SITE, two], since=1_000.0))
    assert roll.present == {}


def test_a_site_that_left_comes_back_with_a_newer_card_only() -> None:
    roll = heard(card(vcv()), *leaving(SITE, TOPICS))
    assert roll.present == {}
    roll.hear(card(vcv()), TOPICS)
    assert roll.present == {}
    roll.hear(card(vcv(issued_at=1_001.0)), TOPICS)
    assert roll.is_here(SITE)


@pytest.mark.parametrize("payload", [b"{", b"[" * 5_000, b"\xff", b'{"vcv": 3}', b"x" * 100_000])
@pytest.mark.parametrize("topic", [TOPICS.capability, TOPICS.vitals])
def test_nonsense_changes_nothing(payload: bytes, topic: Callable[[str], str]) -> None:
    roll = heard(card(vcv()), Publication(topic=topic(SITE), payload=payload), Publication(topic="foa/x", payload=payload))
    assert roll.is_here(SITE)


async def test_a_site_works_for_one_run_until_that_is_over_or_silent() -> None:
    clock = HandClock()
    lease = Lease(clock, silence_seconds=60.0)
    assert lease.admit("a")
    lease.done()
    assert not lease.admit("b")
    lease.over("b")
    assert not lease.admit("b")
    lease.over("a")
    assert lease.admit("b")
    lease.done()
    await clock.move(59)
    assert not lease.admit("a")
    await clock.move(1)
    assert lease.admit("a")
    assert lease.holder == "a"


async def test_a_run_whose_work_takes_long_is_not_silent() -> None:
    clock = HandClock()
    lease = Lease(clock, silence_seconds=60.0)
    assert lease.admit("a")
    await clock.move(600)
    assert not lease.admit("b")
    lease.over("a")
    assert not lease.admit("b")
    lease.done()
    assert lease.admit("b")
