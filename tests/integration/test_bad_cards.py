"""What a registry is sent over a real broker and must not take: each is refused or bounded, with a reason, and it works on.

Every test sends one bad thing at a registry that listens, reads the reason where auditors read it, and then announces an
honest agent, which has to be found.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foa.app.clock import SystemClock
from foa.app.zero import open_registry
from foa.errors import FabricError
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Delivery, Transport
from foa.registry.bloom import bloom
from foa.registry.canonical import canonical
from foa.registry.card import TYPE, build_vcv, card_body, encode_card, rounded
from foa.registry.keys import SigningKey, new_key, public_key, sign
from foa.registry.registry import Registry
from foa.registry.reputation import Reputation
from foa.route import Router, RouteRules
from foa.transport.mqtt import MqttTransport
from foa.values.ids import AgentId
from foa.values.publication import Filter, Publication
from foa.values.topics import Topics
from foa.values.vcv import Vcv
from tests.brokers import start_embedded, start_mosquitto
from tests.rawmqtt import DISCONNECT, PUBACK, Raw, publish_packet

EMBEDDER, CLOCK, TOPICS = WordLlamaEmbedder(), SystemClock(), Topics()
KEY, OTHER_KEY = new_key(), new_key()
BAD = AgentId("bad")
#: Many lines of work, a specialist each; what a stuffer claims all of.
WORK = {
    "chess": "Which opening should I play against the Sicilian?",
    "contracts": "Check this rental contract for missing clauses.",
    "dermatology": "I have an itching red rash on my arm; what is it?",
    "databases": "Why does this SQL query not use the index?",
    "gardening": "When should I prune my apple trees?",
    "astronomy": "How far away is the Andromeda galaxy?",
    "taxes": "Can I deduct my home office from my income tax?",
    "translation": "Translate this letter from German into Spanish.",
    "cooking": "How long do I roast a chicken of two kilograms?",
    "aviation": "What does a METAR report say about the weather at the airport?",
    "music": "Which chords fit a melody in D minor?",
    "plumbing": "My kitchen tap drips; how do I change the washer?",
    "statistics": "Which test compares two proportions?",
    "cardiology": "What does ST elevation in an ECG mean?",
    "typography": "Which typeface is readable in small print?",
    "networks": "Why do packets get lost on my wireless router?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A registry that listens, and what it says to auditors."""

    registry: Registry
    wire: Transport
    port: int  #: of the broker
    audit: AsyncIterator[Delivery]

    async def send(self, payload: bytes, agent: AgentId = BAD) -> None:
        await self.wire.publish(Publication(topic=TOPICS.capability(agent), payload=payload, retain=True))

    async def reason(self, agent: AgentId = BAD) -> str:
        """Why a card of this agent was refused, as auditors hear it."""
        async for delivery in self.audit:
            await delivery.acknowledge()
            told = json.loads(delivery.publication.payload)
            if told["agent"] == agent:
                assert (told["decision"], told["gate"]) == ("deny", "admission")
                assert self.registry.refusals[agent] == told["reason"][:500]
                return str(told["reason"])
        raise AssertionError("the auditors hear nothing any more")

    async def takes(self, vcv: Vcv, key: SigningKey = KEY) -> Vcv:
        """Announce an agent; it has to be admitted."""
        await self.send(encode_card(vcv, key), vcv.agent_id)
        await self.registry.known([vcv.agent_id])
        assert vcv.agent_id not in self.registry.refusals
        held = self.registry.get(vcv.agent_id)
        assert held is not None
        return held

    async def works_on(self) -> None:
        """An honest agent comes and is found, best of all."""
        await self.takes(await vcv_of("honest", "Restores old violins and cellos."))
        assert await self.best("Who restores a violin?") == "honest"

    async def best(self, text: str) -> str:
        rules = RouteRules(threshold=0.0, reputation=False)
        router = Router(self.registry, EMBEDDER, Reputation(), clock=CLOCK, rules=rules)
        return (await router.route(text=text)).candidates[0].agent


@pytest.fixture(params=["embedded", "mosquitto"])
async def listening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Listening]:
    broker = start_embedded() if request.param == "embedded" else start_mosquitto(tmp_path)
    async with asyncio.timeout(30), broker as running, registry_at(running.port) as made:
        yield made


@asynccontextmanager
async def registry_at(port: int) -> AsyncGenerator[Listening]:
    url, known = f"mqtt://127.0.0.1:{port}", frozenset({"gdpr", "region:*"})
    async with (
        MqttTransport(url, client_id="zero") as ears,
        MqttTransport(url, client_id="agent") as wire,
        wire.subscribe(Filter(topic_filter=TOPICS.enforcement())) as audit,
        open_registry(ears, embedder=EMBEDDER, clock=CLOCK, topics=TOPICS, name="zero", policies=known) as registry,
    ):
        yield Listening(registry=registry, wire=wire, audit=audit, port=port)


async def vcv_of(agent: str, text: str, **more: Any) -> Vcv:
    fields = {"version": 1, "name": agent, "description": text, "issued_at": CLOCK.now()} | more
    return await build_vcv(agent_id=agent, embedder=EMBEDDER, **fields)


def signed(vcv: Vcv, change: Mapping[str, object] | None = None, key: SigningKey = KEY) -> bytes:
    """A card whose signature holds, whatever it says: `encode_card` would not write it."""
    body = card_body(replace(vcv, public_key=public_key(key))) | dict(change or {})
    return canonical({"vcv": body, "jws": sign(body, key, typ=TYPE)})


def packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def vector(*values: float, dimension: int = EMBEDDER.dimension) -> str:
    made = np.zeros(dimension)
    made[: len(values)] = values
    return packed(made)


SAID: dict[str, tuple[dict[str, object], str]] = {
    "a wrong dimension": (
        {"c": vector(1.0, dimension=8), "e": vector(1.0, dimension=8)},
        f"c has 8 dimensions, {EMBEDDER.id} gives 256",
    ),
    "c and e of different dimensions": ({"c": vector(1.0, dimension=8)}, "c and e have different dimensions"),
    "NaN in c": ({"c": vector(float("nan"), 1.0)}, "c holds NaN or infinity"),
    "infinity in e": ({"e": vector(float("inf"))}, "e holds NaN or infinity"),
    "a zero vector": ({"c": vector()}, "c has length 0; normalise it to 1"),
    "a vector of length 2": ({"c": vector(2.0)}, "c has length 2; normalise it to 1"),
    "another text's vector": ({"c": vector(1.0)}, "c is not the embedding of its own text"),
    "a policy label that nobody knows": ({"p": ["gdpr", "root"]}, "this federation knows no policy label root"),
    "a policy label that is none": ({"p": ["GDPR!"]}, "not a usable card"),
    "a clock an hour ahead": ({"issued_at": CLOCK.now() + 3_600}, "its card is dated 3,"),
    "an unknown schema": ({"schema": "foa.vcv/9"}, "a card of schema 'foa.vcv/9' is not known here"),
    "another agent's id": ({"agent_id": "somebody"}, "the card under this id says it is somebody"),
    "a version below 1": ({"version": 0}, "not a usable card"),
    "a filter that has every skill": ({"s": packed(np.full(64, np.nan))}, "s is not the Bloom filter of its 0 skills"),
    "more skills than a card holds": (
        {"skills": (stuffed := [f"skill {i}" for i in range(129)]), "s": ""},
        "not a usable card: Expected `array` of length <= 128",
    ),
}


@pytest.mark.parametrize("what", SAID)
async def test_a_signed_card_that_says_it_is_refused(listening: Listening, what: str):
    change, reason = SAID[what]
    await listening.send(signed(await vcv_of("bad", "Does things."), change))
    assert reason in await listening.reason()
    assert BAD not in listening.registry
    await listening.works_on()


def unsigned(card: bytes) -> bytes:
    return canonical(json.loads(card) | {"jws": ""})


def under_another_signature(card: bytes) -> bytes:
    document = json.loads(card)
    document["vcv"]["description"] = "Does everything."
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unsigned, "it has no signature of the form"),
        (under_another_signature, "its signature does not hold"),
        (lambda card: card[:-40], "not a usable card"),
        (lambda card: b"\xff" * 100, "not a usable card"),
        (lambda card: b"[" * 60_000, "not a usable card"),
        (lambda card: card + b" " * 70_000, "over the limit of 65,536"),
    ],
    ids=["unsigned", "changed", "cut-short", "no-json", "nested", "too-long"],
)
async def test_bytes_that_are_no_card_are_refused(listening: Listening, spoil: Callable[[bytes], bytes], reason: str):
    await listening.send(spoil(signed(await vcv_of("bad", "Does things."))))
    assert reason in await listening.reason()
    assert BAD not in listening.registry
    await listening.works_on()


async def test_a_card_of_ten_megabytes_does_not_reach_the_registry_and_one_below_the_packet_limit_is_refused(
    listening: Listening,
):
    huge = signed(await vcv_of("bad", "Does things."), {"more": "x" * 10_000_000})
    with pytest.raises(FabricError, match=r"a payload of 10,00\d,\d+ bytes is over 1,000,000"):
        await listening.send(huge)
    stranger = await Raw.open(listening.port)  # another client, which does not hold back
    await stranger.connect("stranger")
    stranger.send(publish_packet(TOPICS.capability(BAD), huge, qos=1))
    answer = await stranger.receive_new()
    # the embedded broker ends the connection: packet too large; Mosquitto takes it and gives it to nobody who says less
    assert answer.reason == 0x95 if answer.kind == DISCONNECT else answer.kind == PUBACK
    stranger.writer.close()
    await listening.send(signed(await vcv_of("bad", "Does things."), {"more": "x" * 900_000}))
    assert "over the limit of 65,536" in await listening.reason()
    assert BAD not in listening.registry
    await listening.works_on()


async def test_a_version_that_goes_back_and_one_version_of_two_contents_are_refused(listening: Listening):
    now = CLOCK.now()
    first = await vcv_of("bad", "Does things.", version=5, issued_at=now)
    await listening.takes(first)
    await listening.send(signed(await vcv_of("bad", "Did things.", version=4, issued_at=now + 1)))
    assert "version 4 goes back behind 5" in await listening.reason()
    await listening.send(signed(await vcv_of("bad", "Does others.", version=5, issued_at=now + 1)))
    assert "version 5 is known with another content" in await listening.reason()
    held = listening.registry.get(BAD)
    assert held is not None
    assert held.description == "Does things."
    await listening.works_on()


async def test_an_id_that_another_key_took_first_is_refused(listening: Listening):
    await listening.takes(await vcv_of("bad", "Does things."))
    await listening.send(signed(await vcv_of("bad", "Steals the name.", version=2), key=OTHER_KEY))
    assert f"this id belongs to another key ({public_key(KEY)[:12]})" in await listening.reason()
    held = listening.registry.get(BAD)
    assert held is not None
    assert held.public_key == public_key(KEY)
    await listening.works_on()


async def test_a_card_of_an_unknown_embedder_is_read_by_its_text_and_not_by_its_vector(listening: Listening):
    await listening.takes(await vcv_of("roses", "Prunes roses."))
    wanted = (await EMBEDDER.embed(["Who prunes roses?"]))[0]
    liar = replace(await vcv_of("bad", "Repairs clocks."), c=rounded(wanted), embedder="another-256:1")
    held = await listening.takes(liar, OTHER_KEY)
    assert float(held.c @ wanted) < 0.5
    assert await listening.best("Who prunes roses?") == "roses"
    assert await listening.best("Who repairs clocks?") == "bad"
    await listening.works_on()


async def test_a_clock_that_is_an_hour_behind_hinders_nobody(listening: Listening):
    await listening.takes(await vcv_of("bad", "Does things.", issued_at=CLOCK.now() - 3_600))
    await listening.works_on()


async def test_a_key_that_lies_three_times_is_out_with_all_its_agents(listening: Listening):
    await listening.takes(await vcv_of("accomplice", "Does things."), OTHER_KEY)
    vcv = await vcv_of("bad", "Does things.")
    for _ in range(3):
        await listening.send(signed(vcv, {"c": vector()}, key=OTHER_KEY))
        assert "normalise it to 1" in await listening.reason()
    await listening.send(signed(vcv, key=OTHER_KEY))
    assert "its key is quarantined" in await listening.reason()
    assert AgentId("accomplice") not in listening.registry
    await listening.works_on()


async def test_a_key_that_floods_is_held_to_its_rate(listening: Listening):
    vcv = await vcv_of("bad", "Does things.")
    await listening.takes(vcv, OTHER_KEY)
    for version in range(2, 630):  # 600 at once are allowed
        await listening.send(signed(replace(vcv, version=version), key=OTHER_KEY))
    assert "its key updates too often; 2 a second is the limit" in await listening.reason()
    await listening.works_on()


@pytest.mark.parametrize("payload", [b"{", b"[" * 4_000, b'{"schema":"foa.vitals/1","load":NaN}', b"x" * 100_000])
async def test_vitals_that_are_none_change_nothing(listening: Listening, payload: bytes):
    await listening.takes(await vcv_of("bad", "Does things."))
    await listening.wire.publish(Publication(topic=TOPICS.vitals(BAD), payload=payload, qos=1))
    await listening.works_on()
    assert listening.registry.vitals(BAD).online
    assert listening.registry.vitals(BAD).load == 0.0


async def test_an_agent_that_advertises_every_skill_wins_nothing_from_specialists(listening: Listening):
    for name, request in WORK.items():
        await listening.takes(await vcv_of(name, f"Knows about {name}.", skills=[name], examples=[request]))
    everything = [*WORK, *(f"expert in {name}" for name in WORK), *(f"{name} questions" for name in WORK)]
    stuffer = await vcv_of(
        "bad", f"The best at {', '.join(WORK)} and everything else.", skills=everything, examples=list(WORK.values())
    )
    assert stuffer.s == bloom(everything)
    await listening.takes(stuffer, OTHER_KEY)
    asked = {name: f"I need help with {name}. {request}" for name, request in WORK.items()}
    won = [name for name, text in asked.items() if await listening.best(text) == "bad"]
    # 16 requests, of which it repeats every word; it is bounded to 8 vectors beside c
    assert won == []
    await listening.works_on()
