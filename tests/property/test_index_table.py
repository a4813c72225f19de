"""The table of a partition, against a dictionary."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.index.table import SLOTS, Row, Table, point_ids
from foa.values.ids import AgentId

AGENTS = st.integers(0, 12).map(lambda i: AgentId(f"a{i}"))
LABELS = st.lists(st.sampled_from(["p:gdpr", "p:phi", "k:draft"]), unique=True).map(tuple)
CHANGES = st.lists(
    st.tuples(AGENTS, st.none() | st.tuples(st.integers(1, 9), st.integers(0, 2**63 - 1), LABELS, st.integers(1, 4)))
)


def changed(changes) -> tuple[Table, dict[AgentId, tuple[Row, int]]]:
    """A table after these changes, None being a removal, and what should be in it."""
    table, held = Table(), dict[AgentId, tuple[Row, int]]()
    for agent, change in changes:
        if agent in table:
            assert table.drop(agent) == (held[agent][1], point_ids(held[agent][0].slot, held[agent][0].vectors))
            del held[agent]
        if change is not None:
            vectors, mark, labels, home = change
            row = Row(agent=agent, slot=table.new_slot(), vectors=vectors, digest=mark, labels=labels)
            table.put(row, home=home)
            held[agent] = (row, home)
    return table, held


def check(table: Table, held: dict[AgentId, tuple[Row, int]]) -> None:
    assert len(table) == len(held)
    points = [point for row, _ in held.values() for point in point_ids(row.slot, row.vectors)]
    assert len(set(points)) == len(points)
    for agent, (row, _) in held.items():
        assert agent in table
        assert table.digest(agent) == row.digest
        assert table.agent(row.slot) == agent
        assert table.points_of([row.slot]) == point_ids(row.slot, row.vectors)
        assert {one % SLOTS for one in table.points_of([row.slot])} == {row.slot}
    slots = [row.slot for row, _ in held.values()]
    homes = {home for _, home in held.values()}
    for asked, home in itertools.product(((), ("p:gdpr",), ("p:gdpr", "k:draft")), homes):
        told = table.having(np.array(slots, np.uint32), asked, home=home).tolist()
        assert told == [at == home and set(asked) <= set(row.labels) for row, at in held.values()]
    assert all(table.at(home) == sum(at == home for _, at in held.values()) for home in range(80))
    counted = Counter(label for row, _ in held.values() for label in row.labels)
    assert all(table.labelled(label) == counted[label] for label in ("p:gdpr", "p:phi", "k:draft", "p:unheard-of"))
    copy = Table.decode(table.encode())
    assert copy is not None
    for agent, (row, home) in held.items():
        assert copy.drop(agent) == (home, point_ids(row.slot, row.vectors))


@given(CHANGES)
def test_a_table_holds_what_was_put_and_not_dropped(changes):
    table, held = changed(changes)
    check(table, held)
    assert table.digest(AgentId("nobody")) == -1


@given(CHANGES)
def test_a_table_comes_back_from_disk_and_goes_on(changes):
    table, held = changed(changes)
    again = Table.decode(table.encode())
    assert again is not None
    check(again, held)
    newcomer = Row(agent=AgentId("new"), slot=again.new_slot(), vectors=2, digest=5, labels=("p:phi",))
    again.put(newcomer, home=9)
    check(again, held | {AgentId("new"): (newcomer, 9)})


@given(CHANGES, st.sets(st.integers(1, 4)))
def test_what_layers_had_moves_to_another(changes, homes):
    table, held = changed(changes)
    table.move(homes, 77)
    check(table, {agent: (row, 77 if home in homes else home) for agent, (row, home) in held.items()})


@given(st.binary(max_size=200))
def test_what_is_no_table_is_not_taken_for_one(data):
    assert Table.decode(data) is None


@given(CHANGES, st.data())
def test_a_damaged_table_is_none_or_whole(changes, data):
    encoded = changed(changes)[0].encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert Table.decode(encoded[:cut]) is None


def test_a_later_layer_has_the_later_word():
    def row(agent: str, slot: int) -> Row:
        return Row(agent=AgentId(agent), slot=slot, vectors=1, digest=1, labels=("p:phi",))

    table = Table()
    assert table.restore([row("a", 0), row("b", 5)], home=1) == []
    # b was replaced at its own slot, and a's slot went to c: both points of the older layer are buried
    assert sorted(table.restore([row("b", 5), row("c", 0)], home=2)) == [0, 5]
    check(table, {AgentId("b"): (row("b", 5), 2), AgentId("c"): (row("c", 0), 2)})
    assert {table.new_slot() for _ in range(4)} == {1, 2, 3, 4}


def test_label_sets_that_nobody_has_any_more_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("foa.index.table._MOST_SETS", 10)
    table = Table()
    table.put(Row(agent=AgentId("stays"), slot=table.new_slot(), vectors=1, digest=1, labels=("p:phi",)), home=1)
    for i in range(200):
        slot = table.new_slot()
        table.put(Row(agent=AgentId("comes"), slot=slot, vectors=1, digest=1, labels=(f"p:{i}",)), home=1)
        slots = np.array([0, slot], np.uint32)
        assert table.having(slots, ["p:phi"], home=1).tolist() == [True, False]
        assert table.having(slots, [f"p:{i}"], home=1).tolist() == [False, True]
        table.drop(AgentId("comes"))
        # ten, twice the one or two agents there are, and one that is new
        assert len(table._sets) <= 10 + 4 + 1


def test_many_questions_about_labels_do_not_pile_up():
    table = Table()
    table.put(Row(agent=AgentId("a"), slot=table.new_slot(), vectors=1, digest=1, labels=("p:7",)), home=1)
    for i in [*range(200), 7]:
        assert table.having(np.array([0], np.uint32), [f"p:{i}"], home=1).tolist() == [i == 7]
    assert len(table._having) <= 64
