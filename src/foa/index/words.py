"""Words of texts and their BM25 scores: the whole of it for exact search, the weights for engines with sparse vectors."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

from foa.values.ids import AgentId

_WORD = re.compile(r"[^\W_]+")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can could do does for from has have how i if in into is it its me my of on or our please "
        "should so some such that the their them then there these they this to us was we what when where which who will "
        "with would you your",
    )
)
K1 = 1.2
B = 0.75
MEAN_WORDS = 18.0  #: of an agent's own text, stop words out, where the engine needs a fixed number


def words(text: str) -> list[str]:
    """Give the words of a text: case folded, `camelCase` and `snake_case` split, stop words out, plain plurals cut."""
    found = (word.casefold() for word in _WORD.findall(_HUMPS.sub(" ", text)))
    return [_stem(word) for word in found if word not in _STOP]


def _stem(word: str) -> str:
    for ending, least in (("ies", 5), ("ing", 6), ("es", 5), ("s", 4), ("ed", 5)):
        if len(word) >= least and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word


@lru_cache(maxsize=65_536)
def _index(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="replace"), digest_size=4).digest(), "little")


def document_weights(text: str) -> dict[int, float]:
    """Give the BM25 weight of each word of a text, by a 32-bit hash of the word; the engine multiplies with its idf.

    The mean length is taken for `MEAN_WORDS`, so that a text's weights do not change with what else is stored.
    """
    counted = Counter(words(text))
    longer = K1 * (1 - B + B * counted.total() / MEAN_WORDS)
    return {_index(word): times * (K1 + 1) / (times + longer) for word, times in counted.items()}


def query_weights(text: str) -> dict[int, float]:
    """Give each different word of a query the weight 1."""
    return {_index(word): 1.0 for word in words(text)}


class Words:
    """An inverted index of agents' texts.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), eq. 3.15.
    """

    def __init__(self) -> None:
        self._postings: dict[str, dict[AgentId, int]] = {}
        self._lengths: dict[AgentId, int] = {}
        self._texts: dict[AgentId, tuple[str, ...]] = {}
        self._total = 0

    def put(self, agent: AgentId, text: str) -> None:
        """Index or replace an agent's text."""
        self.drop(agent)
        counted = Counter(words(text))
        for word, times in counted.items():
            self._postings.setdefault(word, {})[agent] = times
        self._texts[agent] = tuple(counted)
        self._lengths[agent] = counted.total()
        self._total += counted.total()

    def drop(self, agent: AgentId) -> None:
        """Forget an agent; an unknown one does nothing."""
        self._total -= self._lengths.pop(agent, 0)
        for word in self._texts.pop(agent, ()):
            postings = self._postings[word]
            del postings[agent]
            if not postings:
                del self._postings[word]

    def search(self, text: str, allowed: Collection[AgentId] | None = None) -> dict[AgentId, float]:
        """Give the BM25 score of every agent that has a word of this text; `allowed` None: of all."""
        scores: dict[AgentId, float] = {}
        mean = self._total / max(1, len(self._lengths))
        for word in dict.fromkeys(words(text)):
            postings = self._postings.get(word, {})
            idf = math.log1p((len(self._lengths) - len(postings) + 0.5) / (len(postings) + 0.5))
            for agent, times in postings.items():
                if allowed is None or agent in allowed:
                    damped = times + K1 * (1 - B + B * self._lengths[agent] / mean)
                    scores[agent] = scores.get(agent, 0.0) + idf * times * (K1 + 1) / damped
        return scores
