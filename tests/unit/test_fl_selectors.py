"""Selection rules, each by what its paper promises."""

import math
from collections import Counter

import numpy as np
import pytest

from foa.fl.memory import Candidate, Memory, Outcome
from foa.fl.selectors import SELECTORS, Ask, covering, fair, paced, phased
from foa.fl.selectors.oort import preferred_percentile
from foa.values.ids import AgentId


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def client(number: int, **facts: object) -> Candidate:
    return Candidate(id=AgentId(f"c{number}"), **facts)  # type: ignore[arg-type]


def names(*numbers: int) -> set[str]:
    return {f"c{number}" for number in numbers}


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_every_rule_gives_distinct_known_ids_and_no_more_than_k(name: str, count: int) -> None:
    fleet = [client(i, loss=None if i % 3 else 1.0, samples=i + 1, seconds=i + 1.0, rounds=i % 3) for i in range(count)]
    chosen = SELECTORS[name](fleet, Ask(k=5), rng())
    assert 1 <= len(chosen) <= min(5, count)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= {candidate.id for candidate in fleet}


@pytest.mark.parametrize("name", SELECTORS)
def test_every_rule_repeats_itself_for_one_seed(name: str) -> None:
    fleet = [
        client(i, loss=float(i), samples=10, seconds=1.0 + i, rounds=1, last_round=1, discounted_rounds=1) for i in range(30)
    ]
    assert SELECTORS[name](fleet, Ask(k=5), rng(7)) == SELECTORS[name](fleet, Ask(k=5), rng(7))


def test_fedcs_leaves_out_who_misses_the_deadline() -> None:
    fleet = [client(0, seconds=1.0), client(1, seconds=9.0), client(2, seconds=2.0)]
    assert SELECTORS["fedcs"](fleet, Ask(k=3, deadline_seconds=5.0), rng()) == ("c0", "c2")


def test_fedcs_takes_the_quickest_if_nobody_makes_the_deadline() -> None:
    fleet = [client(0, seconds=7.0), client(1, seconds=9.0)]
    assert SELECTORS["fedcs"](fleet, Ask(k=2, deadline_seconds=5.0), rng()) == ("c0",)


def test_power_of_choice_takes_the_highest_loss_of_those_it_polled() -> None:
    fleet = [client(i, loss=float(i)) for i in range(6)]
    # d = 3 · 2 = 6: everybody is polled
    assert set(SELECTORS["power-of-choice"](fleet, Ask(k=2), rng())) == names(5, 4)


def test_oort_prefers_useful_data_and_punishes_lateness() -> None:
    fleet = [client(i, loss=1.0, samples=10, seconds=1.0, rounds=1, last_round=1) for i in range(10)]
    fleet[3] = client(3, loss=5.0, samples=10, seconds=1.0, rounds=1, last_round=1)
    fleet[4] = client(4, loss=5.0, samples=10, seconds=50.0, rounds=1, last_round=1)
    chosen = SELECTORS["oort"](fleet, Ask(k=1, round=50), rng())
    assert chosen == ("c3",)


def test_oort_per_turn_passes_over_who_had_many_turns() -> None:
    fleet = [client(0, loss=2.0, rounds=20, last_round=40), client(1, loss=1.0, rounds=0, last_round=40)]
    assert SELECTORS["oort"](fleet, Ask(k=1, round=50), rng()) == ("c0",)
    assert SELECTORS["oort-per-turn"](fleet, Ask(k=1, round=50), rng()) == ("c1",)


def test_the_pacer_relaxes_when_a_window_taught_less() -> None:
    assert preferred_percentile([1.0] * 20) == 80.0
    assert preferred_percentile([2.0] * 20 + [1.0] * 20) == 85.0
    assert preferred_percentile([1.0] * 20 + [2.0] * 20) == 80.0


def test_deev_takes_the_worst_served_and_fewer_each_round() -> None:
    fleet = [client(i, accuracy=i / 10) for i in range(10)]
    assert SELECTORS["deev"](fleet, Ask(k=3), rng()) == ("c0", "c1", "c2")
    # 8 · 0.99^100 = 2.93: three are left after a hundred rounds
    assert len(SELECTORS["deev"](fleet, Ask(k=8, round=101), rng())) == 3


def test_ocean_spares_who_spent_much_and_takes_more_later() -> None:
    fleet = [client(i, energy_debt=float(i), joules=1.0) for i in range(10)]
    early = SELECTORS["ocean"](fleet, Ask(k=5, round=1, rounds=100), rng())
    late = SELECTORS["ocean"](fleet, Ask(k=5, round=90, rounds=100), rng())
    assert set(late) == names(0, 1, 2, 3, 4)
    assert len(early) == 3  # 0.6 · 5


def test_the_bandit_tries_everybody_once_first() -> None:
    fleet = [client(i, loss=1.0, rounds=1, discounted_loss=1.0, discounted_rounds=1.0) for i in range(5)] + [client(9)]
    assert SELECTORS["bandit"](fleet, Ask(k=1), rng())[0] == "c9"


def test_uniform_choice_is_uniform() -> None:
    fleet, counts, random = [client(i) for i in range(10)], Counter[str](), rng(3)
    for _ in range(1000):
        counts.update(SELECTORS["random"](fleet, Ask(k=2), random))
    # 200 expected of each, standard deviation √(1000 · .2 · .8) = 12.6: five of them
    assert all(abs(count - 200) < 63 for count in counts.values())


def test_a_fair_rule_seats_who_is_owed_turns_every_few_rounds() -> None:
    fleet = [client(i, seconds=1.0) for i in range(9)] + [client(9, seconds=99.0, waiting=3.0)]
    chosen = fair(SELECTORS["fedcs"], every=5)(fleet, Ask(k=4, round=5), rng())
    assert chosen[0] == "c9"
    assert len(set(chosen)) == 4
    assert "c9" not in fair(SELECTORS["fedcs"], every=5)(fleet, Ask(k=4, round=6), rng())


def test_a_paced_rule_leaves_the_slow_for_rounds_of_their_own() -> None:
    fleet = [client(i, seconds=float(i), loss=float(i)) for i in range(10)]
    # the 70th percentile of 0 … 9 is 6.3: without it the highest losses would be 9, 8, 7
    assert paced(SELECTORS["power-of-choice"], every=5)(fleet, Ask(k=3, round=1), rng()) == ("c6", "c5", "c4")
    slow = paced(SELECTORS["power-of-choice"], every=5)(fleet, Ask(k=4, round=5), rng())
    assert set(slow) == names(9, 8, 7, 6)


def test_a_paced_rule_shows_everybody_where_the_quick_are_too_few() -> None:
    fleet = [client(i, seconds=float(i)) for i in range(4)]
    assert len(paced(SELECTORS["random"])(fleet, Ask(k=4), rng())) == 4


def test_a_covering_rule_keeps_a_seat_for_the_full_width() -> None:
    fleet = [client(i, seconds=1.0, width=0.25) for i in range(9)] + [client(9, seconds=99.0, width=1.0)]
    chosen = covering(SELECTORS["fedcs"])(fleet, Ask(k=4), rng())
    assert "c9" in chosen
    assert len(set(chosen)) == 4


def test_a_covering_rule_changes_nothing_where_the_wide_were_chosen() -> None:
    fleet = [client(i, seconds=1.0 + i, width=1.0) for i in range(4)]
    assert covering(SELECTORS["fedcs"])(fleet, Ask(k=2), rng()) == SELECTORS["fedcs"](fleet, Ask(k=2), rng())


def test_a_part_that_was_rarely_trained_gets_more_seats() -> None:
    narrow = [client(i, seconds=1.0, width=0.25, rounds=3) for i in range(8)]
    wide = [client(8 + i, seconds=99.0, width=1.0) for i in range(6)]
    # none of 24 turns trained the outermost part: of 8 seats 8 · (.25 + .25) = 4 are kept for those who can
    chosen = covering(SELECTORS["fedcs"])(narrow + wide, Ask(k=8), rng())
    assert len(set(chosen)) == 8
    assert len(names(*range(8, 14)) & set(chosen)) == 4


def test_a_phased_rule_leaves_the_slow_for_later() -> None:
    fleet = [client(i, seconds=float(i), loss=float(i)) for i in range(10)]
    rule = phased(SELECTORS["power-of-choice"])
    # of ten rounds the first six are early: the slowest are 9, 8, 7, which also have the highest losses
    assert rule(fleet, Ask(k=3, round=6, rounds=10), rng()) == ("c6", "c5", "c4")
    assert rule(fleet, Ask(k=3, round=7, rounds=10), rng()) == ("c9", "c8", "c7")


def test_a_phased_rule_pays_the_turns_that_are_owed_in_every_second_later_round() -> None:
    fleet = [client(i, seconds=1.0, loss=9.0) for i in range(9)] + [client(9, seconds=99.0, waiting=3.0, loss=0.1)]
    rule = phased(SELECTORS["power-of-choice"])
    assert rule(fleet, Ask(k=2, round=8, rounds=10), rng())[0] == "c9"
    assert "c9" not in rule(fleet, Ask(k=2, round=7, rounds=10), rng())


def test_a_device_that_is_slow_at_night_is_remembered_as_such() -> None:
    who = AgentId("c0")
    memory = Memory().after([Outcome(client=who, kind="trained", seconds=90.0, hour=2)], present=[who], k=1)
    memory = memory.after([Outcome(client=who, kind="trained", seconds=10.0, hour=14)], present=[who], k=1)
    assert memory.candidate(who, hour=3).seconds == 90.0
    assert memory.candidate(who, hour=13).seconds == 10.0
    # never seen in the evening: the smoothed whole, 0.7 · 90 + 0.3 · 10
    assert math.isclose(memory.candidate(who, hour=20).seconds, 66.0)


def test_memory_comes_back_from_its_bytes() -> None:
    who = AgentId("c0")
    memory = (
        Memory().know(who, samples=9).after([Outcome(client=who, kind="trained", loss=1.5, joules=2.0)], present=[who], k=1)
    )
    assert Memory.decode(memory.quarantine(who, rounds=2).encode()) == memory.quarantine(who, rounds=2)


def test_waiting_grows_by_the_share_and_falls_by_a_turn() -> None:
    a, b = AgentId("a"), AgentId("b")
    memory = Memory().after([Outcome(client=a, kind="trained")], present=[a, b], k=1)
    assert memory.devices[b].waiting == 0.5
    assert memory.devices[a].waiting == 0.0
