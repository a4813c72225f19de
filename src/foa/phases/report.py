"""Phase 5: one report a subtask: the best of its clusters' answers, what the others add, who worked on it, who was lost."""

from collections.abc import Mapping, Sequence

from foa.plan.consensus import similarity, substance
from foa.values.draft import Draft
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.result import ClusterView, Report

SAME = 0.6  #: from this likeness on, another cluster's answer adds nothing
MOST_ADDED = 4_000  #: characters of another cluster's answer
MOST_CLAIMS = 64  #: as many as the next request carries


def report(
    subtask: Subtask,
    ended: Sequence[tuple[ClusterView, Draft, float]],
    *,
    weights: Mapping[AgentId, float],
    lost: Mapping[AgentId, str],
) -> Report:
    """Choose the answer of a subtask among its clusters.

    Args:
        subtask: what was asked.
        ended: each cluster with its representative draft and confidence; at least one.
        weights: reputation of the agents, 0 to 1.
        lost: agents of this subtask that were lost, with why.

    Returns:
        The answer of the cluster with the highest confidence × reputation × share of the voices, ties by id. Clusters
        are apart because they say different things, so what another one has sources for stands below it, under its name.
    """
    voices = sum(len(view.members) for view, _, _ in ended)

    def rank(item: tuple[ClusterView, Draft, float]) -> tuple[float, str]:
        view, _, confidence = item
        weight = weights.get(AgentId(view.representative), 0.5)
        return (-confidence * weight * len(view.members) / voices, view.id)

    (view, draft, confidence), *others = sorted(ended, key=rank)
    more = [(other.representative, said) for other, said, _ in others if _adds(said, draft)]
    added = "".join(f"\n\n{agent} adds:\n{said.answer[:MOST_ADDED]}" for agent, said in more)
    claims = dict.fromkeys([*draft.claims, *(claim for _, said in more for claim in said.claims if claim.source)])
    return Report(
        subtask=subtask.id,
        text=subtask.text,
        answer=draft.answer + added,
        claims=tuple(claims)[:MOST_CLAIMS],
        confidence=confidence,
        by=view.representative,
        agents=tuple(sorted({agent for cluster, _, _ in ended for agent in cluster.members})),
        lost={str(agent): reason for agent, reason in lost.items()},
    )


def _adds(other: Draft, best: Draft) -> bool:
    """Whether a draft brings something with sources that the best one does not say."""
    return any(claim.source for claim in other.claims) and similarity(substance(other), substance(best)) < SAME


def failed(subtask: Subtask, error: str, *, lost: Mapping[AgentId, str]) -> Report:
    """A subtask without an answer, and why."""
    return Report(
        subtask=subtask.id,
        text=subtask.text,
        answer="",
        lost={str(agent): reason for agent, reason in lost.items()},
        error=error,
    )
