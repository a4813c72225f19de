"""What `foa fl run` says of a round: words of models and sites are shown as they are and steer nothing."""

from foa.cli.fl_work import told_round
from foa.fl.plans import RoundPlan
from foa.fl.rounds import ClientRow, RoundRow


def row(*, reason: str, clients: tuple[ClientRow, ...]) -> RoundRow:
    plan = RoundPlan(selector="fedcs", k=1, deadline_seconds=5.0, aggregation="mean", noise_floor=0.0, reason=reason)
    return RoundRow(
        round=1,
        plan=plan,
        verdict="accepted",
        faults=(),
        model="m",
        decision_seconds=0.0,
        tokens=1,
        clients=clients,
        seconds=0.0,
        loss=None,
        taken=True,
    )


def test_markup_and_controls_in_reasons_are_only_text() -> None:
    lied = ClientRow(client="a", kind="refused", reason="no [/red] \x1b[2J\nway")
    first, second = told_round(row(reason="see [red]x[/b]", clients=(lied,)))
    assert first.plain == "round   1 · fedcs k=1 · 1 refused  (m: see [red]x[/b])"
    # the escape is gone, so what is left of it is harmless, and the line stays one line
    assert second.plain == "          a refused: no [/red] [2J way"


def test_a_round_without_anybody_says_so() -> None:
    (only,) = told_round(row(reason="nobody is there", clients=()))
    assert "nobody trained" in only.plain
