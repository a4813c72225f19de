"""Agent profiles by the hundred thousand, from what real authors wrote, recombined."""

import re
from collections.abc import Iterator

import numpy as np

from benchmarks._data import folder, rows

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def authors_texts() -> list[str]:
    """Every description of the two profile folders: MCP servers and tools, community agents, A2A cards, models, web APIs."""
    texts: list[str] = []
    for name in ("profiles_mcp", "profiles_agents"):
        for file in sorted(folder(name).glob("*.jsonl")):
            for row in rows(file):
                card = row.get("card", row)
                texts.append(str(card.get("description") or ""))
    return [text for text in dict.fromkeys(texts) if len(text) > 20]


def profiles(count: int, *, seed: int = 1) -> Iterator[str]:
    """Give `count` texts: the real ones first, then a sentence of one with sentences of another."""
    texts = authors_texts()
    sentences = [[part for part in _SENTENCE.split(text) if len(part) > 10] or [text] for text in texts]
    rng = np.random.default_rng(seed)
    yield from texts[:count]
    for _ in range(count - len(texts)):
        first, second = rng.integers(0, len(sentences), 2)
        one = sentences[first][rng.integers(0, len(sentences[first]))]
        two = sentences[second][rng.integers(0, len(sentences[second]))]
        yield f"{one} {two}"[:600]
