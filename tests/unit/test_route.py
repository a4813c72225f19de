"""Routing: who is taken, who is not, and what is said about it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from tests.fakes import HandClock

from foa.errors import Unroutable
from foa.index.exact import ExactIndex
from foa.registry.admission import RegistryLimits
from foa.registry.calibration import calibration_of
from foa.registry.card import build_vcv, encode_card
from foa.registry.keys import new_key
from foa.registry.registry import Registry
from foa.registry.reputation import Outcome, Reputation
from foa.registry.vitals import GONE, encode_vitals
from foa.route import Router, RouteRules, Routing
from foa.values.ids import AgentId
from foa.values.resources import Needs, Price, Resources
from foa.values.vcv import Matrix, Vitals

KEY = new_key()
WORDS = ("code", "python", "law", "heart", "cite", "guess")


class WordEmbedder:
    """One dimension for each of a few words: nearness can be worked out by hand."""

    id = "words:1"
    dimension = len(WORDS) + 1

    async def embed(self, texts: Sequence[str]) -> Matrix:
        rows = np.array([[*(text.lower().count(word) for word in WORDS), 0.0] for text in texts], np.float32)
        rows[rows.sum(axis=1) == 0, -1] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Asked(WordEmbedder):
    """Under the name of an embedder with an intro for requests; remembers what it was asked."""

    id = "minilm-l6-int8+wordllama-640:00000000"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Matrix:
        self.texts += texts
        return await super().embed(texts)


class Federation:
    """A registry with a few agents and a router in front."""

    def __init__(self, embedder: WordEmbedder | None = None, **rules: object) -> None:
        self.clock = HandClock()
        self.embedder = embedder or WordEmbedder()
        limits = RegistryLimits(search_vectors=0)
        self.registry = Registry(ExactIndex(len(WORDS) + 1), self.embedder, clock=self.clock, limits=limits)
        self.reputation = Reputation()
        chosen = RouteRules(**({"words": False} | rules))  # type: ignore[arg-type]
        self.router = Router(self.registry, self.embedder, self.reputation, clock=self.clock, rules=chosen)

    async def add(self, agent: str, text: str, **fields: object) -> None:
        vcv = await build_vcv(
            agent_id=agent,
            version=1,
            name=text,
            description="",
            embedder=self.embedder,
            **fields,  # type: ignore[arg-type]
        )
        await self.registry.admit(encode_card(vcv, KEY))

    async def strangers(self, many: int) -> None:
        """Agents at right angles to every request of these tests: a fit is told from six agents on."""
        for i in range(many):
            await self.add(f"stranger-{i}", "cooks soup")

    async def route(self, text: str, **asked: object) -> Routing:
        return await self.router.route(text=text, **asked)  # type: ignore[arg-type]


def names(routing: Routing) -> list[str]:
    return [candidate.agent for candidate in routing.candidates]


async def test_the_nearest_that_can_comes_first_with_its_factors():
    fed = Federation()
    await fed.add("coder", "python code")
    await fed.add("lawyer", "law")
    await fed.add("both", "python law")
    routing = await fed.route("python code")
    assert names(routing) == ["coder", "both"]
    best = routing.candidates[0]
    assert best.factors.similarity == pytest.approx(1.0, abs=1e-3)  # the wire rounds to float16
    assert (best.factors.policy, best.factors.resources, best.factors.spec) == (1.0, 1.0, 1.0)
    assert best.score == pytest.approx(0.8, abs=1e-3)  # reputation of a newcomer
    assert routing.refusals == {"lawyer": "α 0.00 is below 0.3 (similarity 0.00)"}
    assert routing.fallback == ""


async def test_policy_is_a_gate_and_says_so():
    fed = Federation()
    await fed.add("open", "heart")
    await fed.add("cleared", "heart law", policies={"phi", "gdpr"})
    routing = await fed.route("heart", policies=["phi"])
    assert names(routing) == ["cleared"]
    assert routing.refusals == {"open": "policy: not cleared for phi"}


async def test_no_fallback_relaxes_policy():
    fed = Federation()
    await fed.add("open", "heart")
    with pytest.raises(Unroutable, match="not cleared for phi") as caught:
        await fed.route("heart", policies=["phi"])
    assert caught.value.refusals == {"open": "policy: not cleared for phi"}


async def test_an_empty_federation_says_what_to_do():
    with pytest.raises(Unroutable, match="no agent is known"):
        await Federation().route("heart")


async def test_who_is_away_and_could_take_it_is_named_and_at_most_five():
    fed = Federation()
    for i in range(7):
        await fed.add(f"a{i}", "code")
        await fed.registry.hear_vitals(AgentId(f"a{i}"), GONE)
    await fed.add("b", "code", kinds=("propose",))
    with pytest.raises(Unroutable, match="a0: is away since its connection was lost; it is asked again") as caught:
        await fed.route("code")
    assert caught.value.away == ("a0", "a1", "a2", "a3", "a4")
    assert caught.value.refusals[AgentId("b")] == "requests: does not answer 'draft'"
    assert str(caught.value).endswith("and 1 more")


async def test_who_is_away_and_may_not_take_it_is_not_named():
    fed = Federation()
    await fed.add("a", "code")
    await fed.registry.hear_vitals(AgentId("a"), GONE)
    with pytest.raises(Unroutable, match="a: policy: not cleared for phi") as caught:
        await fed.route("code", policies=["phi"])
    assert caught.value.away == ()


async def test_required_skills_and_requests_are_gates():
    fed = Federation()
    await fed.add("a", "code", skills=["python"])
    await fed.add("b", "code")
    await fed.add("c", "code", skills=["python"], kinds=("draft",))
    routing = await fed.route("code", skills=["Python"], request_kind="propose")
    assert names(routing) == ["a"]
    assert routing.refusals == {"b": "skills: does not have Python", "c": "requests: does not answer 'propose'"}


async def test_below_the_threshold_the_nearest_are_taken_and_it_is_said():
    fed = Federation(fallback=2)
    for i in range(4):
        await fed.add(f"a{i}", "law " * 9 + "code " * (1 + (i == 2)))
    routing = await fed.route("code")
    assert len(routing.candidates) == 2
    assert names(routing)[0] == "a2"
    assert "no agent reaches the threshold 0.3 (best 0.22)" in routing.fallback
    assert len(routing.refusals) == 2


async def test_price_load_and_latency_lower_the_score_and_are_named():
    fed = Federation(threshold=0.5)
    await fed.add("cheap", "code")
    await fed.add("dear", "code", resources=Resources(price=Price(usd_per_call=0.05)))
    await fed.add("busy", "code")
    await fed.registry.hear_vitals(AgentId("busy"), encode_vitals(Vitals(load=1.0, slots=2)))
    routing = await fed.route("code", needs=Needs(max_usd_per_call=0.01))
    assert names(routing) == ["cheap", "busy"]
    assert "most for its price" in routing.refusals[AgentId("dear")]
    assert routing.slots == {"cheap": 4, "busy": 2}


async def test_a_spec_that_agrees_with_the_demand_wins():
    fed = Federation()
    await fed.add("careful", "code", spec="cite")
    await fed.add("careless", "code", spec="guess")
    routing = await fed.route("code", spec="cite")
    assert names(routing) == ["careful", "careless"]
    assert [candidate.factors.spec for candidate in routing.candidates] == pytest.approx([1.0, 0.5])


async def test_reputation_orders_and_does_not_gate():
    fed = Federation()
    await fed.add("good", "code")
    await fed.add("bad", "code")
    for i in range(30):
        for agent, grade in (("good", 1.0), ("bad", 0.0)):
            outcome = Outcome(agent=agent, kind="general", job=f"j{i}", subtask="s", grade=grade, at=fed.clock.now())
            fed.reputation.record(outcome)
    routing = await fed.route("code")
    assert names(routing) == ["good", "bad"]
    assert routing.candidates[1].factors.reputation < 0.1


async def test_the_same_question_is_routed_the_same_way_twice():
    fed = Federation()
    for i in range(8):
        await fed.add(f"a{i}", "code")
    fed.reputation.record(Outcome(agent="a1", kind="general", job="j", subtask="s", grade=0.5, at=fed.clock.now()))
    first, second = await fed.route("code"), await fed.route("code")
    assert first.candidates == second.candidates


async def test_refusals_are_bounded():
    fed = Federation(explained=5)
    for i in range(30):
        await fed.add(f"a{i}", "heart")
    await fed.add("ok", "heart", policies={"phi"})
    assert len((await fed.route("heart", policies=["phi"])).refusals) == 5


async def test_a_vector_that_is_known_is_not_embedded_again():
    fed = Federation()
    await fed.add("coder", "code")
    vector = (await WordEmbedder().embed(["code"]))[0]
    routing = await fed.route("law", vector=vector)
    assert routing.vector is vector
    assert names(routing) == ["coder"]


async def test_a_request_is_embedded_the_same_way_when_it_is_routed_and_when_it_is_learned_from():
    embedder = Asked()
    fed = Federation(embedder)
    await fed.add("coder", "code")
    embedder.texts.clear()
    await fed.route("heart")
    outcome = Outcome(agent="coder", kind="general", job="j", subtask="s", grade=1.0, at=fed.clock.now(), text="heart")
    await fed.registry.learn([outcome])
    asked, learned, *_ = embedder.texts
    assert asked == learned == f"{calibration_of(Asked.id).asked}heart" != "heart"


async def test_where_even_the_nearest_can_hardly_do_it_no_agent_fits_and_it_says_so():
    fed = Federation()
    await fed.add("cook", "cooks soup")  # no word of WORDS: at right angles to every request
    await fed.strangers(5)
    with pytest.raises(Unroutable, match="even the nearest, cook, can hardly do it") as caught:
        await fed.route("python code")
    # a similarity of 0 counts as .001: log odds −.31 · 6.907 − 1.62 = −3.76, 2 %
    assert "fit 2%; less than 10% is none: FOA_FIT_THRESHOLD" in str(caught.value)
    assert caught.value.refusals["cook"] == "similarity 0.00"


async def test_with_a_fit_threshold_of_nothing_the_nearest_are_always_taken():
    fed = Federation(fit=0.0)
    await fed.strangers(6)
    routing = await fed.route("python code")
    assert len(routing.candidates) == 4
    assert "(best 0.00, fit 2%)" in routing.fallback


async def test_a_fit_is_of_the_best_and_the_next_five():
    fed = Federation()
    await fed.add("coder", "python code")
    await fed.add("both", "python law")
    await fed.strangers(4)
    routing = await fed.route("python code")
    # similarities 1, .5 and four of 0: log odds .31 · ln 999 + 9.02 · (1 − .1) − 1.62 = 8.64
    assert routing.fit == pytest.approx(1 / (1 + math.exp(-8.64)), abs=1e-4)


async def test_where_nobody_here_fits_who_is_away_and_nearer_is_named():
    fed = Federation()
    await fed.strangers(6)
    for name, text in (("coder", "python code"), ("lawyer", "law")):
        await fed.add(name, text)
        await fed.registry.hear_vitals(AgentId(name), GONE)
    with pytest.raises(Unroutable, match="can hardly do it") as caught:
        await fed.route("python code")
    assert caught.value.away == ("coder",)  # the lawyer's similarity is that of those who are here, 0


async def test_fewer_than_six_agents_tell_no_fit_and_refuse_nobody():
    fed = Federation()
    await fed.strangers(5)
    routing = await fed.route("python code")
    assert routing.fit is None
    assert routing.fallback.startswith("no agent reaches the threshold 0.3 (best 0.00); ")


async def test_how_many_candidates_are_wanted_does_not_change_the_fit():
    fed = Federation()
    for i in range(8):
        await fed.add(f"a{i}", "law " * 2 + "code")
    many, one = await fed.route("code"), await fed.route("code", k=1)
    # the next five are as near: no lead, however few of them are taken
    assert len(one.candidates) == 1
    assert one.fit == many.fit
