"""Eq. 2, factor by factor, with numbers worked out by hand."""

import math

import numpy as np
import pytest

from foa.registry.score import OFFERS, ScoreRules, gaps, need_row, offer_row, resource_factor, spec_factor
from foa.values.evidence import fuse
from foa.values.resources import Needs, Price, Resources

RULES = ScoreRules(beta=1.0, unstated=0.25, load_weight=0.5)
KAPPA = 0.03
IDLE = np.zeros(1, np.float32)


def f(needs: Needs, offer: Resources, load: float = 0.0) -> float:
    missed = gaps(need_row(needs), np.array([offer_row(offer)], np.float32), unstated=RULES.unstated)
    return float(resource_factor(missed, IDLE + load, RULES)[0])


def test_no_needs_make_no_gap():
    assert f(Needs(), Resources()) == 1.0


def test_a_surplus_is_not_punished():
    assert f(Needs(min_context_tokens=1_000), Resources(context_tokens=1e9)) == 1.0
    assert f(Needs(max_latency_seconds=10), Resources(latency_seconds=0.1)) == 1.0


def test_a_floor_is_missed_by_its_share():
    # need 1,000, have 600: gap 0.4
    assert f(Needs(min_context_tokens=1_000), Resources(context_tokens=600)) == pytest.approx(math.exp(-0.4))


def test_a_ceiling_is_broken_by_its_share():
    # at most 2 s, takes 3 s: gap 0.5
    assert f(Needs(max_latency_seconds=2), Resources(latency_seconds=3)) == pytest.approx(math.exp(-0.5))


def test_price_is_that_of_a_typical_call():
    # 0.01 + 1 · 0.002 + 0.25 · 0.004 = 0.013; at most 0.01: gap 0.3
    price = Price(usd_per_call=0.01, usd_per_1k_tokens_in=0.002, usd_per_1k_tokens_out=0.004)
    assert f(Needs(max_usd_per_call=0.01), Resources(price=price)) == pytest.approx(math.exp(-0.3), rel=1e-5)


def test_gaps_add_as_a_norm_and_load_is_one_of_them():
    # gaps 0.3 and 0.4: norm 0.5
    needs = Needs(min_context_tokens=10, max_latency_seconds=10)
    assert f(needs, Resources(context_tokens=7, latency_seconds=14)) == pytest.approx(math.exp(-0.5))
    # a full agent: gap 0.5
    assert f(Needs(), Resources(), load=1.0) == pytest.approx(math.exp(-0.5))


def test_what_is_needed_and_not_stated_is_a_small_gap():
    assert f(Needs(min_vram_bytes=1e9), Resources()) == pytest.approx(math.exp(-0.25))


def test_a_ceiling_of_nothing_still_orders():
    free, dear = Resources(), Resources(price=Price(usd_per_call=2.0))
    assert f(Needs(max_usd_per_call=0), free) == 1.0
    assert f(Needs(max_usd_per_call=0), dear) == pytest.approx(math.exp(-2.0))


def test_every_quantity_that_is_needed_can_be_offered():
    needs = Needs(**dict.fromkeys(Needs.__slots__, 1.0))
    assert not np.isnan(need_row(needs)).any()
    assert len(need_row(needs)) == len(OFFERS) == len(offer_row(Resources()))
    assert gaps(need_row(needs), np.full((2, len(OFFERS)), np.nan, np.float32), unstated=0.25).sum() == pytest.approx(4.0)


def test_specs_that_agree_count_one_and_opposites_nothing():
    demand = np.array([1, 0], np.float32)
    specs = np.array([[1, 0], [0, 1], [-1, 0], [0, 0]], np.float32)
    assert spec_factor(demand, specs) == pytest.approx([1, 0.5, 0, 0.5])


def test_a_negative_cosine_counts_nothing():
    assert fuse(np.array([-0.5, 0.5], np.float32), np.zeros(2, np.float32), KAPPA) == pytest.approx([0, 0.5])


def test_words_and_meaning_convince_each_alone():
    # 1 − 0.6 · e^(−0.03 · 10) = 0.5555; 1 − 1 · e^(−0.6) = 0.4512; no word: 0.4
    blended = fuse(np.array([0.4, -0.2, 0.4], np.float32), np.array([10, 20, 0], np.float32), KAPPA)
    assert blended == pytest.approx([0.5555, 0.4512, 0.4], abs=1e-4)
