"""What an agent answers without a language model: deterministic, so that a job never hangs on one.

propose   several questions are several subtasks, steps ("do this, then that") a chain of them, one question stays one
revise    keep what is sourced or shared, adopt what a weighted majority shares, vote stop when nothing changed
"""

import math
import re
from itertools import pairwise

from foa.agents.brain import Peer, Revised, Revision
from foa.plan.consensus import shared, similarity, substance, words
from foa.values.draft import Claim, Draft
from foa.values.plan import Proposal, ProposedSubtask

MAX_CLAIMS = 24  #: of one draft, adopted ones included
ADOPT_A_ROUND = 2  #: sourced claims of one trusted peer's own, beside those that a majority shares
MAX_ANSWER = 6_000  #: characters of an answer grown by adopting

_ITEM = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s+(.{8,})$", re.MULTILINE)
_QUESTION = re.compile(r"[^.?!\n]{8,}\?")
_STEP = re.compile(r"(?:[,;.]\s+(?:and\s+)?|\s+and\s+)then\s+", re.IGNORECASE)
_CONDITION = re.compile(r"\s*(?:if|when|whenever|once|unless)\b", re.IGNORECASE)  # its "then" is no step


def propose_by_rule(text: str, *, most: int) -> Proposal:
    """Split along the author's own marks: a list's items, else its questions, else its steps; else leave the task whole.

    Args:
        text: the task.
        most: the largest number of subtasks, from 1.
    """
    parts = _ITEM.findall(text)
    if not 2 <= len(parts) <= most:
        parts = _QUESTION.findall(text)
    edges: tuple[tuple[int, int], ...] = ()
    if not 2 <= len(parts) <= most:
        parts = _steps(text)
        edges = tuple(pairwise(range(len(parts))))
    if not 2 <= len(parts) <= most:
        parts, edges = [text], ()
    cleaned = [" ".join(part.split())[:2_000] for part in parts]
    return Proposal(subtasks=tuple(ProposedSubtask(text=part or "Answer the task.") for part in cleaned), edges=edges)


def _steps(text: str) -> list[str]:
    """What is to be done one after the other; nothing where a part is no sentence of its own."""
    parts = [] if _CONDITION.match(text) else [part.strip() for part in _STEP.split(text)]
    return parts if all(len(part) >= 8 for part in parts) else []


def revise_by_rule(revision: Revision) -> Revised:
    """Update a draft by a reputation-weighted vote over claims.

    - A peer's claim that a weighted majority of the members shares is adopted.
    - A sourced claim of a peer at least as trusted as the average is adopted when it answers the subtask, two a round.
    - An own claim without a source that nobody shares is dropped when the majority is against it.

    The vote is stop when nothing changed.
    """
    own, peers = revision.own, revision.peers
    total = revision.own_weight + math.fsum(peer.weight for peer in peers)
    kept = tuple(claim for claim in own.claims if _holds(claim, peers, total))
    adopted = _adopted(revision, kept, total)
    critique = _critique(peers)
    if not adopted and len(kept) == len(own.claims):
        return Revised(draft=own, critique=critique, stop=True)
    claims = (*kept, *adopted)[:MAX_CLAIMS]
    answer = own.answer
    if adopted:
        lines = [f"- {claim.text}" + (f" [{claim.source.locator}]" if claim.source else "") for claim in adopted]
        answer = "\n".join([answer, *lines])[:MAX_ANSWER] if len(answer) < MAX_ANSWER else answer
    sourced = sum(claim.source is not None for claim in claims) / max(1, len(claims))
    confidence = round(min(1.0, max(own.confidence, 0.5 * own.confidence + 0.5 * sourced)), 4)
    draft = Draft(answer=answer, claims=claims, confidence=confidence, uncertain=own.uncertain, fallback=own.fallback)
    return Revised(draft=draft, critique=critique, stop=False)


def _holds(claim: Claim, peers: tuple[Peer, ...], total: float) -> bool:
    """Whether an own claim stays: it has a source, or not more than half of the weight is silent about it."""
    if claim.source is not None or len(peers) < 2:
        return True
    against = math.fsum(peer.weight for peer in peers if not any(shared(claim, other) for other in peer.draft.claims))
    return against <= total / 2


def _adopted(revision: Revision, kept: tuple[Claim, ...], total: float) -> tuple[Claim, ...]:
    peers, about = revision.peers, words(revision.text)
    mean = total / (len(peers) + 1)
    adopted: list[Claim] = []
    offered: list[tuple[float, str, Claim]] = []
    for peer in sorted(peers, key=lambda peer: (-peer.weight, peer.agent)):
        for claim in peer.draft.claims[:MAX_CLAIMS]:
            if any(shared(claim, mine) for mine in (*kept, *adopted)):
                continue
            backing = math.fsum(
                p.weight for p in peers if any(shared(claim, other) for other in p.draft.claims[:MAX_CLAIMS])
            )
            if backing > total / 2:
                adopted.append(claim)
            elif claim.source is not None and peer.weight >= mean - 1e-9:
                offered.append((-similarity(words(claim.text), about) * peer.weight, peer.agent, claim))
    for score, _, claim in sorted(offered, key=lambda offer: offer[:2])[:ADOPT_A_ROUND]:
        if score < 0.0 and not any(shared(claim, mine) for mine in adopted):
            adopted.append(claim)
    return tuple(adopted[: max(0, MAX_CLAIMS - len(kept))])


def _critique(peers: tuple[Peer, ...]) -> str:
    """Name the peer whose draft has the most claims without a source."""
    bare = {peer.agent: sum(claim.source is None for claim in peer.draft.claims) for peer in peers}
    worst = max(sorted(bare), key=lambda agent: bare[agent], default=None)
    if worst is None or bare[worst] == 0:
        return ""
    count = next(len(peer.draft.claims) for peer in peers if peer.agent == worst)
    return f"{worst}: {bare[worst]} of {count} claims have no source"


def agrees(own: Draft, peers: tuple[Peer, ...], *, at_least: float = 0.8) -> bool:
    """Whether the weighted mean of the peers says nearly what `own` says."""
    total = math.fsum(peer.weight for peer in peers)
    if total <= 0.0:
        return not peers
    mine = substance(own)
    return math.fsum(peer.weight * similarity(mine, substance(peer.draft)) for peer in peers) / total >= at_least
