"""Embedders' constants: found by name, and a fit that is a probability."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foa.models.minilm import MiniLmEmbedder
from foa.models.wordllama import WordLlamaEmbedder
from foa.registry.calibration import CALIBRATIONS, FEWEST, Calibration, calibration_of


def test_every_embedded_embedder_has_constants_of_its_own():
    for embedder in (WordLlamaEmbedder(), MiniLmEmbedder()):
        assert calibration_of(embedder.id) is CALIBRATIONS[embedder.id.rpartition(":")[0]]


def test_an_embedder_nobody_measured_is_taken_to_be_like_the_default():
    assert calibration_of("nomic-embed-text-256:5d41402a") == CALIBRATIONS["wordllama-l2-supercat-256"]


def test_a_request_that_says_nothing_gets_no_intro():
    constants = Calibration(asked="Who can do this: ")
    assert constants.request("bake bread") == "Who can do this: bake bread"
    assert constants.request(" \n") == " \n"


def test_without_an_intro_a_request_is_embedded_as_it_is():
    assert Calibration().request("bake bread") == "bake bread"


def test_a_lead_speaks_for_the_best_one():
    constants = Calibration(fit_similarity=1.0, fit_lead=10.0, fit_offset=0.0)
    # log odds 0 + 10 · (.5 − .5) = 0; 0 + 10 · (.5 − .4) = 1
    assert constants.fit(np.array([0.5] * 6, np.float32)) == pytest.approx(0.5)
    assert constants.fit(np.array([0.4, 0.5, *[0.4] * 4], np.float32)) == pytest.approx(0.7311, abs=1e-4)


def test_the_lead_is_over_the_next_five():
    constants = Calibration(fit_similarity=0.0, fit_lead=1.0, fit_offset=0.0)
    near, far = [0.6] * 5, [0.0] * 20
    assert constants.fit(np.array([0.6, *near, *far])) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 1, width=32), min_size=FEWEST, max_size=40))
def test_a_fit_is_a_probability_whatever_was_found(similarity: list[float]):
    for constants in CALIBRATIONS.values():
        assert 0 < constants.fit(np.array(similarity, np.float32)) < 1
