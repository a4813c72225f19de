"""Phase 3: agents whose drafts and profiles are alike form a cluster (Alg. 3). A pure function of vectors."""

from collections.abc import Mapping, Sequence

import numpy as np

from foa.plan.cluster import form_clusters, similarity
from foa.ports import Embedder
from foa.values.draft import AgentDraft
from foa.values.ids import AgentId
from foa.values.parameters import Parameters
from foa.values.resources import Resources
from foa.values.vcv import Matrix, Vcv


async def group_drafts(
    drafts: Sequence[AgentDraft], cards: Mapping[AgentId, Vcv], embedder: Embedder, parameters: Parameters
) -> tuple[tuple[str, ...], ...]:
    """Group the drafters of one subtask.

    Args:
        drafts: at least one, in any order.
        cards: the VCVs of the drafters; one that has left meanwhile has none and stays by itself.
        embedder: ψ, for the drafts' texts.
        parameters: threshold, sizes and weights.

    Returns:
        The members of each cluster, sorted; together they are every drafter.

    Raises:
        ModelUnreachable: the embedder does not answer.
    """
    alone = tuple((kept.agent,) for kept in sorted(drafts, key=_name) if kept.agent not in cards)
    drafts = sorted((kept for kept in drafts if kept.agent in cards), key=_name)
    if len(drafts) < 2:
        return (*((kept.agent,) for kept in drafts), *alone)
    vcvs = [cards[kept.agent] for kept in drafts]
    alike = similarity(
        np.stack([vcv.c for vcv in vcvs]),
        resource_rows([vcv.r for vcv in vcvs]),
        await embedder.embed([kept.draft.answer for kept in drafts]),
        np.stack([vcv.e for vcv in vcvs]),
        weights=(parameters.cluster_w1, parameters.cluster_w2, parameters.cluster_w3, parameters.cluster_w4),
    )
    clusters = form_clusters(alike, threshold=parameters.cluster_sim_threshold, members_max=parameters.cluster_max_members)
    return (*(tuple(drafts[i].agent for i in cluster) for cluster in clusters), *alone)


def _name(kept: AgentDraft) -> str:
    return kept.agent


def resource_rows(resources: Sequence[Resources]) -> Matrix:
    """Resources as comparable rows: each stated quantity as log(1 + x), not stated as 0; shape (n, 7), float32."""
    rows = [
        [
            r.price.of(tokens_in=1_000, tokens_out=250, calls=1) * 1_000,
            r.latency_seconds or 0.0,
            r.tokens_per_second or 0.0,
            r.context_tokens or 0.0,
            r.memory_bytes or 0.0,
            r.vram_bytes or 0.0,
            r.bandwidth_bytes_per_second or 0.0,
        ]
        for r in resources
    ]
    return np.log1p(np.asarray(rows, dtype=np.float32))
