"""Who contributed how much: leave-one-out and GTG-Shapley on a held-out set. Needs single updates, so no secure aggregation.

Source: Liu et al., "GTG-Shapley: efficient and accurate participant contribution evaluation in federated learning",
ACM TIST 2022, algorithm 1: sub-models are rebuilt from the round's updates, nobody trains again; truncation within a
permutation and between rounds.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from foa.values.ids import AgentId

#: How good the model is with the updates of these clients only (none: the base); higher is better, e.g. accuracy.
Worth = Callable[[frozenset[AgentId]], float]


def leave_one_out(clients: Sequence[AgentId], worth: Worth) -> dict[AgentId, float]:
    """What the round would lose without each client. Two that bring the same both get nothing: prefer Shapley."""
    everyone = frozenset(clients)
    whole = worth(everyone)
    return {client: whole - worth(everyone - {client}) for client in clients}


def gtg_shapley(
    clients: Sequence[AgentId],
    worth: Worth,
    *,
    rng: np.random.Generator,
    within: float = 1e-3,
    between: float = 1e-3,
    permutations: int = 100,
    settle: float = 0.01,
) -> dict[AgentId, float]:
    """Shapley values by guided, truncated sampling.

    Args:
        clients: of this round.
        worth: is called once for each set at most.
        rng: draws the permutations.
        within: the rest of a permutation counts 0 once its prefix is this near the whole.
        between: a round that changed less than this gives everybody 0.
        permutations: most to draw; each client leads in turn (the "guided" part).
        settle: stop when the values changed less than this share on average over one turn of leaders.
    """
    known = dict[frozenset[AgentId], float]()

    def value(group: frozenset[AgentId]) -> float:
        if group not in known:
            known[group] = float(worth(group))
        return known[group]

    whole, base = value(frozenset(clients)), value(frozenset())
    total = dict.fromkeys(clients, 0.0)
    if not clients or abs(whole - base) <= between:
        return total
    last = np.zeros(len(clients))
    for drawn in range(1, permutations + 1):
        leader = clients[(drawn - 1) % len(clients)]
        rest = [client for client in clients if client != leader]
        order = [leader, *(rest[i] for i in rng.permutation(len(rest)))]
        _add_marginals(order, value, whole, base, within, total)
        if drawn % len(clients) == 0 and drawn >= 2 * len(clients):
            now = np.array([total[client] / drawn for client in clients])
            if np.abs(now - last).mean() <= settle * max(np.abs(now).mean(), 1e-12):
                return {client: total[client] / drawn for client in clients}
            last = now
    return {client: total[client] / permutations for client in clients}


def _add_marginals(
    order: Sequence[AgentId], value: Worth, whole: float, base: float, within: float, total: dict[AgentId, float]
) -> None:
    before, group = base, frozenset[AgentId]()
    for client in order:
        group = group | {client}
        # what is left cannot add more than it is away from the whole
        after = before if abs(whole - before) <= within else value(group)
        total[client] += after - before
        before = after


def grades(shares: Mapping[AgentId, float]) -> dict[AgentId, float]:
    """Credits as grades between 0 and 1 for reputation: ½ is an average contribution, harm is under it."""
    if not shares:
        return {}
    scale = max(max(abs(share) for share in shares.values()), 1e-12)
    mean = sum(shares.values()) / len(shares)
    return {client: min(1.0, max(0.0, 0.5 + (share - mean) / (4 * scale))) for client, share in shares.items()}
