"""Words of texts and their BM25 scores: the whole of it for exact search, the weights for engines with sparse vectors."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise

from foa.index.counts import idf
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
MEAN_WORDS = 18.0  #: of an agent's own text, stop words out; a fixed number, so that weights do not change with the rest
LEAD = 16  #: words at the beginning of an agent's text, its name first, whose neighbours count as phrases
PHRASE = 0.5  #: weight of a phrase beside that of a word
MOST_PROVED = 3 * MEAN_WORDS  #: words of what was proved that count for its length


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


def document_weights(text: str, proved: str = "") -> dict[int, float]:
    """Give the BM25 weight of each word and phrase of an agent, by a 32-bit hash; a query's words bring their idf.

    Args:
        text: the agent's own; the longer it is, the less each word weighs.
        proved: requests it has done well. A text beside the other, so that they do not take weight from the agent's own
            words, and counted as no longer than `MOST_PROVED`, because nobody writes these words to be found.
    """
    own, earned = words(text), words(proved)
    weights = _damped(Counter(own), len(own), 1.0)
    weights |= _damped(Counter(_phrases(own[:LEAD])), len(own), PHRASE)
    for word, weight in _damped(Counter(earned), min(len(earned), MOST_PROVED), 1.0).items():
        weights[word] = weights.get(word, 0.0) + weight
    return weights


def query_weights(text: str) -> dict[int, float]:
    """Give each different word and phrase of a query the weight 1."""
    found = words(text)
    return {_index(word): 1.0 for word in (*found, *_phrases(found))}


def _phrases(found: Sequence[str]) -> list[str]:
    return [f"{one} {other}" for one, other in pairwise(found)]


def _damped(counted: Counter[str], length: float, weight: float) -> dict[int, float]:
    longer = K1 * (1 - B + B * length / MEAN_WORDS)
    return {_index(word): weight * times * (K1 + 1) / (times + longer) for word, times in counted.items()}


class Words:
    """An inverted index of agents' texts.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), eq. 3.15.
    """

    def __init__(self) -> None:
        self._postings: dict[int, dict[AgentId, float]] = {}
        self._found: dict[AgentId, tuple[int, ...]] = {}

    def put(self, agent: AgentId, text: str, proved: str = "") -> None:
        """Index or replace an agent's text and what it has proved."""
        self.drop(agent)
        weights = document_weights(text, proved)
        for word, weight in weights.items():
            self._postings.setdefault(word, {})[agent] = weight
        self._found[agent] = tuple(weights)

    def drop(self, agent: AgentId) -> None:
        """Forget an agent; an unknown one does nothing."""
        for word in self._found.pop(agent, ()):
            postings = self._postings[word]
            del postings[agent]
            if not postings:
                del self._postings[word]

    def search(self, text: str, allowed: Collection[AgentId] | None = None) -> dict[AgentId, float]:
        """Give the BM25 score of every agent that has a word of this text; `allowed` None: of all."""
        scores: dict[AgentId, float] = {}
        for word in query_weights(text):
            postings = self._postings.get(word, {})
            rarity = idf(len(self._found), len(postings))
            for agent, weight in postings.items():
                if allowed is None or agent in allowed:
                    scores[agent] = scores.get(agent, 0.0) + rarity * weight
        return scores
