"""Secure aggregation without a network: sums, drop-outs, and what a curious or lying server gets."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from foa.errors import BadMessage
from foa.fl.secagg.assembly import Assembly, Revealed, Shared, threshold
from foa.fl.secagg.levels import Scale, from_levels, to_levels
from foa.fl.secagg.masks import Levels, mask
from foa.fl.secagg.member import Keys, Member
from foa.fl.secagg.shares import join, split


@dataclass
class Seen:
    """Everything that a server gets in a round."""

    masked: dict[int, Levels] = field(default_factory=dict)
    there: list[int] = field(default_factory=list)


def sum_of(
    vectors: Mapping[int, Levels],
    *,
    before_share: Collection[int] = (),
    before_hide: Collection[int] = (),
    before_reveal: Collection[int] = (),
    neighbours: int = 64,
    seen: Seen | None = None,
) -> Levels:
    """The protocol from end to end; whoever is named is gone before that step."""
    members = {node: Member(node=node, about="run-1|1") for node in vectors}
    server = Assembly({node: member.keys() for node, member in members.items()}, "run-1|1", neighbours=neighbours)
    shared = {
        node: Shared(sealed=members[node].share(keys, server.threshold), seed_sha256=members[node].seed_sha256)
        for node, keys in server.introduce().items()
        if node not in before_share
    }
    passed = server.pass_on(shared)
    masked = {node: members[node].hide(sealed, vectors[node]) for node, sealed in passed.items() if node not in before_hide}
    asked = server.add(masked)
    revealed = dict[int, Revealed]()
    for node, (there, gone) in asked.items():
        if node not in before_reveal:
            seeds, privates = members[node].reveal(there, gone)
            revealed[node] = Revealed(seeds=seeds, privates=privates)
    if seen is not None:
        seen.masked, seen.there = masked, list(server.there)
    return server.total(revealed)


def until_shared(given: Mapping[int, Levels]) -> tuple[Assembly, dict[int, Member], dict[int, Shared]]:
    members = {node: Member(node=node, about="r") for node in given}
    server = Assembly({node: member.keys() for node, member in members.items()}, "r")
    shared = {
        node: Shared(sealed=members[node].share(keys, server.threshold), seed_sha256=members[node].seed_sha256)
        for node, keys in server.introduce().items()
    }
    return server, members, shared


def vectors(count: int, width: int = 5) -> dict[int, Levels]:
    rng = np.random.default_rng(count)
    return {node * 7: rng.integers(0, 2**32, width, dtype=np.uint32) for node in range(1, count + 1)}


def plain(given: Mapping[int, Levels], without: Collection[int] = ()) -> list[int]:
    return [int(v) for v in sum(v.astype(np.uint64) for node, v in given.items() if node not in without) % 2**32]


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_the_sum_is_the_plain_sum(count: int) -> None:
    assert sum_of(vectors(count)).tolist() == plain(vectors(count))


@pytest.mark.parametrize("step", ["before_share", "before_hide"])
def test_a_member_that_drops_out_is_not_in_the_sum(step: str) -> None:
    assert sum_of(vectors(4), **{step: {14}}).tolist() == plain(vectors(4), without={14})


def test_a_member_that_drops_out_after_its_update_is_in_the_sum() -> None:
    assert sum_of(vectors(4), before_reveal={14}).tolist() == plain(vectors(4))


def test_a_third_may_drop_out_at_different_steps() -> None:
    # nine members need six shares: one leaves before sharing, one before its update, one before revealing
    found = sum_of(vectors(9), before_share={7}, before_hide={14}, before_reveal={21})
    assert found.tolist() == plain(vectors(9), without={7, 14})


def test_with_more_gone_there_is_no_model_and_it_is_said() -> None:
    with pytest.raises(BadMessage, match="no model"):
        sum_of(vectors(4), before_hide={7, 14})
    with pytest.raises(BadMessage, match="no model"):
        sum_of(vectors(4), before_reveal={7, 14})


def test_two_members_are_too_few() -> None:
    with pytest.raises(BadMessage, match="3 members"):
        sum_of(vectors(2))


def test_many_members_share_with_some_neighbours_only() -> None:
    assert sum_of(vectors(40), neighbours=8, before_hide={7 * 20}).tolist() == plain(vectors(40), without={140})


def test_what_the_server_gets_from_a_member_is_no_function_of_its_update() -> None:
    # the same zeros twice: the masked vectors are uniform and differ, and differ from the zeros in about every place
    zeros = {node: np.zeros(4_000, np.uint32) for node in (1, 2, 3, 4)}
    first, second = Seen(), Seen()
    sum_of(zeros, seen=first)
    sum_of(zeros, seen=second)
    for node in zeros:
        assert np.mean(first.masked[node] == second.masked[node]) < 0.01
        # mean of a uniform number over 32 bits is 2³¹ with a deviation of 2³² / √12; of 4,000 of them / √4,000: 5 of these
        assert abs(first.masked[node].mean() - 2**31) < 5 * 2**32 / 12**0.5 / 4_000**0.5


def test_with_all_that_is_revealed_the_server_cannot_unmask_one_member_alone() -> None:
    given = vectors(4, width=64)
    seen = Seen()
    server, members, shared = until_shared(given)
    passed = server.pass_on(shared)
    seen.masked = {node: members[node].hide(sealed, given[node]) for node, sealed in passed.items()}
    revealed = {node: members[node].reveal(*asked) for node, asked in server.add(seen.masked).items()}
    places = {node: place for place, node in enumerate(sorted(given), 1)}
    for node in given:
        # seeds are what it learns; a member's own mask comes off, those with its neighbours stay
        seed = join({places[holder]: seeds[node] for holder, (seeds, _) in list(revealed.items())[: server.threshold]})
        half_open = seen.masked[node] - mask(seed, 64)
        assert np.mean(half_open == given[node]) < 0.05
    assert all(not privates for _, privates in revealed.values())


# ── a lying server ─────────────────────────────────────────────────────────────────────────────────────────────────────
def at_reveal(count: int = 4) -> tuple[dict[int, Member], list[int]]:
    given = vectors(count)
    server, members, shared = until_shared(given)
    for node, sealed in server.pass_on(shared).items():
        members[node].hide(sealed, given[node])
    return members, sorted(given)


@pytest.mark.parametrize(
    ("there", "gone", "why"),
    [
        ((7, 14, 21, 28), (14,), "at once"),
        ((7, 14, 21, 99), (), "stranger"),
        ((14, 21, 28), (), "stranger"),  # the member itself is said to be gone
        ((7,), (14, 21, 28), "only 1"),
        ((7, 7, 14, 14), (), "at once"),
    ],
)
def test_a_member_reveals_nothing_that_would_show_one_update(
    there: tuple[int, ...], gone: tuple[int, ...], why: str
) -> None:
    members, _ = at_reveal()
    with pytest.raises(BadMessage, match=why):
        members[7].reveal(there, gone)


def test_a_member_reveals_once() -> None:
    members, nodes = at_reveal()
    members[7].reveal(nodes, ())
    with pytest.raises(BadMessage, match="begin a new round"):
        members[7].reveal(nodes[:3], nodes[3:])


def test_no_threshold_lets_half_of_the_holders_give_both_secrets() -> None:
    for least in (1, 2, 5):
        member = Member(node=1, about="r")
        keys = {1: member.keys(), **{node: Member(node=node, about="r").keys() for node in (2, 3, 4)}}
        with pytest.raises(BadMessage, match="threshold"):
            member.share(keys, least)
    assert [threshold(holders) for holders in (3, 4, 5, 6, 9, 65)] == [2, 3, 4, 4, 6, 44]


def test_a_threshold_that_two_helpers_could_turn_against_one_is_refused() -> None:
    # of nine with a threshold of five, two helpers and half of the other seven would give both secrets of a member
    member = Member(node=1, about="r")
    keys = {1: member.keys(), **{node: Member(node=node, about="r").keys() for node in range(2, 10)}}
    with pytest.raises(BadMessage, match="threshold of 5"):
        member.share(keys, 5)


@pytest.mark.parametrize(("least", "reveals"), [(6, False), (5, True)])
def test_lies_that_differ_from_member_to_member_leave_as_many_in_the_sum_as_an_owner_wants(
    least: int, reveals: bool
) -> None:
    nodes = range(9)
    members = {node: Member(node=node, about="r", survivors_min=least) for node in nodes}
    server = Assembly({node: member.keys() for node, member in members.items()}, "r")
    sealed = {node: members[node].share(keys, server.threshold) for node, keys in server.introduce().items()}
    for node in nodes:
        members[node].hide({other: sealed[other][node] for other in nodes if other != node}, np.zeros(1, np.uint32))
    # each hears of three gone only; 8 × 3 shares make 4 members gone where six are needed for each: five are left
    lies = {8: (5, 6, 7), 7: (5, 6, 8), 6: (5, 7, 8), 5: (6, 7, 8), 0: (5, 6, 7), 1: (5, 6, 8), 2: (5, 7, 8), 3: (6, 7, 8)}
    given = 0
    for node, gone in lies.items():
        with contextlib.suppress(BadMessage):
            given += len(members[node].reveal([other for other in nodes if other not in gone], gone)[1])
    assert (given >= 4 * server.threshold) is reveals


def test_a_server_that_makes_keys_up_for_one_person_is_caught_where_it_can_be() -> None:
    member = Member(node=1, about="r")
    own, other = member.keys(), Member(node=2, about="r").keys()
    for keys in (
        {1: own, 2: other, 3: other},  # one key for two
        {1: other, 2: own, 3: Member(node=3, about="r").keys()},  # its own changed
        {1: own, 2: other, 3: Keys(other.masking, other.sealing)},
        {1: own, 2: other},
    ):
        fresh = Member(node=1, about="r")
        fresh.keys()
        with pytest.raises(BadMessage):
            fresh.share(keys, 2)


def test_a_share_sent_to_another_or_in_another_round_is_refused() -> None:
    members, introduced = {}, {}
    for about in ("r|1", "r|2"):
        members[about] = {node: Member(node=node, about=about) for node in (1, 2, 3)}
        introduced[about] = {node: member.keys() for node, member in members[about].items()}
    sealed = {a: {n: m.share(introduced[a], 2) for n, m in members[a].items()} for a in members}
    zeros = np.zeros(2, np.uint32)
    with pytest.raises(BadMessage, match="sealed share"):
        members["r|1"][1].hide({2: sealed["r|2"][2][1], 3: sealed["r|1"][3][1]}, zeros)
    with pytest.raises(BadMessage, match="sealed share"):
        members["r|1"][2].hide({1: sealed["r|1"][1][3], 3: sealed["r|1"][3][2]}, zeros)


def test_a_member_that_seals_nothing_for_one_neighbour_is_left_out_and_the_sum_is_exact() -> None:
    given = vectors(6)
    server, members, shared = until_shared(given)
    odd, left_out = sorted(given)[:2]
    fewer = {node: sealed for node, sealed in shared[odd].sealed.items() if node != left_out}
    shared[odd] = Shared(sealed=fewer, seed_sha256=shared[odd].seed_sha256)
    masked = {node: members[node].hide(sealed, given[node]) for node, sealed in server.pass_on(shared).items()}
    revealed = {node: members[node].reveal(*asked) for node, asked in server.add(masked).items()}
    total = server.total({node: Revealed(seeds=seeds, privates=gone) for node, (seeds, gone) in revealed.items()})
    assert total.tolist() == plain(given, without=[odd])


def test_one_member_with_wrong_shares_does_not_spoil_the_round() -> None:
    given = vectors(6)
    server, members, shared = until_shared(given)
    masked = {node: members[node].hide(sealed, given[node]) for node, sealed in server.pass_on(shared).items()}
    revealed = {}
    for node, asked in server.add(masked).items():
        seeds, privates = members[node].reveal(*asked)
        wrong = {owner: bytes(33) for owner in seeds} if node == 7 else seeds
        revealed[node] = Revealed(seeds=wrong, privates=privates)
    assert server.total(revealed).tolist() == plain(given)


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_secret_needs_its_threshold() -> None:
    secret = bytes(range(32))
    shares = split(secret, range(1, 6), 3)
    assert join({place: shares[place] for place in (5, 1, 3)}) == secret
    assert join({place: shares[place] for place in (1, 2, 3, 4, 5)}) == secret
    with contextlib.suppress(BadMessage):
        assert join({place: shares[place] for place in (1, 2)}) != secret


def test_the_mean_is_weighted_and_as_exact_as_the_levels() -> None:
    scale = Scale(members=2, weight_max=4, reach=8.0)
    # (1 · 2 + 3 · 6) / 4 = 5, (1 · −1 + 3 · 1) / 4 = ½
    total = to_levels(np.array([2.0, -1.0]), 1, scale) + to_levels(np.array([6.0, 1.0]), 3, scale)
    # two roundings of half a level of 16 / 2³¹ each, over the weights 4 / 4
    assert from_levels(total, 2, scale) == pytest.approx([5.0, 0.5], abs=2 * 8 / 2**31)


def test_a_boast_counts_what_the_round_allows_and_a_leap_is_cut() -> None:
    scale = Scale(members=2, weight_max=4, reach=1.0)
    total = to_levels(np.array([50.0]), 10**9, scale) + to_levels(np.array([0.0]), 4, scale)
    assert from_levels(total, 2, scale) == pytest.approx([0.5], abs=1e-8)


def test_impossible_weights_are_found_out() -> None:
    scale = Scale(members=2, weight_max=4)
    with pytest.raises(BadMessage, match="weights"):
        from_levels(np.array([9, 1], np.uint32), 2, scale)


@pytest.mark.parametrize(("members", "weight_max"), [(0, 1), (70_000, 1), (10, 0), (10, 2**31)])
def test_numbers_that_could_run_over_are_refused(members: int, weight_max: int) -> None:
    with pytest.raises(BadMessage):
        Scale(members=members, weight_max=weight_max)
