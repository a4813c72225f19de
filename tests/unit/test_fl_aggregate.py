"""Aggregation rules: what they give on numbers worked out by hand, and what they refuse."""

import numpy as np
import pytest

from foa.errors import BadInput
from foa.fl.aggregate import (
    AGGREGATIONS,
    Update,
    capped,
    clipped_mean,
    cut,
    fedavg,
    fltrust,
    heterofl,
    krum,
    median,
    mix_nearest,
    multikrum,
    trimmed_mean,
)
from foa.fl.screen import screen
from foa.fl.sift import Sifted, sift
from foa.values.ids import AgentId

BASE = {"w": np.zeros(2, np.float32)}


def update(name: str, *values: float, samples: int = 1) -> Update:
    return Update(client=AgentId(name), arrays={"w": np.array(values, np.float32)}, samples=samples)


def test_fedavg_weighs_by_records() -> None:
    # (1·1 + 3·5) / 4 = 4
    assert fedavg(BASE, [update("a", 1, 0), update("b", 5, 0, samples=3)])["w"].tolist() == [4.0, 0.0]


def test_a_boasting_client_counts_what_its_vcv_says() -> None:
    found = capped(
        [update("a", 1, 0, samples=10**9), update("b", 1, 0, samples=5), update("c", 1, 0)],
        {AgentId("a"): 20, AgentId("b"): 20},
    )
    assert [entry.samples for entry in found] == [20, 5, 1]


def test_the_median_ignores_one_liar() -> None:
    assert median(BASE, [update("a", 1, 1), update("b", 2, 2), update("c", 999, -999)])["w"].tolist() == [2.0, 1.0]


def test_the_trimmed_mean_drops_both_ends() -> None:
    rows = [update(name, value, 0) for name, value in zip("abcd", (-50, 1, 3, 90), strict=True)]
    assert trimmed_mean(BASE, rows)["w"].tolist() == [2.0, 0.0]


def test_clipping_cuts_to_the_median_length() -> None:
    rows = [update("a", 1, 0), update("b", 0, 1), update("c", 100, 0)]
    # c is cut to length 1: mean of (1,0), (0,1), (1,0)
    assert clipped_mean(BASE, rows)["w"] == pytest.approx([2 / 3, 1 / 3])


def test_krum_picks_from_the_crowd() -> None:
    rows = [update(f"good{i}", 1 + i / 100, 1) for i in range(6)] + [update("bad1", -80, 9), update("bad2", 70, 70)]
    assert krum(BASE, rows, bad=2)["w"] == pytest.approx([1.0, 1.0], abs=0.1)


def test_multikrum_averages_the_crowd_only() -> None:
    rows = [update(f"good{i}", 1, 1) for i in range(6)] + [update("bad1", -80, 9), update("bad2", 70, 70)]
    assert multikrum(BASE, rows, bad=2)["w"] == pytest.approx([1.0, 1.0])


def test_the_trimmed_mean_drops_a_quarter_at_each_end_rounded_up() -> None:
    # five values: ¼ of 5 is 1.25, so two go at each end, and 3 is left (Yin et al., 2018, definition 2, with ⌈βn⌉)
    rows = [update(name, value, 0) for name, value in zip("abcde", (1, 2, 3, 40, 50), strict=True)]
    assert trimmed_mean(BASE, rows)["w"].tolist() == [3.0, 0.0]
    # two values: one at least stays, so none can go
    assert trimmed_mean(BASE, rows[:2])["w"].tolist() == [1.5, 0.0]


def test_krum_scores_by_the_nearest_but_two_and_the_bad() -> None:
    # n = 6, one bad: the 6 − 1 − 2 = 3 nearest count, squared (Blanchard et al., 2017, section 4), without mixing:
    # at 0: 1 + 4 + 9 = 14, at 1: 1 + 1 + 4 = 6, at 2: 1 + 1 + 4 = 6, at 3: 1 + 4 + 4 = 9, at 5: 4 + 9 + 16 = 29;
    # 1 and 2 tie, the first client wins
    rows = [update(name, value, 0) for name, value in zip("abcdef", (0, 1, 2, 3, 5, 100), strict=True)]
    assert multikrum(BASE, rows, bad=1, keep=1, mix=False)["w"].tolist() == [1.0, 0.0]
    # the best two by score are 1 and 2
    assert multikrum(BASE, rows, bad=1, keep=2, mix=False)["w"].tolist() == [1.5, 0.0]


def test_mixing_takes_the_mean_of_the_nearest_and_itself() -> None:
    # n − f = 2 of three rows at 0, 1 and 10 (Allouah et al., 2023, algorithm 2): (0+1)/2, (1+0)/2, (10+1)/2
    rows = np.array([[0.0], [1.0], [10.0]])
    assert mix_nearest(rows, 1).ravel().tolist() == [0.5, 0.5, 5.5]


def test_krum_counts_no_more_bad_than_it_can_stand() -> None:
    # n = 7 stands (7 − 3) / 2 = 2: told of five, it reckons with two, and keeps five of seven
    rows = [update(f"g{i}", 1, 1) for i in range(5)] + [update("x", 90, 0), update("y", 0, 90)]
    assert multikrum(BASE, rows, bad=5)["w"] == pytest.approx([1.0, 1.0])


def test_of_three_or_fewer_krum_takes_the_median() -> None:
    assert krum(BASE, [update("a", 1, 1), update("b", 2, 2), update("c", 999, -999)])["w"].tolist() == [2.0, 1.0]


def test_fltrust_weighs_by_cosine_and_cuts_to_its_own_length() -> None:
    # own update (2, 0). a = (3, 4): cosine .6, brought to length 2: (1.2, 1.6). b = (1, 0): cosine 1, to (2, 0).
    # (.6 · (1.2, 1.6) + 1 · (2, 0)) / 1.6 = (1.7, .6)   (Cao et al., 2021, equations 2 to 5)
    rows = [update("a", 3, 4), update("b", 1, 0, samples=50)]
    assert fltrust(BASE, rows, trusted={"w": np.array([2, 0], np.float32)})["w"] == pytest.approx([1.7, 0.6])


def test_clipping_by_a_given_norm_shortens_only_what_is_longer() -> None:
    rows = [update("a", 3, 4), update("b", 0.5, 0)]
    # a: 5 → 1, so (.6, .8); b stays; their mean (Sun et al., 2019)
    assert clipped_mean(BASE, rows, norm=1.0)["w"] == pytest.approx([0.55, 0.4])


def test_heterofl_weighs_by_records_where_parts_overlap() -> None:
    base = {"w": np.zeros((2, 2), np.float32)}
    whole = Update(client=AgentId("a"), arrays={"w": np.full((2, 2), 4.0)}, samples=1)
    part = Update(client=AgentId("b"), arrays={"w": np.full((1, 2), 8.0)}, samples=3)
    # first row: (1 · 4 + 3 · 8) / 4 = 7; second: only the whole model holds it
    assert heterofl(base, [whole, part])["w"].tolist() == [[7.0, 7.0], [4.0, 4.0]]


def test_fltrust_hears_only_who_points_the_same_way() -> None:
    rows = [update("a", 10, 0), update("b", -10, 0), update("c", 0, 10)]
    # a has cosine 1 and is cut to length 1; b has −1 → 0; c is at a right angle → 0
    assert fltrust(BASE, rows, trusted={"w": np.array([1, 0], np.float32)})["w"].tolist() == [1.0, 0.0]


def test_fltrust_stays_where_it_is_when_nobody_agrees() -> None:
    assert fltrust(BASE, [update("b", -10, 0)], trusted={"w": np.array([1, 0], np.float32)})["w"].tolist() == [0.0, 0.0]


def test_heterofl_averages_each_weight_over_its_holders() -> None:
    base = {"w": np.array([9.0, 9.0, 9.0], np.float32)}
    rows = [update("a", 1), update("b", 3, 5)]
    # first weight: (1 + 3) / 2; second: only b; third: nobody, so the old value
    assert heterofl(base, rows)["w"].tolist() == [2.0, 5.0, 9.0]


def test_a_cut_model_has_the_first_hidden_units_and_all_inputs() -> None:
    model = {"fc1.weight": np.arange(8.0).reshape(4, 2), "fc2.weight": np.arange(4.0).reshape(1, 4)}
    part = cut(model, 0.5, {"fc1.weight": (0,), "fc2.weight": (1,)})
    assert part["fc1.weight"].tolist() == [[0, 1], [2, 3]]
    assert part["fc2.weight"].tolist() == [[0, 1]]


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_rule_refuses_numbers_that_are_not_finite(rule: str) -> None:
    with pytest.raises(BadInput, match="not finite"):
        AGGREGATIONS[rule](BASE, [update("a", 1, 1), update("b", float("nan"), 0)])


@pytest.mark.parametrize("value", [1e300, -1e19, float("inf")])
@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_rule_refuses_numbers_whose_squares_would_spoil_distances(rule: str, value: float) -> None:
    huge = Update(client=AgentId("b"), arrays={"w": np.array([value, 0.0])}, samples=1)
    with pytest.raises(BadInput, match="over 1e\\+18"):
        AGGREGATIONS[rule](BASE, [update("a", 1, 1), huge])


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_rule_refuses_other_shapes(rule: str) -> None:
    with pytest.raises(BadInput, match="other arrays"):
        AGGREGATIONS[rule](BASE, [update("a", 1, 1), update("b", 1, 1, 1)])


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_rule_refuses_a_client_that_votes_twice(rule: str) -> None:
    with pytest.raises(BadInput, match="two updates"):
        AGGREGATIONS[rule](BASE, [update("a", 1, 1), update("a", 2, 2)])


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_every_rule_says_that_nothing_came(rule: str) -> None:
    with pytest.raises(BadInput, match="no update"):
        AGGREGATIONS[rule](BASE, [])


def test_heterofl_refuses_what_is_wider_than_the_model() -> None:
    with pytest.raises(BadInput, match="no part of the model"):
        heterofl(BASE, [update("a", 1, 2, 3)])


def sifted(rule: str, rows: list[Update], **given: object) -> Sifted:
    return sift(BASE, rows, rule=rule, validate=None, losses=(), **given)  # type: ignore[arg-type]


def test_one_narrow_update_does_not_switch_a_robust_rule_off() -> None:
    rows = [update("a", 1, 1), update("b", 1, 1), update("c", 1, 1), update("narrow", 900)]
    found = sifted("median", rows)
    assert found.model["w"].tolist() == [1.0, 1.0]
    assert set(found.suspects) == {"narrow"}
    # where the run has mixed widths it is an update like any other: (1 + 1 + 1 + 900) / 4
    assert sifted("median", rows, widths=True).model["w"].tolist() == [225.75, 1.0]


def test_fltrust_asks_the_server_to_train_and_is_refused_without() -> None:
    rows = [update("a", 10, 0), update("b", -10, 0)]
    found = sifted("fltrust", rows, trusted=lambda base: {"w": base["w"] + np.array([1, 0], np.float32)})
    assert found.model["w"].tolist() == [1.0, 0.0]
    assert found.robust
    with pytest.raises(BadInput, match="fltrust"):
        sifted("fltrust", rows)


def test_screening_sets_aside_and_says_why() -> None:
    rows = [update(f"good{i}", 1, 1 + i / 50) for i in range(8)] + [update("long", 90, 90), update("nan", float("nan"), 0)]
    rows.append(update("back", -1, -1))
    found = screen(BASE, rows)
    assert set(found.suspects) == {"long", "nan", "back"}
    assert "times as long" in found.suspects[AgentId("long")]
    assert "against" in found.suspects[AgentId("back")]
    assert not found.drift


def test_when_many_look_strange_it_is_drift_and_nobody_is_set_aside() -> None:
    rows = [update(f"a{i}", 1, 1) for i in range(6)] + [update(f"b{i}", 30 + i, 31) for i in range(4)]
    found = screen(BASE, rows)
    assert found.drift
    assert len(found.kept) == 10
