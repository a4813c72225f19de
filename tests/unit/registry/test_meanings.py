"""What an agent is found under."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fakes import HandClock
from tests.unit.test_card import HashEmbedder

from foa.registry.admission import RegistryLimits
from foa.registry.calibration import CALIBRATIONS
from foa.registry.card import build_vcv
from foa.registry.meanings import Meanings
from foa.values.vcv import Matrix, Vcv

MINILM = "minilm-l6-int8+wordllama-640"


class Introduced(HashEmbedder):
    """Another embedder under the name of one whose calibration has an intro."""

    id = f"{MINILM}:00000000"


def meanings(embedder: HashEmbedder, **limits: object) -> Meanings:
    return Meanings(embedder, RegistryLimits(**limits), HandClock())  # type: ignore[arg-type]


async def vcv_of(embedder: HashEmbedder, **fields: object) -> Vcv:
    defaults: dict[str, object] = {"agent_id": "a", "version": 1, "name": "Ann", "description": "bakes bread"}
    return await build_vcv(**({"embedder": embedder} | defaults | fields))  # type: ignore[arg-type]


def unit(row: Matrix) -> Matrix:
    return row / np.linalg.norm(row)


async def test_without_an_intro_it_is_c_and_then_examples_and_skills():
    embedder = HashEmbedder()
    vcv = await vcv_of(embedder, skills=["rye"], examples=["a loaf please"])
    [views] = await meanings(embedder).views([vcv])
    np.testing.assert_array_equal(views[0], vcv.c)
    np.testing.assert_array_equal(views[1:], await embedder.embed(["a loaf please", "rye"]))


async def test_with_an_intro_it_is_what_the_agent_says_and_a_share_of_its_name():
    embedder = Introduced()
    vcv = await vcv_of(embedder, skills=["rye"])
    [views] = await meanings(embedder).views([vcv])
    told, name, skill = await embedder.embed([f"{CALIBRATIONS[MINILM].intro}bakes bread\nrye", "Ann", "rye"])
    np.testing.assert_allclose(views, [unit(told + CALIBRATIONS[MINILM].name * name), skill], atol=1e-6)


async def test_its_examples_are_embedded_as_requests_are():
    embedder = Introduced()
    vcv = await vcv_of(embedder, skills=["rye"], examples=["a loaf please"])
    asked = meanings(embedder)
    [views] = await asked.views([vcv])
    np.testing.assert_array_equal(views[1], (await asked.requests(["a loaf please"]))[0])
    np.testing.assert_array_equal(views[2], (await embedder.embed(["rye"]))[0])


async def test_a_request_is_embedded_after_the_intro_of_requests():
    embedder = Introduced()
    found = await meanings(embedder).requests(["a loaf please"])
    np.testing.assert_array_equal(found, await embedder.embed([f"{CALIBRATIONS[MINILM].asked}a loaf please"]))


async def test_an_agent_that_is_only_a_name_is_found_under_it():
    embedder = Introduced()
    vcv = await vcv_of(embedder, description="")
    [views] = await meanings(embedder).views([vcv])
    np.testing.assert_array_equal(views, [vcv.c])


async def test_several_agents_keep_their_own():
    embedder = Introduced()
    vcvs = [await vcv_of(embedder), await vcv_of(embedder, description="", skills=["rye", "spelt"])]
    together = await meanings(embedder).views([*vcvs, replace(vcvs[0], description="", name="Bo")])
    assert [len(views) for views in together] == [1, 3, 1]
    for views in together:
        np.testing.assert_allclose(np.linalg.norm(views, axis=1), 1.0, atol=1e-3)


async def test_many_texts_are_timed_in_parts():
    embedder = HashEmbedder()
    texts = [f"text {number}" for number in range(600)]
    np.testing.assert_array_equal(await meanings(embedder).embed(texts), await embedder.embed(texts))


@pytest.mark.parametrize("texts", [[], ["one"]])
async def test_few_texts_give_as_many_rows(texts: list[str]):
    assert (await meanings(HashEmbedder()).embed(texts)).shape == (len(texts), 256)
