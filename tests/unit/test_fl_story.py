"""A run in plain words: what a node gave in a line, and a report whose every sentence has its place."""

from dataclasses import replace
from pathlib import Path

import pytest

from foa.fl.outcomes import outcomes
from foa.fl.plans import RoundPlan
from foa.fl.rounds import NODES, ClientRow, NodeEvent, RoundRow
from foa.fl.story import brought, cost, said, tell_story, whole_cost
from foa.fl.terms import Told
from foa.values.budget import Spend

ROW = RoundRow(
    round=1,
    plan=RoundPlan(selector="oort", k=2, deadline_seconds=9.0, aggregation="fedavg", noise_floor=0.0, reason="as before"),
    verdict="accepted",
    faults=(),
    model="small",
    decision_seconds=0.5,
    tokens=70,
    clients=(
        ClientRow(client="north", kind="trained", usd=0.5, credit=0.2),
        ClientRow(client="south", kind="trained", usd=0.25, credit=-0.1),
        ClientRow(client="west", kind="refused", reason="its budget of ε is spent"),
    ),
    seconds=2.0,
    loss=0.4321,
    taken=True,
    accuracy=0.75,
    worst10=0.6,
    accuracies=(("north", 0.9), ("south", 0.6)),
    present=3,
)


def ended(node: str) -> NodeEvent:
    return NodeEvent(round=1, node=node, state="ended", value=outcomes(ROW)[node])


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ("profile", "3 sites are there"),
        ("select", "small: oort, k=2, fedavg: as before"),
        ("train", "2 trained, 1 refused, 2.0 s"),
        ("screen", "nobody set aside"),
        ("aggregate", "fedavg, loss 0.4321"),
        ("evaluate", "accuracy 0.7500, worst tenth 0.6000"),
        ("credit", "north +0.2000, south -0.1000; paid US$ 0.75"),
    ],
)
def test_a_node_is_told_in_a_line(node: str, line: str) -> None:
    assert said(ended(node)) == line


def test_every_node_has_a_line_and_what_began_has_none() -> None:
    assert all(said(ended(node)) for node in NODES)
    assert not said(NodeEvent(round=1, node="train", state="began"))


def test_what_a_node_cost_adds_up_to_what_the_run_cost() -> None:
    assert cost(ended("select")) == Spend(tokens_in=70, calls=1, seconds=0.5)
    assert cost(ended("credit")).usd == 0.75
    assert sum((cost(ended(node)) for node in NODES), Spend()) == whole_cost([ROW])


def test_credit_is_told_for_those_it_was_measured_for() -> None:
    assert brought(ended("credit")) == {"north": 0.2, "south": -0.1}
    assert brought(ended("train")) == {}


def test_a_node_that_nobody_knows_is_told_without_words() -> None:
    event = NodeEvent(round=1, node="secagg", state="ended", value={"a": 1})
    assert (said(event), brought(event), cost(event)) == ("", {}, Spend())


def test_the_story_names_accuracy_part_privacy_and_money_and_where_each_is_found() -> None:
    story = tell_story("hospitals", [ROW], report=Path("/runs/r1/report/report.html"))
    assert story.draft.answer.splitlines() == [
        "hospitals: 1 round of federated learning; every site kept its data.",
        "Accuracy 0.7500, each site counting alike; the worst tenth of sites 0.6000.",
        "By site, worst first: south 0.6000, north 0.9000.",
        "Most of its errors are at south: 40.0% of its test cases.",
        "Took part: north 1×, south 1×.",
        "Refused: west 1× (its budget of ε is spent).",
        "Contribution, by how much each lowered the loss on the server's own data: north +0.2000, south -0.1000.",
        "No site kept a privacy ledger.",
        "Sites were paid US$ 0.75; small decided the rounds, for 70 tokens.",
        "Report: /runs/r1/report/report.html",
    ]
    places = {claim.source.locator for claim in story.draft.claims if claim.source is not None}
    assert places == {"/runs/r1/report/rounds.json", "/runs/r1/report/report.html"}
    assert story.figures == {
        "rounds": 1,
        "usd": 0.75,
        "tokens": 70,
        "accuracy": 0.75,
        "worst_tenth": 0.6,
        "accuracy of south": 0.6,
        "accuracy of north": 0.9,
    }
    assert story.draft.confidence == 0.9


def test_ledgers_are_told_with_their_budget() -> None:
    told = Told(
        countered=False,
        reasons="",
        epochs=1,
        steps=1,
        width=1.0,
        noise_multiplier=1.0,
        epsilon_left=6.5,
        epsilon_budget=10.0,
        seconds=1.0,
    )
    row = replace(ROW, clients=(ClientRow(client="north", kind="trained", told=told),))
    story = tell_story("hospitals", [row], report=Path("/r/report.html"))
    assert "Privacy, ε spent at most: north 3.5 of 10." in story.draft.answer
    assert story.figures["epsilon_most"] == 3.5


def test_many_sites_fit_into_what_a_reply_may_carry() -> None:
    accuracies = tuple((f"site-{i:03}", 0.5) for i in range(500))
    clients = tuple(ClientRow(client=name, kind="trained") for name, _ in accuracies)
    row = replace(ROW, clients=clients, accuracies=accuracies)
    story = tell_story("many", [row], report=Path("/r/report.html"))
    assert len(story.figures) == 64
    assert "and 480 more" in story.draft.answer
    assert len(story.draft.answer) < 20_000
