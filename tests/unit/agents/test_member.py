"""Whose Begin a member obeys."""

from tests.agents import PLENTY

from foa.agents.functions import Question, agent
from foa.agents.member import Member
from foa.messages import Begin, Join
from foa.messages import Member as Named
from foa.transport.memory import MemoryHub, MemoryTransport
from foa.values.draft import Draft
from foa.values.ids import AgentId

A = AgentId("a")


def member() -> Member:
    @agent("a")
    async def brain(question: Question) -> str:
        """Answers."""
        return question.text

    join = Join(
        job="job-1",
        subtask="s1",
        cluster="c-1",
        text="a subtask",
        members=tuple(Named(agent=name, weight=0.5) for name in ("a", "b", "c")),
        rounds=3,
        round_seconds=0.05,
        quorum=0.6,
        gain=0.01,
        draft=Draft(answer="an answer"),
        budget=PLENTY,
    )
    return Member(A, join, brain.brain, transport=MemoryTransport(MemoryHub(), client_id="host"), topic="channel")


def test_a_begin_that_names_somebody_who_was_never_a_member_is_not_obeyed():
    one = member()
    one.hear(Begin(cluster="c-1", members=("a", "stranger")))
    assert one.so_far is None
    one.hear(Begin(cluster="c-1", members=("a", "b")))
    assert one.so_far is not None


async def test_a_second_begin_changes_nothing():
    one = member()
    one.hear(Begin(cluster="c-1", members=("b", "c")))
    one.hear(Begin(cluster="c-1", members=("a", "b", "c")))
    outcome = await one.run(begin_seconds=1.0)
    assert (outcome.rounds, outcome.reason) == (0, "Begin does not name this agent")
