"""Merging proposals: never a cycle, whatever agents send, and the same plan in whatever order they come."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from foa.plan import graph
from foa.plan.merge import AgentProposal, merge
from foa.plan.revise import revise
from foa.plan.validate import predecessors, sinks, topological, validate
from foa.values.ids import AgentId
from foa.values.plan import Plan, Proposal, ProposedSubtask
from foa.values.task import Task

TASK = Task(text="the task", policies=("gdpr", "phi"))
THEMES = np.eye(6, dtype=np.float32)

edges = st.lists(st.tuples(st.integers(-2, 7), st.integers(-2, 7)), max_size=20).map(tuple)


@st.composite
def proposal(draw: st.DrawFn) -> tuple[Proposal, np.ndarray]:
    themes = draw(st.lists(st.integers(0, 5), max_size=5))
    noise = draw(st.integers(0, 2**16))
    subtasks = tuple(
        ProposedSubtask(text=draw(st.sampled_from([f"do {theme}", f"handle {theme}", " "])), skills=(f"skill{theme}",))
        for theme in themes
    )
    vectors = THEMES[themes] + np.random.default_rng(noise).normal(0, 0.2, (len(themes), 6)).astype(np.float32)
    return Proposal(subtasks=subtasks, edges=draw(edges)), vectors.astype(np.float32)


@st.composite
def proposals(draw: st.DrawFn) -> list[AgentProposal]:
    many = draw(st.integers(0, 4))
    made = []
    for number in range(many):
        found, vectors = draw(proposal())
        weight = draw(st.sampled_from([0.0, 0.2, 0.5, 0.5, 1.0]))
        made.append(AgentProposal(agent=AgentId(f"a{number}"), proposal=found, weight=weight, vectors=vectors))
    return made


@settings(max_examples=200, deadline=None)
@given(proposals(), st.integers(1, 6), st.floats(0.1, 0.95))
def test_a_merged_plan_is_a_small_dag_under_the_tasks_policies(made: list[AgentProposal], most: int, cut: float) -> None:
    plan = merge(made, task=TASK, nodes_max=most, similarity=cut)
    assert validate(plan, nodes_max=most) is plan
    assert [subtask.id for subtask in plan.subtasks] == [f"s{n}" for n in range(1, len(plan.subtasks) + 1)]
    assert topological(plan) == tuple(subtask.id for subtask in plan.subtasks)
    assert all(subtask.policies == TASK.policies for subtask in plan.subtasks)
    agents = {one.agent for one in made}
    assert all(set(subtask.proposers) <= agents for subtask in plan.subtasks)
    assert all(edge.proposers and set(edge.proposers) <= agents and 0 <= edge.weight <= 1 for edge in plan.edges)
    assert sinks(plan)


@settings(max_examples=150, deadline=None)
@given(st.data(), proposals())
def test_the_order_of_proposals_does_not_matter(data: st.DataObject, made: list[AgentProposal]) -> None:
    shuffled = data.draw(st.permutations(made))
    first, second = merge(made, task=TASK), merge(shuffled, task=TASK)
    assert (first.subtasks, first.edges) == (second.subtasks, second.edges)
    assert sorted(first.notes) == sorted(second.notes)


@settings(max_examples=150, deadline=None)
@given(proposals(), st.floats(0.01, 100))
def test_only_the_ratio_of_weights_matters(made: list[AgentProposal], factor: float) -> None:
    scaled = [
        AgentProposal(agent=one.agent, proposal=one.proposal, weight=one.weight * factor, vectors=one.vectors)
        for one in made
    ]
    first, second = merge(made, task=TASK), merge(scaled, task=TASK)
    assert first.subtasks == second.subtasks
    assert {(edge.before, edge.after) for edge in first.edges} == {(edge.before, edge.after) for edge in second.edges}
    assert np.allclose([edge.weight for edge in first.edges], [edge.weight for edge in second.edges])


@settings(max_examples=150, deadline=None)
@given(st.data(), proposals(), proposal())
def test_a_revised_plan_is_a_dag_that_keeps_what_is_done(
    data: st.DataObject, made: list[AgentProposal], addition: tuple[Proposal, np.ndarray]
) -> None:
    plan = merge(made, task=TASK)
    many = data.draw(st.integers(0, len(plan.subtasks)))
    done = frozenset(topological(plan)[:many])
    revised = revise(plan, done, addition[0], task=TASK, by=AgentId("z"), used=0)
    validate(revised)
    kept = {subtask.id: subtask for subtask in revised.subtasks}
    old = {subtask.id: subtask for subtask in plan.subtasks}
    assert all(kept[subtask] == old[subtask] for subtask in done)
    before, after = predecessors(plan), predecessors(revised)
    assert all(before[subtask] == after[subtask] for subtask in done)


pairs = st.dictionaries(
    st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1]),
    st.sampled_from([0.1, 0.5, 0.5, 0.9]),
    max_size=30,
)


def reach(edges: "list[graph.Pair]") -> set[graph.Pair]:
    followers: dict[int, set[int]] = {}
    for before, after in edges:
        followers.setdefault(before, set()).add(after)
    return {(start, end) for start in range(8) for end in graph.reachable(followers, start) if end != start}


@given(pairs)
def test_breaking_cycles_takes_only_the_weakest_edge_of_each(weights: dict[graph.Pair, float]) -> None:
    stay, out = graph.acyclic(weights)
    assert sorted(stay + out) == sorted(weights)
    assert not any((after, before) in reach(stay) for before, after in reach(stay))
    for before, after in out:  # it closes a cycle of edges that are all at least as strong
        stronger = [pair for pair in stay if weights[pair] >= weights[before, after]]
        assert (after, before) in reach(stronger)


@given(pairs)
def test_reduction_keeps_what_can_be_reached_and_no_implied_edge(weights: dict[graph.Pair, float]) -> None:
    stay, _ = graph.acyclic(weights)
    least = graph.reduced(stay)
    assert reach(least) == reach(stay)
    for edge in least:
        assert reach([other for other in least if other != edge]) != reach(least)


@given(st.integers(1, 8))
def test_a_chain_is_its_own_order(many: int) -> None:
    vectors = np.eye(max(many, 2), dtype=np.float32)[:many]
    chain = Proposal(
        subtasks=tuple(ProposedSubtask(text=f"step {n}") for n in range(many)),
        edges=tuple((n, n + 1) for n in range(many - 1)),
    )
    plan: Plan = merge([AgentProposal(agent=AgentId("a"), proposal=chain, weight=1, vectors=vectors)], task=TASK)
    if many > 1:
        assert [subtask.text for subtask in plan.subtasks] == [f"step {n}" for n in range(many)]
    assert len(plan.edges) == many - 1
