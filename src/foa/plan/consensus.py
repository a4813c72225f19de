"""When a cluster stops, and whose draft represents it (Alg. 4). Pure: every member computes the same from the same posts.

drafts + weights ─► representative: the medoid, by similarity to the others × weight × confidence
votes  + weights ─► quorum_reached
texts            ─► similarity: 0 nothing in common, 1 the same words; `moved` is 1 minus it
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice

from foa.values.draft import Claim, Draft
from foa.values.ids import AgentId

MAX_WORDS = 600  #: of an answer that similarity looks at; longer answers are judged by their beginning

_WORD = re.compile(r"[^\W_]+(?:_[^\W_]+)*")
#: Words that say nothing about what a text is about (English).
_STOP = frozenset(
    re.findall(
        r"\w+",
        """a about all also an and any are as at be been but by can did do does for from had has have how i if in into is it
        its me may more no not of on or our should so such than that the their them then there these they this those to us
        was we were what when where which who why will with would you your""",
    )
)


@lru_cache(maxsize=2048)
def words(text: str) -> frozenset[str]:
    """The words a text is about: lower case, common English words left out, at most `MAX_WORDS`."""
    found = (match[0].lower() for match in islice(_WORD.finditer(text), MAX_WORDS))
    return frozenset(word for word in found if word not in _STOP)


def similarity(one: Iterable[str], other: Iterable[str]) -> float:
    """Cosine of two sets of words, 0 to 1. Two empty sets are the same (1); one empty set has nothing in common (0)."""
    a, b = frozenset(one), frozenset(other)
    if not a or not b:
        return 1.0 if a == b else 0.0
    return len(a & b) / math.sqrt(len(a) * len(b))


def substance(draft: Draft) -> frozenset[str]:
    """The words of an answer and its claims together."""
    return words(" ".join([draft.answer, *(claim.text for claim in draft.claims)]))


def moved(before: Draft, after: Draft) -> float:
    """How far an answer went from one round to the next, 0 (the same words) to 1."""
    if before == after:
        return 0.0
    return min(1.0, max(0.0, 1.0 - similarity(substance(before), substance(after))))


def representative(drafts: Mapping[AgentId, Draft], weights: Mapping[AgentId, float]) -> AgentId:
    """Choose whose draft stands for the cluster: the one that the trusted members come nearest to.

    Each draft scores its own weight plus its similarity to every other draft times that member's weight, all times its
    confidence. Ties go to the smaller id, so every member finds the same one, whatever order the posts came in.

    Args:
        drafts: the last draft heard from each member, at least one.
        weights: reputation, 0 to 1; a member not in it weighs 0.5.

    Raises:
        ValueError: there are no drafts.

    Source: arXiv:2509.20175, Alg. 4, which leaves "the representative" open; reputation-weighted medoid.
    """
    if not drafts:
        raise ValueError("a cluster without drafts has no representative")
    support = agreement(drafts, weights)
    return min(drafts, key=lambda agent: (-round(support[agent] * drafts[agent].confidence, 9), agent))


def agreement(drafts: Mapping[AgentId, Draft], weights: Mapping[AgentId, float]) -> dict[AgentId, float]:
    """Weighted mean similarity of each draft to all drafts, itself included, 0 to 1."""
    order = sorted(drafts)  # one order of adding up, so that every member gets the same last bit
    about = {agent: substance(drafts[agent]) for agent in order}
    weigh = {agent: _weight(weights, agent) for agent in order}
    total = math.fsum(weigh.values())
    if total <= 0.0:
        weigh, total = dict.fromkeys(order, 1.0), float(len(order))
    return {
        one: min(1.0, math.fsum(weigh[other] * similarity(about[one], about[other]) for other in order) / total)
        for one in order
    }


def quorum_reached(votes: Mapping[AgentId, bool], weights: Mapping[AgentId, float], *, quorum: float) -> bool:
    """Whether the members heard, by weight, want to stop; the silent have no voice. No votes: no quorum.

    Args:
        votes: stop (True) or go on (False), by member.
        weights: as in `representative`.
        quorum: share of the weight that must say stop, 0 to 1.
    """
    total = math.fsum(_weight(weights, agent) for agent in sorted(votes))
    if total <= 0.0:
        return bool(votes) and all(votes.values())
    stop = math.fsum(_weight(weights, agent) for agent in sorted(votes) if votes[agent])
    return stop > 0.0 and stop / total >= quorum - 1e-9


def gain_spent(moves: Iterable[float], *, gain: float) -> bool:
    """Whether the answers moved less than `gain` on average (the marginal-gain stop). No moves: False."""
    found = list(moves)
    return bool(found) and math.fsum(found) / len(found) < gain


def shared(one: Claim, other: Claim, *, at_least: float = 0.7) -> bool:
    """Whether two claims say the same: like words, or the same place and partly the same words."""
    near = similarity(words(one.text), words(other.text))
    same_place = one.source is not None and other.source is not None and one.source.locator == other.source.locator
    return near >= (at_least / 2 if same_place else at_least)


def _weight(weights: Mapping[AgentId, float], agent: AgentId) -> float:
    found = weights.get(agent, 0.5)
    return min(1.0, max(0.0, found)) if math.isfinite(found) else 0.0
