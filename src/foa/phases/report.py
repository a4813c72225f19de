"""Phase 5: one report a subtask: the best of its clusters' answers, with who worked on it and who was lost."""

from collections.abc import Mapping, Sequence

from foa.values.draft import Draft
from foa.values.ids import AgentId
from foa.values.plan import Subtask
from foa.values.result import ClusterView, Report


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
        The answer of the cluster with the highest confidence × reputation × share of the voices; ties by cluster id.
    """
    voices = sum(len(view.members) for view, _, _ in ended)

    def rank(item: tuple[ClusterView, Draft, float]) -> tuple[float, str]:
        view, _, confidence = item
        weight = weights.get(AgentId(view.representative), 0.5)
        return (-confidence * weight * len(view.members) / voices, view.id)

    view, draft, confidence = min(ended, key=rank)
    return Report(
        subtask=subtask.id,
        text=subtask.text,
        answer=draft.answer,
        claims=draft.claims,
        confidence=confidence,
        by=view.representative,
        agents=tuple(sorted({agent for cluster, _, _ in ended for agent in cluster.members})),
        lost={str(agent): reason for agent, reason in lost.items()},
    )


def failed(subtask: Subtask, error: str, *, lost: Mapping[AgentId, str]) -> Report:
    """A subtask without an answer, and why."""
    return Report(
        subtask=subtask.id,
        text=subtask.text,
        answer="",
        lost={str(agent): reason for agent, reason in lost.items()},
        error=error,
    )
