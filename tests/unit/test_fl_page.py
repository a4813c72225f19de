"""The page of a report: what was decided, agreed, found and paid is on it, and nothing that a site wrote is markup."""

from dataclasses import replace

from foa.fl.guard import GuardEntry
from foa.fl.market import Offer
from foa.fl.page import MOST_LINES, page
from foa.fl.plans import RoundPlan
from foa.fl.rounds import ClientRow, RoundRow, TalkRow
from foa.values.budget import Spend

PLAN = RoundPlan(selector="random", k=2, deadline_seconds=9.0, aggregation="fedavg", noise_floor=0.0, reason="a turn each")
OFFER = Offer(width=0.5, epochs=2, steps=40, noise_multiplier=1.25, usd=0.5, deadline_seconds=9.0)
ROW = RoundRow(
    round=1,
    plan=PLAN,
    verdict="accepted",
    faults=(),
    model="m",
    decision_seconds=0.1,
    tokens=5,
    clients=(
        ClientRow(client="a", kind="trained", usd=0.5, agreed=OFFER),
        ClientRow(client="b", kind="trained", findings=("it claimed 9 records",), lied=True, penalty_usd=0.75),
        ClientRow(client="c", kind="refused", reason="battery at 10%", age=2),
        ClientRow(client="d", kind="refused", reason="it is not cleared for phi", node="profile"),
    ),
    seconds=1.0,
    loss=None,
    taken=True,
    talks=(TalkRow(client="a", bids=(OFFER, OFFER), agreed=OFFER, reason="<b>busy</b>", by="m (accepted)"),),
)
ENTRY = GuardEntry(
    who="guardian/r/round-1",
    model="m",
    prompt_sha256="0" * 64,
    raw="<script>alert(1)</script>",
    verdict="fallback",
    faults=("steps must be 1 to 40",),
    repairs=2,
    seconds=1.0,
    spend=Spend(),
)


def shown(*rows: RoundRow, decisions: tuple[tuple[str, GuardEntry], ...] = ()) -> str:
    return page("trial", rows, {"rounds": "1"}, {}, decisions)


def test_negotiations_pay_and_findings_are_on_the_page() -> None:
    found = shown(ROW, decisions=(("a", ENTRY),))
    assert "<td>2 × 40 steps, width 0.5, noise 1.25<td>0.50<td>m (accepted)" in found
    assert '<td>it claimed 9 records<td><span class="bad">a lie</span><td>0.75' in found
    assert "its update of 2 rounds ago counted again, decayed" in found
    assert "<td>no candidate<td>profile<td>it is not cleared for phi" in found
    assert "<td>a<td>1<td>0<td>0<td>0<td>0.50<td>0.00<td>" in found


def test_what_sites_and_models_write_is_text() -> None:
    found = shown(ROW, decisions=(("a", ENTRY),))
    assert "<script>" not in found
    assert "&lt;b&gt;busy&lt;/b&gt;" in found
    assert "steps must be 1 to 40" in found


def test_a_run_with_none_of_it_says_so() -> None:
    found = shown(replace(ROW, clients=(), talks=()))
    for sentence in ("There was no negotiation", "Every claim and every agreement held.", "No site trained."):
        assert sentence in found


def test_a_table_of_a_large_run_ends_and_says_where_the_rest_is() -> None:
    clients = tuple(ClientRow(client=f"c{i:04}", kind="lost", reason="late") for i in range(MOST_LINES + 1))
    found = shown(replace(ROW, clients=clients, talks=()))
    assert "<td>1<td>c0499<td>lost" in found
    assert "<td>1<td>c0500<td>lost" not in found
    assert "the others are in rounds.json" in found
