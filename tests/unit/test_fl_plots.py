"""The plots of a report: each is drawn where it has something to show."""

from dataclasses import replace

from tests.unit.test_fl_page import ROW

from foa.fl.plots import pictures


def test_only_plots_with_something_to_show_are_drawn() -> None:
    # ROW pays a half dollar and names its clients; nobody measured an accuracy or keeps a ledger
    assert set(pictures([ROW])) == {"participation", "money"}
    assert set(pictures([replace(ROW, accuracy=0.5, worst10=0.25, clients=())])) == {"accuracy"}
