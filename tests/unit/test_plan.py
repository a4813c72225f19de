"""Worked examples of merging, validating, revising and clustering."""

import numpy as np
import pytest

from foa.plan.merge import AgentProposal, merge
from foa.plan.nodes import single
from foa.plan.revise import revise
from foa.plan.validate import predecessors, sinks, topological, validate
from foa.values.ids import AgentId, SubtaskId
from foa.values.plan import Edge, Plan, Proposal, ProposedSubtask, Subtask
from foa.values.task import Task

TASK = Task(text="Compare two drugs", policies=("hipaa",), skills=("medicine",))
AXES = np.eye(8, dtype=np.float32)


def ids(*names: str) -> tuple[SubtaskId, ...]:
    return tuple(SubtaskId(name) for name in names)


def plan_of(names: str, *edges: str) -> Plan:
    return Plan(
        subtasks=tuple(Subtask(id=SubtaskId(name), text=name) for name in names.split()),
        edges=tuple(Edge(before=SubtaskId(e.split(">")[0]), after=SubtaskId(e.split(">")[1])) for e in edges),
    )


def arrows(plan: Plan) -> set[str]:
    return {f"{edge.before}>{edge.after}" for edge in plan.edges}


def says(agent: str, weight: float, *subtasks: tuple[str, int], edges: tuple[tuple[int, int], ...] = ()) -> AgentProposal:
    """A proposal whose subtasks point along these axes: equal axes are equal subtasks."""
    return AgentProposal(
        agent=AgentId(agent),
        weight=weight,
        proposal=Proposal(subtasks=tuple(ProposedSubtask(text=text) for text, _ in subtasks), edges=edges),
        vectors=AXES[[axis for _, axis in subtasks]],
    )


# ── merge ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_subtasks_that_mean_the_same_become_one_with_the_weightier_text() -> None:
    plan = merge(
        [
            says("ann", 0.3, ("find sources", 0), ("write", 1), edges=((0, 1),)),
            says("bob", 0.6, ("look for sources", 0), ("check", 2), edges=((0, 1),)),
        ],
        task=TASK,
    )
    assert [subtask.text for subtask in plan.subtasks] == ["look for sources", "write", "check"]
    assert plan.subtasks[0].proposers == ("ann", "bob")
    assert {(edge.before, edge.after, edge.proposers) for edge in plan.edges} == {
        ("s1", "s2", ("ann",)),
        ("s1", "s3", ("bob",)),
    }
    # shares of the voices: 0.3 / 0.9 and 0.6 / 0.9
    assert [round(edge.weight, 3) for edge in plan.edges] == [0.333, 0.667]


def test_a_cycle_is_broken_at_its_weakest_edge_and_the_plan_says_so() -> None:
    plan = merge(
        [
            says("ann", 0.5, ("a", 0), ("b", 1), edges=((0, 1),)),
            says("bob", 0.4, ("a", 0), ("b", 1), edges=((1, 0),)),
            says("cid", 0.2, ("a", 0), ("b", 1), edges=((1, 0),)),
        ],
        task=TASK,
    )
    # b before a weighs 0.6 / 1.1, a before b 0.5 / 1.1
    assert [subtask.text for subtask in plan.subtasks] == ["b", "a"]
    assert arrows(plan) == {"s1>s2"}
    assert plan.notes == ("left out 'a' → 'b' (weight 0.45): it closed a cycle",)


def test_what_a_longer_path_implies_is_not_drawn() -> None:
    plan = merge([says("ann", 1, ("a", 0), ("b", 1), ("c", 2), edges=((0, 1), (1, 2), (0, 2)))], task=TASK)
    assert arrows(plan) == {"s1>s2", "s2>s3"}


def test_proposals_that_disagree_entirely_leave_the_best_ones_plan() -> None:
    plan = merge([says("ann", 0.3, ("a", 0), ("b", 1)), says("bob", 0.6, ("c", 2), ("d", 3), edges=((1, 0),))], task=TASK)
    assert [subtask.text for subtask in plan.subtasks] == ["d", "c"]
    assert plan.notes == ("the 2 proposals share no subtask: the plan of bob, weighed highest, stands",)


def test_nonsense_indexes_are_dropped_and_said() -> None:
    plan = merge([says("ann", 1, ("a", 0), ("b", 1), edges=((0, 1), (0, 1), (0, 0), (5, 1), (-1, 0)))], task=TASK)
    assert arrows(plan) == {"s1>s2"}
    assert plan.notes == ("ann: dropped 4 edges that were repeated, led nowhere or to themselves",)


def test_one_proposers_different_subtasks_stay_apart_however_similar() -> None:
    near = np.array([[1, 0.4], [1, 0.9]], dtype=np.float32)  # cosine 0.94: over the merge cut, under near-identical
    proposal = Proposal(subtasks=(ProposedSubtask(text="a"), ProposedSubtask(text="b")))
    ann = AgentProposal(agent=AgentId("ann"), proposal=proposal, weight=1, vectors=near)
    assert len(merge([ann], task=TASK).subtasks) == 2
    bob = AgentProposal(agent=AgentId("bob"), proposal=proposal, weight=1, vectors=near)
    assert [subtask.text for subtask in merge([ann, bob], task=TASK).subtasks] == ["a", "b"]


def test_one_proposers_repeated_subtask_is_one() -> None:
    plan = merge([says("ann", 1, ("a", 0), ("a again", 0), ("b", 1), edges=((0, 2), (1, 2), (0, 1)))], task=TASK)
    assert [subtask.text for subtask in plan.subtasks] == ["a", "b"]
    assert arrows(plan) == {"s1>s2"}


def test_the_least_supported_nodes_go_first_and_order_survives_them() -> None:
    plan = merge(
        [
            says("ann", 0.6, ("a", 0), ("c", 2), ("d", 3)),
            says("bob", 0.4, ("a", 0), ("b", 1), ("c", 2), edges=((0, 1), (1, 2))),
        ],
        task=TASK,
        nodes_max=3,
    )
    assert [subtask.text for subtask in plan.subtasks] == ["a", "c", "d"]
    assert [(e.before, e.after, e.proposers) for e in plan.edges] == [("s1", "s2", ("bob",))]
    assert "left out 'b': over the limit of 3 subtasks" in plan.notes[0]


def test_one_voice_cannot_ask_for_a_skill_on_behalf_of_others() -> None:
    def with_skills(agent: str, *skills: str) -> AgentProposal:
        two = (ProposedSubtask(text="a", skills=skills), ProposedSubtask(text="b"))
        return AgentProposal(agent=AgentId(agent), proposal=Proposal(subtasks=two), weight=1, vectors=AXES[:2])

    plan = merge([with_skills("ann", "sql"), with_skills("bob", "sql", "magic"), with_skills("cid")], task=TASK)
    assert plan.subtasks[0].skills == ("sql",)


@pytest.mark.parametrize("made", [[], [says("ann", 1)], [says("ann", 1, (" ", 0))], [says("ann", 1, ("the same", 0))]])
def test_a_task_that_needs_no_splitting_stays_whole(made: list[AgentProposal]) -> None:
    plan = merge(made, task=TASK)
    (subtask,) = plan.subtasks
    assert (subtask.id, subtask.text, subtask.policies, subtask.skills) == (
        "s1",
        "Compare two drugs",
        ("hipaa",),
        ("medicine",),
    )


def test_a_task_left_whole_is_shortened_to_what_the_wire_takes() -> None:
    (subtask,) = single(Task(text="x" * 5_000)).subtasks
    assert len(subtask.text) == 2_000
    assert single(Task(text=" ")).subtasks[0].text


def test_weights_of_nothing_count_the_same() -> None:
    plan = merge([says("ann", 0, ("a", 0), ("b", 1), edges=((0, 1),)), says("bob", 0, ("a", 0), ("b", 1))], task=TASK)
    assert [edge.weight for edge in plan.edges] == [0.5]


def test_misuse_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="more than one proposal"):
        merge([says("ann", 1), says("ann", 1)], task=TASK)
    with pytest.raises(ValueError, match="finite and not negative"):
        merge([says("ann", -1, ("a", 0))], task=TASK)
    with pytest.raises(ValueError, match="one finite vector a subtask"):
        merge([AgentProposal(agent=AgentId("a"), proposal=Proposal(subtasks=()), weight=1, vectors=AXES)], task=TASK)
    with pytest.raises(ValueError, match="nodes_max 0"):
        merge([], task=TASK, nodes_max=0)


# ── validate ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_diamond_has_its_order_predecessors_and_sink() -> None:
    plan = validate(plan_of("a b c d", "a>b", "a>c", "b>d", "c>d"))
    assert topological(plan) == ids("a", "b", "c", "d")
    assert predecessors(plan) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert sinks(plan) == ("d",)


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (plan_of("a b c", "a>b", "b>a"), "a cycle; no order exists for a, b"),
        (plan_of("a", "a>a"), "a cycle"),
        (plan_of("a", "a>x"), "there is no subtask x"),
        (plan_of("a a"), "two subtasks are called a"),
        (plan_of("a b", "a>b", "a>b"), "a → b is there twice"),
        (plan_of(""), "1 to 64 subtasks, this one has 0"),
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(plan: Plan, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        validate(plan)


# ── revise ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
NEW = Proposal(subtasks=(ProposedSubtask(text="x"), ProposedSubtask(text="y")), edges=((0, 1),))


def change(plan: Plan, *done: str, **how: object) -> Plan:
    return revise(plan, ids(*done), NEW, task=TASK, by=AgentId("zoe"), used=0, **how)  # type: ignore[arg-type]


def test_what_is_not_done_is_replaced_after_what_is() -> None:
    plan = change(plan_of("s1 s2 s3", "s1>s2", "s2>s3"), "s1")
    assert [subtask.id for subtask in plan.subtasks] == ["s1", "s4", "s5"]
    assert arrows(plan) == {"s1>s4", "s4>s5"}
    assert plan.subtasks[1].policies == TASK.policies
    assert plan.notes == ("zoe revised the plan: 2 subtasks replaced by 2",)


def test_what_waited_for_a_replaced_subtask_waits_for_the_addition() -> None:
    plan = change(plan_of("s1 s2 s3 s4", "s1>s2", "s2>s3", "s4>s2"), "s1", replaced=ids("s2"))
    assert arrows(plan) == {"s1>s5", "s4>s5", "s5>s6", "s6>s3"}


def test_a_subtask_between_two_replaced_ones_does_not_wait_for_itself() -> None:
    plan = change(plan_of("s1 s2 s3 s4", "s1>s2", "s2>s3", "s3>s4"), replaced=ids("s1", "s3"))
    validate(plan)
    assert arrows(plan) == {"s5>s6", "s6>s2", "s2>s4"}


def test_revisions_are_bounded() -> None:
    plan = plan_of("s1 s2", "s1>s2")
    revised = revise(plan, ids("s1"), NEW, task=TASK, by=AgentId("zoe"), used=2)
    assert (revised.subtasks, revised.edges) == (plan.subtasks, plan.edges)
    assert revised.notes == ("zoe wished to revise the plan: refused, 2 of 2 revisions are used",)


def test_a_revision_that_is_empty_or_too_large_changes_nothing() -> None:
    plan = plan_of("s1 s2", "s1>s2")
    empty = revise(plan, (), Proposal(subtasks=()), task=TASK, by=AgentId("zoe"), used=0)
    assert "proposed no subtask" in empty.notes[0]
    large = change(plan, "s1", nodes_max=2)
    assert "to more than 2 subtasks" in large.notes[0]
    assert empty.subtasks == large.subtasks == plan.subtasks


def test_what_is_done_cannot_be_replaced() -> None:
    plan = plan_of("s1 s2", "s1>s2")
    with pytest.raises(ValueError, match="s1 is done"):
        change(plan, "s1", replaced=ids("s1"))
    with pytest.raises(ValueError, match="s2 cannot be done"):
        change(plan, "s2")
    with pytest.raises(ValueError, match="no subtask s9"):
        change(plan, "s9")
