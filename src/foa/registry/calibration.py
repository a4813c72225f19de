"""What is known of an embedder beyond its vectors: how far BM25 convinces beside its cosines, what a profile and a request
are embedded as, and how likely it is that the best agent it finds can do the work.

Embedders differ in all of it, so the constants go with the embedder's name. They were fitted on tuning rows, which no
benchmark reports: a quarter of MetaTool's queries by hash and Seal-Tools' `dev` file (decisions 0021, 0023, 0024).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foa.values.vcv import Vector

_LEAD_OVER = 5  #: how many of the next best the lead is over
FEWEST = 1 + _LEAD_OVER  #: agents from which a fit says something: the constants were fitted on searches that found them
_CLEAR = 1e-3  #: similarities nearer to 0 or 1 than this say no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The constants of one embedder."""

    lexical: float = 0.025  #: κ, what one point of BM25 convinces
    name: float = 0.0  #: weight of its name beside what an agent says of itself, embedded apart; 0: it is found under c
    intro: str = ""  #: put before what it says of itself
    asked: str = ""  #: put before a request, for the vector that is compared with those of agents and of other requests
    fit_similarity: float = 0.31  #: of the log odds of the best similarity
    fit_lead: float = 9.02  #: of its lead
    fit_offset: float = -1.62

    def request(self, text: str) -> str:
        """Give what a request is embedded as; one that says nothing stays so."""
        return f"{self.asked}{text}" if text.strip() else text

    def fit(self, similarity: Vector) -> float:
        """Give the probability that the best of these agents can do the work, where it is as likely as not that one can.

        A logistic regression on how similar the best one is, and how far before the mean of the next five: the same
        similarity means much where the others are far behind, and little where all of them are as near.

        Args:
            similarity: of those that the search found, 0 to 1, shape (n,), n at least `FEWEST`.
        """
        best, *next_best = np.sort(similarity)[::-1][:FEWEST].tolist()
        lead = best - sum(next_best) / _LEAD_OVER
        clear = min(max(best, _CLEAR), 1 - _CLEAR)
        odds = self.fit_similarity * math.log(clear / (1 - clear)) + self.fit_lead * lead + self.fit_offset
        return 1 / (1 + math.exp(-odds))


#: By the embedder's name, which is its id up to the colon; an embedder nobody measured is taken to be like WordLlama.
CALIBRATIONS: Mapping[str, Calibration] = {
    "wordllama-l2-supercat-256": Calibration(),
    "minilm-l6-int8+wordllama-640": Calibration(
        lexical=0.015,
        intro="This tool can help you: ",
        name=0.4,
        asked="Which tool can help me: ",
        fit_similarity=0.47,
        fit_lead=11.24,
        fit_offset=-1.97,
    ),
}


def calibration_of(embedder: str) -> Calibration:
    """Give the constants of an embedder, by its id."""
    return CALIBRATIONS.get(embedder.rpartition(":")[0], Calibration())
