"""What a device is asked to send."""

import pytest

from foa.fl.guard import Unfit
from foa.fl.plans import Bounds, RoundPlan, check_plan, rule_plan
from foa.fl.traffic import device_share, upload_bytes

SHARES = (1.0, 0.25, 0.1)
REPLY = {"selector": "oort", "k": 2, "deadline_seconds": 9.0, "aggregation": "fedavg", "noise_floor": 0.0}


@pytest.mark.parametrize(
    ("bytes_a_second", "share"),
    [
        # 1,000 values: whole 4,000 bytes, a quarter 500, a tenth 200; a quarter of 40 s is 10 s
        (400.0, 1.0),
        (399.0, 0.25),
        (50.0, 0.25),
        (49.0, 0.1),
        (1.0, 0.1),
        (None, 1.0),
        (0.0, 1.0),
    ],
)
def test_a_thin_line_is_asked_for_less(bytes_a_second: float | None, share: float) -> None:
    found = device_share(1.0, SHARES, values=1_000, bytes_a_second=bytes_a_second, deadline_seconds=40.0)
    assert found == share


def test_no_line_is_asked_for_more_than_the_plan_says() -> None:
    assert device_share(0.25, SHARES, values=1_000, bytes_a_second=1e9, deadline_seconds=40.0) == 0.25


def test_a_kept_change_costs_two_bytes_and_a_whole_update_four_a_number() -> None:
    assert upload_bytes(1_000, 1.0) == 4_000
    assert upload_bytes(1_000, 0.1) == 200


@pytest.mark.parametrize("share", [0.5, 0, 2, "0.1", None, True, float("nan")])
def test_a_proposed_share_that_the_owner_does_not_offer_is_refused(share: object) -> None:
    with pytest.raises(Unfit, match="share"):
        check_plan({**REPLY, "share": share}, Bounds(k_max=4), None)


def test_the_rule_sends_whole_updates_where_the_owner_allows_it() -> None:
    assert rule_plan(Bounds(k_max=4), None, k=2).share == 1.0
    assert rule_plan(Bounds(k_max=4, shares=(0.25, 0.1)), None, k=2).share == 0.25


@pytest.mark.parametrize("shares", [(), (0.0,), (1.5,)])
def test_shares_out_of_range_are_misuse(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        Bounds(shares=shares)


def test_a_plan_without_a_share_is_one_of_whole_updates() -> None:
    plan = RoundPlan(selector="oort", k=2, deadline_seconds=9.0, aggregation="fedavg", noise_floor=0.0, reason="")
    assert plan.share == 1.0
