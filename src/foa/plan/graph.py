"""Small directed graphs of numbered nodes with weighted edges: making one acyclic, and taking out what is implied."""

from collections.abc import Collection, Iterable, Mapping, Sequence

Pair = tuple[int, int]  #: (before, after)


def acyclic(weights: Mapping[Pair, float]) -> tuple[list[Pair], list[Pair]]:
    """Break every cycle at its weakest edge.

    Edges are taken strongest first, and one that closes a cycle is left out: every other edge of that cycle was there
    before it, so it is the weakest. Of equal edges the lower numbers go first, whatever order they come in.

    Returns:
        The edges that stay and those left out.
    """
    followers: dict[int, set[int]] = {}
    stay: list[Pair] = []
    out: list[Pair] = []
    for before, after in sorted(weights, key=lambda pair: (-weights[pair], pair)):
        if before in reachable(followers, after):
            out.append((before, after))
        else:
            stay.append((before, after))
            followers.setdefault(before, set()).add(after)
    return sorted(stay), sorted(out)


def reachable(followers: Mapping[int, Collection[int]], start: int) -> set[int]:
    """Every node that can be reached from `start`, itself included."""
    seen = {start}
    waiting = [start]
    while waiting:
        for follower in followers.get(waiting.pop(), ()):
            if follower not in seen:
                seen.add(follower)
                waiting.append(follower)
    return seen


def reduced(edges: Sequence[Pair]) -> list[Pair]:
    """Leave out each edge of a DAG that a longer path already implies: its transitive reduction, which is unique.

    Source: Aho, Garey and Ullman (1972).
    """
    followers: dict[int, set[int]] = {}
    for before, after in edges:
        followers.setdefault(before, set()).add(after)
    implied = {node: _beyond(followers, after) for node, after in followers.items()}
    return sorted((before, after) for before, after in edges if after not in implied[before])


def _beyond(followers: Mapping[int, Collection[int]], starts: Iterable[int]) -> set[int]:
    found: set[int] = set()
    for start in starts:
        found |= reachable(followers, start) - {start}
    return found


def without(edges: Mapping[Pair, float], node: int) -> dict[Pair, float]:
    """Take a node out; what came before it now comes before what came after it, as strongly as the weaker edge."""
    kept = {pair: weight for pair, weight in edges.items() if node not in pair}
    sources = [(before, weight) for (before, after), weight in edges.items() if after == node]
    targets = [(after, weight) for (before, after), weight in edges.items() if before == node]
    for before, into in sources:
        for after, out_of in targets:
            if before != after:
                kept[before, after] = max(kept.get((before, after), 0.0), min(into, out_of))
    return kept
