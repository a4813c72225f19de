"""One report of several clusters."""

from foa.phases.report import MOST_CLAIMS, failed, report
from foa.values.draft import Claim, Draft, Source
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Subtask
from foa.values.result import ClusterView

SUBTASK = Subtask(id=SubtaskId("s1"), text="Who routes?")


def ended(agent: str, answer: str, confidence: float, *, sources: int = 1, members: tuple[str, ...] = ()):
    claims = tuple(
        Claim(text=f"{answer} {i}", source=Source(kind="file", locator=f"{agent}.py:{i}")) for i in range(sources)
    )
    view = ClusterView(
        id=f"c-{agent}", subtask="s1", members=members or (agent,), rounds=0, consensus=True, representative=agent
    )
    return view, Draft(answer=answer, claims=claims, confidence=confidence), confidence


def test_the_most_confident_cluster_answers_and_the_other_adds_what_it_has_sources_for():
    made = report(
        SUBTASK,
        [ended("git", "the history says otherwise", 0.4), ended("code", "the router routes tasks", 0.9)],
        weights={},
        lost={AgentId("x"): "left"},
    )
    assert made.answer == "the router routes tasks\n\ngit adds:\nthe history says otherwise"
    assert made.by == "code"
    assert [claim.source.locator for claim in made.claims if claim.source] == ["code.py:0", "git.py:0"]
    assert made.lost == {"x": "left"}


def test_a_cluster_without_sources_or_with_the_same_words_adds_nothing():
    made = report(
        SUBTASK,
        [
            ended("code", "the router routes tasks", 0.9),
            ended("echo", "the router routes tasks", 0.5),
            ended("bare", "something else entirely", 0.5, sources=0),
        ],
        weights={},
        lost={},
    )
    assert made.answer == "the router routes tasks"
    assert made.agents == ("bare", "code", "echo")


def test_voices_and_reputation_weigh_beside_confidence():
    # 0.5 · 0.9 · 2/3 = 0.30 beats 0.8 · 0.5 · 1/3 = 0.13
    made = report(
        SUBTASK,
        [ended("one", "alone", 0.8, sources=0), ended("two", "together", 0.5, members=("two", "three"), sources=0)],
        weights={AgentId("one"): 0.5, AgentId("two"): 0.9},
        lost={},
    )
    assert made.by == "two"


def test_claims_are_bounded():
    made = report(SUBTASK, [ended("a", "words", 0.5, sources=64), ended("b", "others", 0.4, sources=9)], weights={}, lost={})
    assert len(made.claims) == MOST_CLAIMS


def test_a_failed_subtask_says_why():
    assert failed(SUBTASK, "nobody came", lost={}).error == "nobody came"
