"""What graded requests make of capability."""

import numpy as np
import pytest
from tests.unit.test_route import Federation

from foa.registry.learned import Learned, LearningRules
from foa.registry.reputation import Outcome
from foa.values.ids import AgentId
from foa.values.vcv import Vector

A, B = AgentId("a"), AgentId("b")
NOW = 1e9


def axis(i: int, size: int = 8) -> Vector:
    return np.eye(size, dtype=np.float32)[i]


def convinced(learned: Learned, sim: float, vector: Vector, *, now: float = NOW) -> float:
    return float(learned.convince([A], np.array([sim], np.float32), vector, now=now)[0])


def test_a_request_just_like_one_that_was_well_done_convinces():
    learned = Learned(LearningRules(trust=0.8))
    learned.add(A, axis(0), grade=1.0, at=NOW, text="")
    # density 1 on its log scale: 0.2 + 0.8 · (1 − e^−0.8) = 0.6405
    assert convinced(learned, 0.2, axis(0)) == pytest.approx(0.6405, abs=1e-3)


def test_a_request_just_like_one_that_was_not_deters():
    learned = Learned(LearningRules(trust=0.8))
    learned.add(A, axis(0), grade=0.0, at=NOW, text="")
    assert convinced(learned, 0.5, axis(0)) == pytest.approx(0.5 * np.exp(-0.8), abs=1e-3)


def test_a_request_unlike_any_and_an_agent_nobody_graded_keep_their_sim():
    learned = Learned()
    learned.add(A, axis(0), grade=1.0, at=NOW, text="")
    assert convinced(learned, 0.2, -axis(0)) == pytest.approx(0.2, abs=1e-3)
    assert learned.convince([B], np.array([0.3], np.float32), axis(0), now=NOW)[0] == pytest.approx(0.3)


def test_a_grade_of_one_half_says_nothing():
    learned = Learned()
    learned.add(A, axis(0), grade=0.5, at=NOW, text="")
    assert convinced(learned, 0.2, axis(0)) == pytest.approx(0.2)


def test_what_was_learned_fades():
    learned = Learned()
    learned.add(A, axis(0), grade=1.0, at=NOW, text="")
    fresh = convinced(learned, 0.2, axis(0))
    assert fresh > convinced(learned, 0.2, axis(0), now=NOW + 400 * 86_400) > 0.2
    assert convinced(learned, 0.2, axis(0), now=NOW + 10_000 * 86_400) == pytest.approx(0.2, abs=1e-3)


def test_the_result_stays_between_0_and_1_whatever_was_graded():
    learned, rng = Learned(), np.random.default_rng(2)
    for i in range(300):
        vector = rng.normal(size=8).astype(np.float32)
        learned.add(A, vector / np.linalg.norm(vector), grade=float(i % 3) / 2, at=NOW, text="")
    for sim in (0.0, 0.5, 1.0):
        assert 0.0 <= convinced(learned, sim, axis(0)) <= 1.0


def test_memory_is_bounded_by_agent_and_in_all():
    learned = Learned(LearningRules(requests=4, agents=2, texts=2))
    for agent in ("a", "b", "c"):
        for i in range(10):
            learned.add(AgentId(agent), axis(i % 8), grade=1.0, at=NOW, text=f"request {i}")
    assert A not in learned
    assert learned.texts(AgentId("c")) == ["request 8", "request 9"]


def test_the_prototype_lies_between_what_is_said_and_what_is_done():
    learned = Learned(LearningRules(prototype=1.0))
    assert learned.prototype(A, axis(0)) is None
    learned.add(A, axis(1), grade=1.0, at=NOW, text="")
    learned.add(A, axis(2), grade=0.0, at=NOW, text="")
    prototype = learned.prototype(A, axis(0))
    assert prototype is not None
    assert prototype[:3] == pytest.approx([0.7071, 0.7071, 0.0], abs=1e-3)


async def test_outcomes_find_an_agent_that_its_description_would_not():
    fed = Federation()
    await fed.add("quiet", "code")
    await fed.add("loud", "law heart")
    await fed.strangers(4)
    assert (await fed.route("heart")).candidates[0].agent == "loud"
    done = [
        Outcome(agent="quiet", kind="general", job=f"j{i}", subtask="s", grade=1.0, at=fed.clock.now(), text="heart")
        for i in range(5)
    ]
    await fed.registry.learn(done)
    routing = await fed.route("heart")
    assert routing.candidates[0].agent == "quiet"
    assert routing.fit > 0.9


async def test_what_a_stranger_grades_teaches_a_fifth():
    fed = Federation()
    await fed.add("a", "code")
    await fed.strangers(5)
    told = Outcome(agent="a", kind="x", job="j", subtask="s", grade=0.0, at=fed.clock.now(), text="code", by="stranger")
    await fed.registry.learn([told])
    stranger = (await fed.route("code")).fit
    await fed.registry.learn(
        [Outcome(agent="a", kind="x", job="k", subtask="s", grade=0.0, at=fed.clock.now(), text="code")]
    )
    assert (await fed.route("code")).fit < stranger


async def test_outcomes_that_came_before_the_card_are_kept_for_it():
    fed = Federation()
    told = Outcome(agent="a", kind="x", job="j", subtask="s", grade=1.0, at=fed.clock.now(), text="heart")
    await fed.registry.learn([told])
    await fed.add("a", "code")
    assert (await fed.route("heart")).candidates[0].factors.similarity > 0.5


def test_of_many_outcomes_only_those_that_stay_remembered_are_embedded():
    learned = Learned(LearningRules(requests=2))
    outcomes = [
        Outcome(agent=agent, kind="x", job=f"j{i}", subtask="s", grade=1.0, at=float(i), text=f"{i}")
        for i, agent in enumerate("aabaab")
    ]
    # of a: 0, 1, 3, 4; of b: 2, 5
    assert [outcome.text for outcome in learned.newest(outcomes)] == ["2", "3", "4", "5"]
